"""A2A, v1.0 and v0.3, over JSON-RPC and HTTP+JSON: every operation is `a2a.<its v1.0 name>` on the agent.

| what | from |
|---|---|
| resource | type `agent`, id the upstream's name |
| context.arguments | JSON-RPC: `params` as sent; HTTP+JSON: query, body and the path's ids (`id`, `taskId`) together |
| context.binding, context.version | `JSONRPC` or `HTTP+JSON`; `A2A-Version` of header or query, "0.3" without |
| context.tenant | what stands before the operation in the path, else `tenant`; passed on unchanged |

A POST to a path that is no operation of HTTP+JSON is JSON-RPC: the upstream's `url` should be the agent's own, so that
nothing but the agent can be reached. Tasks and conversations (`contextId`) belong to who made them (ruling 13): a
request that names one carries it as a handle, an answer that shows a new one binds it first; a conversation may have
been named by its caller. Bytes pass unchanged but for cards and lists of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from gateway.core import sse
from gateway.core.canonical import Json, parse_object
from gateway.core.descriptors import ORIGINAL_CARD_PATH
from gateway.core.exchange import Call, Exchange, Head, Header
from gateway.core.obligations import Duties
from gateway.core.ports import AnswerFilter, Ask, Bind, UpstreamAnswer, UsageReader, WholeFilter
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route
from gateway.protocols import a2a_errors, jsonrpc
from gateway.protocols.a2a_answers import TaskAnswer, TaskEvents, TaskList
from gateway.protocols.a2a_card_answer import EXTENDED, Card, unstored
from gateway.protocols.a2a_operations import (
    METHODS,
    ORIGINAL,
    Operation,
    Place,
    arguments,
    handles,
    may_be_rpc,
    place,
    pushes,
    tenant,
)
from gateway.protocols.arguments import set_arguments
from gateway.protocols.media import JSON, media_type, not_json, untyped
from gateway.protocols.reported_cost import reported
from gateway.protocols.rewritten import describe_anew, must_be_plain

RPC: Final = "JSONRPC"  # `Call.era` and context.binding
REST: Final = "HTTP+JSON"
TYPES = frozenset({"", JSON, "application/a2a+json"})
VERSION_LENGTH = 16  # `Major.Minor`, with room for a patch

_NOTHING: frozenset[bytes] = frozenset()
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"})
_OF_WRITTEN_ANEW = _CONDITIONAL | {b"if-range", b"range"}


class A2a:
    """The protocol `a2a`."""

    __slots__ = ()

    name = "a2a"

    def reads_body(self, head: Head, route: Route) -> bool | Refusal:
        if head.method != "POST":
            return True  # there should be none, and it is looked whether there is
        found = media_type(head)
        if isinstance(found, Refusal):
            return found
        return True if found in TYPES else not_json(found)

    def classify(self, exchange: Exchange) -> Call | Refusal:
        head = exchange.head
        rest = exchange.route.rest(head.path)
        root = rest in ("", "/")
        found = None if root or head.websocket else ORIGINAL if rest == ORIGINAL_CARD_PATH else place(rest)
        try:
            if found is not None:
                return _rest(exchange, found)
            if head.method == "POST" and (root or may_be_rpc(rest)):
                return _rpc(exchange)
        except Malformed as error:
            return Refusal(Reason.MALFORMED, str(error), rule="params", rpc_code=jsonrpc.INVALID_PARAMS)
        if root and not head.websocket:
            return _not_allowed("POST")
        return Refusal(Reason.DENIED, "A2A has no such path", rule="unknown_path", status=404)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
        if binding(exchange) == RPC:
            return a2a_errors.rpc(exchange, refusal)
        return a2a_errors.http(exchange, refusal)

    def last_words(self, exchange: Exchange, refusal: Refusal) -> bytes:
        """JSON-RPC: the response that is an error; HTTP+JSON: an `error` event with the body of a refusal."""
        _, _, body = self.refuse(exchange, refusal)
        return sse.encode(body, name="" if binding(exchange) == RPC else "error")

    def rewrite(self, exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
        return set_arguments(exchange, duties, ("params",) if exchange.call.era == RPC else ())

    def answers_in(self, exchange: Exchange) -> Sequence[tuple[str, ...]] | Refusal:
        if pushes(exchange.call):
            text = "An answer that is redacted is not sent to a webhook: it would not pass through here"
            return Refusal(Reason.DENIED, text, rule="obligation")
        return jsonrpc.PAYLOADS if exchange.call.era == RPC else ((),)

    async def filter(
        self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind
    ) -> AnswerFilter | WholeFilter | None:
        """Raises Malformed for an answer in a content coding."""
        call = exchange.call
        if not 200 <= answer.status < 300:
            return None  # an error mints nothing and lists nothing
        must_be_plain(answer.headers)
        enveloped = call.era == RPC
        if call.listing == "skills":
            describe_anew(answer.headers)
            if exchange.head.method == "HEAD":
                if call.action == EXTENDED:
                    unstored(answer)
                answer.headers[:] = [item for item in answer.headers if item[0] != b"content-length"]
                return None
            return Card(exchange, answer, ask, enveloped=enveloped)
        if call.listing == "tasks":
            describe_anew(answer.headers)
            return TaskList(exchange, bind, enveloped=enveloped)
        if not call.judged:
            return None
        streamed = any(name == b"content-type" and b"text/event-stream" in value for name, value in answer.headers)
        kind = TaskEvents if streamed else TaskAnswer
        return kind(exchange, bind, enveloped=enveloped)

    def usage(self, exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
        return reported(exchange, answer)


def binding(exchange: Exchange) -> str:
    """By which binding the caller speaks, also where its request was not understood."""
    head = exchange.head
    if isinstance(exchange.asked, Call):
        return exchange.asked.era
    return RPC if head.method == "POST" and place(exchange.route.rest(head.path)) is None else REST


def _rpc(exchange: Exchange) -> Call | Refusal:
    body = exchange.body or b""
    if (refusal := untyped(exchange.head, body)) is not None:
        return refusal
    found = jsonrpc.read(body)
    if isinstance(found, Refusal):
        return found
    if found.kind is not jsonrpc.Kind.REQUEST:
        text = "an A2A message is a request with an id"
        return Refusal(Reason.MALFORMED, text, rule="envelope", rpc_code=jsonrpc.INVALID_REQUEST)
    operation = METHODS.get(found.method)
    if operation is None:
        text = "A2A has no such method"
        return Refusal(Reason.DENIED, text, rule="unknown_method", rpc_code=jsonrpc.METHOD_NOT_FOUND)
    return _call(exchange, operation, RPC, found.params, "", found.id)


def _rest(exchange: Exchange, found: Place) -> Call | Refusal:
    head, body = exchange.head, exchange.body
    operation = found.methods.get(head.method)
    if operation is None:
        return _not_allowed(", ".join(found.methods))
    sent: dict[str, Json] = {}
    if body:
        if head.method != "POST":
            return Refusal(Reason.MALFORMED, f"{head.method} has no body in A2A", rule="body")
        if (refusal := untyped(head, body)) is not None:
            return refusal
        try:
            sent = parse_object(body)
        except Malformed as error:
            return Refusal(Reason.MALFORMED, str(error), rule="json", rpc_code=jsonrpc.PARSE_ERROR)
    return _call(exchange, operation, REST, arguments(found, head.query, sent), found.prefix, None)


def _call(
    exchange: Exchange, operation: Operation, era: str, params: dict[str, Json], prefix: str, ident: Json
) -> Call:
    context: dict[str, Json] = {"binding": era, "version": _version(exchange.head)}
    if belongs := tenant(prefix, params):
        context["tenant"] = belongs
    if operation.original:
        context["original"] = True
    anew = operation.card or operation.tasks
    return Call(
        "a2a." + operation.name,
        "agent",
        exchange.route.upstream,
        arguments=params,
        has_arguments=True,
        context=context,
        message_id=ident,
        era=era,
        listing="skills" if operation.card else "tasks" if operation.tasks else "",
        judged=anew or operation.message,
        metered=operation.message,
        idempotent=operation.reads,
        stream=operation.stream,
        handles=handles(operation, params),
        drop_headers=_OF_WRITTEN_ANEW if anew else _NOTHING,
    )


def _version(head: Head) -> str:
    """`A2A-Version` as the request has it; the agent judges whether it serves it."""
    declared = (head.first(b"a2a-version") or b"").decode("latin-1").strip()
    if not declared and "ersion" in head.query:
        for name, value in parse_qsl(head.query):
            if name.casefold() == "a2a-version":
                declared = value.strip()
    if len(declared) > VERSION_LENGTH:
        raise Malformed("A2A-Version is no version")
    return declared or "0.3"


def _not_allowed(methods: str) -> Refusal:
    text = f"this path is for {methods}"
    return Refusal(Reason.METHOD_NOT_ALLOWED, text, rule="method", headers=((b"allow", methods.encode()),))
