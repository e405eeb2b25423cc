"""JSON-RPC 2.0 envelopes for MCP and A2A: one strict reading, one way to write an error.

The rule it keeps: an envelope that two readers could understand differently is refused. So a batch, an unknown member
(some readers match names without regard to case, so `Method` would be a second `method`), two members of `params` that
differ in case only, a null, boolean or fractional id and positional params are all "not a request".
It must never forward, log or quote what it refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.core.canonical import Json, parse
from gateway.core.exchange import Call, Exchange, Header
from gateway.core.reasons import Malformed, Reason, Refusal

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602

CONTENT_TYPE: Header = (b"content-type", b"application/json")

# What an answer's messages are about: a result, an error's data, or the params of what the sender says by itself.
PAYLOADS: Final = (("result",), ("error", "data"), ("params",))

_RESULT_MEMBERS = frozenset({"jsonrpc", "id", "result"})
_ERROR_MEMBERS = frozenset({"jsonrpc", "id", "error"})
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"  # what lenient readers pass over before a document
_APART: Final = frozenset({"_meta", "arguments", "cursor", "name", "uri", "message", "metadata", "id", "configuration"})
_NOTHING: Final[dict[str, Json]] = {}  # never written to: what `params` is where it is absent


class Kind(StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


_REQUEST: Final = Kind.REQUEST
_NOTIFICATION: Final = Kind.NOTIFICATION


class Message:
    """One message. `params` is empty where it is absent. `answer` is the result or the error object of a response;
    `failed` says which. An error response without an id has the id None."""

    __slots__ = ("answer", "failed", "id", "kind", "method", "params")

    def __init__(
        self, kind: Kind, id: Json, method: str, params: dict[str, Json], answer: Json = None, failed: bool = False
    ) -> None:
        self.kind: Final = kind
        self.id: Final = id
        self.method: Final = method
        self.params: Final = params
        self.answer: Final = answer
        self.failed: Final = failed


def read(body: bytes) -> Message | Refusal:
    """The message in a request's body. Never raises for input; a refusal is `malformed` with its JSON-RPC code."""
    try:
        value = parse(body)
    except Malformed as error:
        if body.lstrip(_BLANK).startswith(b"["):
            return Refusal(Reason.MALFORMED, "batches are not accepted", rule="envelope", rpc_code=INVALID_REQUEST)
        return Refusal(Reason.MALFORMED, str(error), rule="json", rpc_code=PARSE_ERROR)
    try:
        return message(value)
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="envelope", rpc_code=INVALID_REQUEST)


def message(value: Json) -> Message:
    """The message that a strictly parsed value is. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed("batches are not accepted" if isinstance(value, list) else "a JSON-RPC message is an object")
    if value.get("jsonrpc") != "2.0":
        raise Malformed('jsonrpc must be "2.0"')
    if "method" not in value:
        return _response(value)
    asks = "id" in value
    if len(value) != 2 + asks + ("params" in value):
        raise Malformed("a JSON-RPC request has no members but jsonrpc, id, method, params")
    method = value["method"]
    if type(method) is not str or not method:
        raise Malformed("method must be a string")
    params = value.get("params", _NOTHING)
    if type(params) is not dict:
        raise Malformed("params must be an object")
    _check_names(params)
    if not asks:
        return Message(_NOTIFICATION, None, method, params)
    ident = value["id"]
    if type(ident) is not int and type(ident) is not str:
        raise Malformed("id must be a string or an integer")
    return Message(_REQUEST, ident, method, params)


def _check_names(params: dict[str, Json]) -> None:
    """Raises Malformed where two names differ in case only. Those of `_APART` never do."""
    for name in params:
        if name not in _APART:
            if len(set(map(str.casefold, params))) != len(params):
                raise Malformed("two members of params differ in case only")
            return


def _response(value: dict[str, Json]) -> Message:
    ident = value.get("id")
    if value.keys() == _RESULT_MEMBERS and (type(ident) is int or type(ident) is str):
        return Message(Kind.RESPONSE, ident, "", _NOTHING, value["result"])
    if value.keys() <= _ERROR_MEMBERS and (ident is None or type(ident) is int or type(ident) is str):
        error = value.get("error")
        if isinstance(error, dict) and type(error.get("code")) is int and type(error.get("message")) is str:
            return Message(Kind.RESPONSE, ident, "", _NOTHING, error, True)
    raise Malformed("neither a request, nor a notification, nor a response")


def error_body(ident: Json, code: int, text: str, data: Mapping[str, object] | None = None) -> bytes:
    """One error response. ASCII only, so that it is also one line of an event stream."""
    error: dict[str, object] = {"code": code, "message": text}
    if data:
        error["data"] = dict(data)
    return json.dumps({"jsonrpc": "2.0", "id": ident, "error": error}, separators=(",", ":")).encode()


def refusal_data(exchange: Exchange, refusal: Refusal) -> dict[str, object]:
    """`error.data` of every refusal: the same facts as a problem document has. Never the rule."""
    data: dict[str, object] = {"reason": str(refusal.reason), "exchange_id": exchange.id}
    if refusal.retry_after is not None:
        data["retry_after"] = refusal.retry_after
    data.update(refusal.data)
    return data


def refusal_body(exchange: Exchange, refusal: Refusal) -> bytes:
    """The error response that says this refusal, to the id that was asked where one is known."""
    return error_body(message_id(exchange), refusal.code, refusal.text, refusal_data(exchange, refusal))


def refusal_headers(refusal: Refusal) -> list[Header]:
    """Content type, Retry-After, and what the refusal itself brings."""
    headers = [CONTENT_TYPE, *refusal.headers]
    if refusal.retry_after is not None and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    return headers


def message_id(exchange: Exchange) -> Json:
    """The id to answer: of the classified call, else read again from a body whose envelope was good but whose meaning
    was refused (a second parse, on the way out only), else null."""
    asked = exchange.asked
    if isinstance(asked, Call):
        return asked.message_id
    if exchange.body is None or (isinstance(asked, Refusal) and asked.code in (PARSE_ERROR, INVALID_REQUEST)):
        return None
    found = read(exchange.body)
    return found.id if isinstance(found, Message) and found.kind is Kind.REQUEST else None


def payload(document: Json, enveloped: bool) -> Json:
    """The result of a response; None where it is an error of JSON-RPC."""
    if not enveloped:
        return document
    if not isinstance(document, dict):
        raise Malformed("a JSON-RPC response is an object")
    return document.get("result")
