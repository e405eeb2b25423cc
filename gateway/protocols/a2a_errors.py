"""How the gateway says no to an A2A caller, in the caller's own binding.

JSON-RPC: `error.data` is an array of typed details, as A2A wants it; HTTP+JSON: a `google.rpc` status. Both carry the
facts of every refusal (`reason`, `exchange_id`, `retry_after`) in the metadata of a `google.rpc.ErrorInfo`.
The rule it keeps: A2A's own codes and reasons are said only where they are meant. A policy's no is never
TaskNotFound (-32001); that is a task which is unknown here, or a foreign one on a route that hides what it denies.
"""

from __future__ import annotations

from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route
from gateway.protocols import jsonrpc
from gateway.protocols.problem import dump, refusal_headers

TASK_NOT_FOUND = -32001

_A2A = "a2a-protocol.org"
_OURS = "tollgate"
_TYPE = "type.googleapis.com/google.rpc."
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}


def rpc(exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
    """A refusal of the JSON-RPC binding."""
    shown = _shown(exchange.route, refusal)
    code = TASK_NOT_FOUND if shown.reason is Reason.SESSION_UNKNOWN else shown.code
    error = {"code": code, "message": shown.text, "data": _details(exchange, shown)}
    body = {"jsonrpc": "2.0", "id": jsonrpc.message_id(exchange), "error": error}
    return shown.rpc_status, refusal_headers(shown, b"application/json"), dump(body)


def http(exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
    """A refusal of the HTTP+JSON binding, and of the well-known card."""
    shown = _shown(exchange.route, refusal)
    status = shown.http_status
    name = _STATUS.get(status) or ("UNAVAILABLE" if status > 500 else "FAILED_PRECONDITION")
    error = {"code": status, "status": name, "message": shown.text, "details": _details(exchange, shown)}
    return status, refusal_headers(shown, b"application/json"), dump({"error": error})


def _shown(route: Route, refusal: Refusal) -> Refusal:
    """What the caller sees: on a route that hides, another's task looks exactly like none (A2A 3.3.2)."""
    if refusal.reason is Reason.SESSION_UNKNOWN or (
        refusal.reason is Reason.SESSION_FOREIGN and route.deny_as == "hidden"
    ):
        return Refusal(Reason.SESSION_UNKNOWN, "This task is not known here")
    return refusal


def _details(exchange: Exchange, refusal: Refusal) -> list[dict[str, object]]:
    domain, reason = _named(refusal)
    metadata = {name: value if isinstance(value, str) else str(value) for name, value in _facts(exchange, refusal)}
    details: list[dict[str, object]] = [
        {"@type": _TYPE + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}
    ]
    if refusal.retry_after is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{refusal.retry_after}s"})
    return details


def _facts(exchange: Exchange, refusal: Refusal) -> list[tuple[str, object]]:
    return list(jsonrpc.refusal_data(exchange, refusal).items())


def _named(refusal: Refusal) -> tuple[str, str]:
    """Domain and reason of the ErrorInfo."""
    if refusal.reason is Reason.SESSION_UNKNOWN:
        return _A2A, "TASK_NOT_FOUND"
    if refusal.rpc_code == jsonrpc.METHOD_NOT_FOUND:
        return _A2A, "METHOD_NOT_FOUND"
    if refusal.rpc_code == jsonrpc.INVALID_PARAMS:
        return _A2A, "INVALID_PARAMS"
    if refusal.reason is Reason.MALFORMED:
        return _A2A, "INVALID_REQUEST"
    if refusal.reason is Reason.UNSUPPORTED_MEDIA:
        return _A2A, "CONTENT_TYPE_NOT_SUPPORTED"
    return _OURS, str(refusal.reason).upper()
