"""Model endpoints in the shapes of OpenAI and Anthropic: the model is the resource, the rest of the body the arguments.

| path below the route, with or without /v1 | action | context.api |
|---|---|---|
| POST /chat/completions, /responses, /messages | llm.chat | chat.completions, responses, messages |
| POST /embeddings | llm.embeddings | embeddings |
| POST /responses/input_tokens, /messages/count_tokens | llm.count_tokens | the path's last word |
| GET /models (its answer filtered model by model), GET /models/{id} | llm.models | models |

All else (stored responses, files, batches, WebSockets) is governed as `http.*` and `ws.*`: default deny covers it. What
is kept for later calls belongs to its caller (llm_handles.py).
The rule it keeps: no second reader finds another model or limit in the body than policy did. What it
changes in a body is what policy sets there (llm_bounds.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.core.canonical import Json, parse_object
from gateway.core.exchange import Call, Exchange, Head, Header
from gateway.core.obligations import Duties
from gateway.core.ports import AnswerFilter, Ask, Bind, UpstreamAnswer, UsageReader, WholeFilter
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route
from gateway.protocols import http, llm_bounds, messages
from gateway.protocols.jsonrpc import refusal_data
from gateway.protocols.llm_handles import CONVERSATION, RESPONSE, KeptAnswer, KeptEvents, in_path, named
from gateway.protocols.llm_include import Swallowed, included, including, wanted
from gateway.protocols.llm_models import ModelList
from gateway.protocols.llm_usage import estimate, reader
from gateway.protocols.llm_words import last_words
from gateway.protocols.media import JSON, is_json, media_type, not_json, untyped
from gateway.protocols.problem import dump, refusal_headers
from gateway.protocols.rewritten import describe_anew, must_be_plain

# Free text and `seed`: there policy gets a safe copy of what it cannot hold, and the original goes on (ruling 10).
TOLERATED = frozenset({"messages", "input", "system", "seed"})

# A caller's library tries these again by itself, after Retry-After; every other no is final (ruling 35).
_PASSING = frozenset(
    {Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.POLICY_UNAVAILABLE, Reason.AUDIT_UNAVAILABLE}
    | {
        Reason.IDENTITY_UNAVAILABLE,
        Reason.BREAKER_OPEN,
        Reason.CLIENT_TIMEOUT,
        Reason.UPSTREAM_FAILED,
        Reason.UPSTREAM_TIMEOUT,
        Reason.FAULT,
    }
)
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})


@dataclass(frozen=True, slots=True)
class Operation:
    """What a POST to one path means."""

    action: str
    api: str
    metered: bool = True
    kept: bool = False  # its answer is kept for later calls, which name it


@dataclass(frozen=True, slots=True)
class Vendor:
    """`operations` are the paths whose body names a model; `error` is the body of a refusal as the vendor would say it,
    from status, text and the facts of the public contract; `keeps`: it has responses and conversations."""

    name: str
    operations: Mapping[str, Operation]
    error: Callable[[int, str, Mapping[str, object]], Mapping[str, object]]
    keeps: bool = False


class Llm:
    """One vendor's protocol: `Llm(OPENAI)`, `Llm(ANTHROPIC)`."""

    __slots__ = ("_vendor", "name")

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self.name = vendor.name

    def reads_body(self, head: Head, route: Route) -> bool | Refusal:
        """A body for a model must be JSON. Beside the models' paths other types pass opaque, and policy is told so."""
        found = media_type(head)
        if self._operation(head, route) is None:
            return not isinstance(found, Refusal) and (not found or is_json(found))
        if isinstance(found, Refusal):
            return found
        return True if found in ("", JSON) else not_json(found)

    def classify(self, exchange: Exchange) -> Call | Refusal:
        head, route = exchange.head, exchange.route
        if head.websocket:
            return http.opening(exchange)
        operation = self._operation(head, route)
        if operation is not None:
            return _generation(exchange, operation)
        path = below(head, route)
        if head.method == "GET" and (path == "/models" or path.startswith("/models/")):
            return _models(exchange, path)
        found = http.endpoint(exchange)
        return _kept(found, head.method, path) if self._vendor.keeps and isinstance(found, Call) else found

    def refuse(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
        status = refusal.http_status
        headers = refusal_headers(refusal, b"application/json")
        if refusal.reason not in _PASSING:
            headers.append((b"x-should-retry", b"false"))
        return status, headers, dump(self._vendor.error(status, refusal.text, refusal_data(exchange, refusal)))

    def last_words(self, exchange: Exchange, refusal: Refusal) -> bytes:
        error = self._vendor.error(refusal.http_status, refusal.text, refusal_data(exchange, refusal))
        return last_words(exchange.call.context.get("api"), error)

    def rewrite(self, exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
        return llm_bounds.rewrite(exchange, duties)

    def answers_in(self, exchange: Exchange) -> Sequence[tuple[str, ...]]:
        return ((),)

    async def filter(
        self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind
    ) -> AnswerFilter | WholeFilter | None:
        """Raises Malformed for a list, or an answer that mints a handle, in a content coding."""
        call = exchange.call
        if not call.judged or not 200 <= answer.status < 300:
            return None
        streamed = any(name == b"content-type" and b"text/event-stream" in value for name, value in answer.headers)
        if included(call, exchange.route):
            if not streamed:
                return None
            must_be_plain(answer.headers)
            answer.headers[:] = [item for item in answer.headers if item[0] != b"content-length"]
            return Swallowed(exchange)
        must_be_plain(answer.headers)
        if call.listing == "models":
            describe_anew(answer.headers)
            return ModelList(exchange, ask)
        if streamed:
            return KeptEvents(exchange, bind)
        return KeptAnswer(exchange, bind, RESPONSE if call.resource_type == "model" else CONVERSATION)

    def usage(self, exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
        if not exchange.call.metered or not 200 <= answer.status < 300:
            return None
        kind, coding = b"", ""
        for name, value in answer.headers:
            if name == b"content-type":
                kind = value
            elif name == b"content-encoding":
                coding = value.decode("latin-1").strip().lower()
        api = exchange.call.context.get("api")
        worst, body = exchange.worst, exchange.body
        asked = worst.input if worst is not None else estimate(len(body) if body is not None else 0)
        unseen = worst.output if worst is not None and worst.hidden else 0
        return reader(kind, coding, asked, api if isinstance(api, str) else "", unseen)

    def classify_message(self, exchange: Exchange, message: str | bytes) -> Call | Refusal | None:
        return messages.classify(exchange, message, http.canonical_path(exchange.head.path))

    def refuse_message(self, exchange: Exchange, refusal: Refusal) -> str | None:
        return messages.refuse(exchange, refusal)

    def close_code(self, refusal: Refusal) -> int:
        return messages.close_code(refusal)

    def _operation(self, head: Head, route: Route) -> Operation | None:
        return self._vendor.operations.get(below(head, route)) if head.method == "POST" else None


def below(head: Head, route: Route) -> str:
    """The path below the route in its one spelling, without the version that may stand in the route or the upstream."""
    path = http.canonical_path(route.rest(head.path))
    return path[3:] if path.startswith("/v1/") else path


def _generation(exchange: Exchange, operation: Operation) -> Call | Refusal:
    body = exchange.body
    if not body:
        return Refusal(Reason.MALFORMED, "a JSON body is expected", rule="json")
    if (refusal := untyped(exchange.head, body)) is not None:
        return refusal
    try:
        arguments = parse_object(body, tolerate=TOLERATED)
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="json")
    if len({name.casefold() for name in arguments}) != len(arguments):  # some servers match names in any case
        return Refusal(Reason.MALFORMED, "two members differ in case only", rule="json")
    model = arguments.pop("model", None)
    if not isinstance(model, str) or not model:
        return Refusal(Reason.MALFORMED, "model is missing or not a string", rule="model")
    try:
        handles = named(arguments) if operation.kept else ()
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="handle")
    asks = wanted(exchange.route, operation.api, arguments)
    return Call(
        operation.action,
        "model",
        model,
        arguments=arguments,
        has_arguments=True,
        context={"api": operation.api},
        metered=operation.metered,
        stream=arguments.get("stream") is True,
        judged=asks or (operation.kept and operation.metered and arguments.get("store") is not False),
        handles=handles,
        body=including(body) if asks else None,
    )


def _kept(call: Call, method: str, path: str) -> Call | Refusal:
    """What is kept for later calls, asked for by itself."""
    try:
        handles, ends = in_path(method, path)
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="handle")
    mints = method == "POST" and path == "/conversations"
    return call.but(handles=handles, ends=ends, judged=mints) if handles or mints else call


def _models(exchange: Exchange, path: str) -> Call | Refusal:
    if exchange.body or exchange.body_stream is not None:
        return Refusal(Reason.MALFORMED, "this request has no body", rule="body")
    context: dict[str, Json] = {"api": "models"}
    model = unquote(path[len("/models/") :])
    if model:
        return Call("llm.models", "model", model, context=context, idempotent=True)
    return Call(
        "llm.models",
        "endpoint",
        exchange.route.upstream,
        context=context,
        listing="models",
        judged=True,
        idempotent=True,
        drop_headers=_CONDITIONAL,  # the upstream's validators are not those of a filtered list
    )


def _openai_error(status: int, text: str, facts: Mapping[str, object]) -> Mapping[str, object]:
    kind = _OPENAI_TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": facts["reason"], **facts}}


def _anthropic_error(status: int, text: str, facts: Mapping[str, object]) -> Mapping[str, object]:
    kind = _ANTHROPIC_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    details = {"error_code": facts["reason"], **facts}
    return {
        "type": "error",
        "error": {"type": kind, "message": text, "details": details},
        "request_id": facts["exchange_id"],
    }


_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

OPENAI = Vendor(
    "openai",
    {
        "/chat/completions": Operation("llm.chat", "chat.completions"),
        "/responses": Operation("llm.chat", "responses", kept=True),
        "/responses/input_tokens": Operation("llm.count_tokens", "input_tokens", metered=False, kept=True),
        "/embeddings": Operation("llm.embeddings", "embeddings"),
    },
    _openai_error,
    keeps=True,
)
ANTHROPIC = Vendor(
    "anthropic",
    {
        "/messages": Operation("llm.chat", "messages"),
        "/messages/count_tokens": Operation("llm.count_tokens", "count_tokens", metered=False),
    },
    _anthropic_error,
)
