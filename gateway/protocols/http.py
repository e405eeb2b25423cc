"""Plain HTTP: any method is `http.<METHOD>`, the resource is the canonical path, bodies pass unseen unless a route says
`body: json`.

The rule it keeps: what policy sees is what the upstream gets. A body that a route wants judged is strict JSON or it is
refused; an opaque one is named as such (`context.body.opaque`), never guessed at. TRACE is refused, since it would show
the caller the credentials that are put on the way to the upstream.
Other protocols hand over to it what lies beside their own paths (`endpoint`) and the opening of WebSockets (`opening`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.canonical import Json, parse
from gateway.core.exchange import Call, Exchange, Head, Header
from gateway.core.obligations import Duties
from gateway.core.ports import AnswerFilter, Ask, Bind, UpstreamAnswer, UsageReader, WholeFilter
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route
from gateway.protocols import messages
from gateway.protocols.arguments import set_arguments
from gateway.protocols.media import is_json, media_type, not_json, untyped
from gateway.protocols.problem import problem

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110, 9.2.2, without TRACE
ALLOWED = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

_EXTENSIONS = frozenset({b"sec-websocket-extensions"})  # judged messages travel uncompressed (ruling 14)
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Http:
    """The protocol `http`: also what a route without an upstream answers with."""

    __slots__ = ()

    name = "http"

    def reads_body(self, head: Head, route: Route) -> bool | Refusal:
        if route.body != "json":
            return False
        found = media_type(head)
        if isinstance(found, Refusal):
            return found
        return True if not found or is_json(found) else not_json(found)

    def classify(self, exchange: Exchange) -> Call | Refusal:
        return opening(exchange) if exchange.head.websocket else endpoint(exchange)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
        return problem(exchange, refusal)

    def last_words(self, exchange: Exchange, refusal: Refusal) -> bytes:
        return b""  # nobody knows what its events mean: only a cut says that they are not whole

    def rewrite(self, exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
        return set_arguments(exchange, duties)

    def answers_in(self, exchange: Exchange) -> Sequence[tuple[str, ...]]:
        return ((),)

    async def filter(
        self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind
    ) -> AnswerFilter | WholeFilter | None:
        return None

    def usage(self, exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
        return None

    def classify_open(self, exchange: Exchange) -> Call | Refusal:
        return opening(exchange)

    def classify_message(self, exchange: Exchange, message: str | bytes) -> Call | Refusal | None:
        return messages.classify(exchange, message, canonical_path(exchange.head.path))

    def refuse_message(self, exchange: Exchange, refusal: Refusal) -> str | None:
        return messages.refuse(exchange, refusal)

    def close_code(self, refusal: Refusal) -> int:
        return messages.close_code(refusal)


def endpoint(exchange: Exchange) -> Call | Refusal:
    """One request as `http.<METHOD>`. A body that was read is judged as JSON; one that was not is opaque."""
    head, body = exchange.head, exchange.body
    if head.method in ("TRACE", "CONNECT"):
        text = f"{head.method} is not forwarded"
        return Refusal(Reason.METHOD_NOT_ALLOWED, text, rule="method", headers=((b"allow", ALLOWED),))
    arguments: Json = None
    context: dict[str, Json] = {}
    if body:
        if (refusal := untyped(head, body)) is not None:
            return refusal
        try:
            arguments = parse(body)
        except Malformed as error:
            return Refusal(Reason.MALFORMED, str(error), rule="json")
    elif exchange.body_stream is not None:
        context["body"] = opaque(exchange)
    accept = head.first(b"accept")
    return Call(
        "http." + head.method,
        "endpoint",
        canonical_path(head.path),
        arguments=arguments,
        has_arguments=bool(body),
        context=context,
        idempotent=head.method in IDEMPOTENT,
        stream=accept is not None and b"text/event-stream" in accept,
    )


def opaque(exchange: Exchange) -> dict[str, Json]:
    """`context.body` of a body that policy does not see: its type and length as they were declared, where they were."""
    found: dict[str, Json] = {"opaque": True}
    declared = exchange.head.first(b"content-type")
    if declared is not None:
        found["type"] = declared.decode("latin-1")
    if exchange.body_bytes is not None:
        found["bytes"] = exchange.body_bytes
    return found


def opening(exchange: Exchange) -> Call:
    """The upgrade to a WebSocket. Its messages are judged one by one, so it is opened without compression."""
    protocols: list[Json] = []
    for value in exchange.head.values(b"sec-websocket-protocol"):
        protocols += [item.strip() for item in value.decode("latin-1").split(",")]
    context: dict[str, Json] = {"websocket": {"protocols": protocols}} if protocols else {}
    path = canonical_path(exchange.head.path)
    return Call("ws.open", "endpoint", path, context=context, stream=True, drop_headers=_EXTENSIONS)


def canonical_path(path: str) -> str:
    """The one spelling of a path that policy sees (RFC 3986, 6.2.2): letters, digits and `-._~` never escaped, other
    escapes in upper case. What is forwarded is the path as it came."""
    return _ESCAPE.sub(_normal, path) if "%" in path else path


def _normal(found: re.Match[str]) -> str:
    character = chr(int(found.group()[1:], 16))
    return character if character in _UNRESERVED else found.group().upper()
