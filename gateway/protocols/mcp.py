"""MCP over streamable HTTP, both eras: what is asked, and how a refusal looks.

Legacy (2024-11-05 to 2025-11-25): sessions, GET streams, DELETE, server requests answered by POST. Modern (2026-07-28):
every POST says for itself, in `_meta` and in mirrored headers, what it is. A request is checked in this order:
1. The envelope (a batch is none). 2. The era. 3. Modern: `_meta`, then the mirrored headers, then the version.
4. The method: an unknown one is never forwarded. 5. `params`: the object, the arguments, the handles.
A refusal of the transport is a 4xx that always has a JSON-RPC body, because a client that finds none falls back to the
older era; a refusal of a message is HTTP 200, because some clients end their session otherwise.
It must never let a header decide what the body says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from gateway.core import sse
from gateway.core.canonical import Json
from gateway.core.descriptors import Listings
from gateway.core.exchange import Call, Exchange, Handle, Head, Header
from gateway.core.merging import replaced
from gateway.core.obligations import Duties
from gateway.core.ports import AnswerFilter, Ask, Bind, UpstreamAnswer, UsageReader, WholeFilter
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route
from gateway.protocols import jsonrpc, mcp_answers, mcp_headers
from gateway.protocols.arguments import refused, set_arguments
from gateway.protocols.jsonrpc import Kind, Message
from gateway.protocols.mcp_headers import HEADER_MISMATCH, Heading
from gateway.protocols.mcp_judge import SESSION, TASK
from gateway.protocols.mcp_methods import (
    CAPABILITIES_META,
    LEGACY,
    LEGACY_VERSIONS,
    MODERN,
    MODERN_VERSIONS,
    NOTIFICATIONS,
    REQUESTS,
    VERSION_META,
    Method,
    check_names,
    resource,
    tasks,
)
from gateway.protocols.mcp_pending import Pending
from gateway.protocols.media import JSON, media_type, not_json
from gateway.protocols.reported_cost import reported

UNSUPPORTED_VERSION = -32022
RESOURCE_NOT_FOUND = -32002  # legacy only; the modern era says invalid params

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_DROPPED: Final = frozenset({b"mcp-session-id", b"last-event-id"})  # the modern era has neither
_DROPPED_NAME: Final = _DROPPED | {mcp_headers.NAME}
_NOTHING: Final[frozenset[bytes]] = frozenset()
_REQUEST: Final = Kind.REQUEST
_RESPONSE: Final = Kind.RESPONSE


class Mcp:
    """The protocol `mcp`. Keeps nothing between requests but which server requests wait for an answer."""

    __slots__ = ("_listings", "_pending")

    name = "mcp"

    def __init__(self, listings: Listings | None = None) -> None:
        """`listings` is told of lists on their way back; without it nothing is pinned."""
        self._listings = listings
        self._pending = Pending()

    def reads_body(self, head: Head, route: Route) -> bool | Refusal:
        if head.method != "POST":
            return False if head.method in ("GET", "DELETE") else _not_allowed(b"GET, POST, DELETE")
        found = media_type(head)
        if isinstance(found, Refusal):
            return found
        return True if found == JSON else not_json(found)

    def classify(self, exchange: Exchange) -> Call | Refusal:
        head = exchange.head
        try:
            heading = mcp_headers.heading(head)
        except Malformed as error:
            return Refusal(Reason.MALFORMED, str(error), rule="header", rpc_code=HEADER_MISMATCH)
        if head.method != "POST":
            return _stream(exchange, heading)
        message = jsonrpc.read(exchange.body or b"")
        if isinstance(message, Refusal):
            return message
        version = _version(message, heading.version)
        if isinstance(version, Refusal):
            return version
        try:
            if version in MODERN_VERSIONS:
                return self._modern(exchange, message, heading.headers, version)
            return self._legacy(exchange, message, heading)
        except Malformed as error:
            return Refusal(Reason.MALFORMED, str(error), rule="params", rpc_code=jsonrpc.INVALID_PARAMS)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
        headers = jsonrpc.refusal_headers(refusal)
        asked = exchange.asked
        if exchange.head.method != "POST":  # no message waits for this answer: HTTP's own status tells
            return refusal.http_status, headers, jsonrpc.refusal_body(exchange, refusal)
        status = refusal.rpc_status
        if status == 202 or (status == 200 and isinstance(asked, Call) and not asked.reply):
            return 202, headers[1:], b""  # a notification or response has no answer, denied or not
        if isinstance(asked, Call):
            if refusal.reason is Reason.DENIED and exchange.route.deny_as != "error":
                return _disguised(exchange, asked, refusal, headers)
            if refusal.reason is Reason.SESSION_UNKNOWN and refusal.rule == TASK:
                return self._no_task(exchange, asked, headers)
        return status, headers, jsonrpc.refusal_body(exchange, refusal)

    def last_words(self, exchange: Exchange, refusal: Refusal) -> bytes:
        """The response to the open request; a session's own stream (GET) has none, and is opened again."""
        if exchange.head.method != "POST" or not exchange.call.reply:
            return b""
        return sse.encode(jsonrpc.refusal_body(exchange, refusal), name="message")

    def rewrite(self, exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
        """Also refused where a `Mcp-Param-*` header of the caller's repeats an argument that is set to something else:
        which one it repeats only the tool's schema says, so that it cannot be written anew here."""
        call = exchange.call
        named = call.action in ("mcp.tools/call", "mcp.prompts/get")
        at = ("params", "arguments") if named else ("params",)
        body = set_arguments(exchange, duties, at, kept="" if named else "_meta")
        if isinstance(body, bytes) and call.era == MODERN and duties.arguments is not None:
            gone = replaced(call.arguments, duties.arguments)
            if stale := mcp_headers.repeats(mcp_headers.heading(exchange.head).headers, gone):
                return refused(f"the header {stale} repeats an argument that is set to something else")
        return body

    def answers_in(self, exchange: Exchange) -> Sequence[tuple[str, ...]]:
        return jsonrpc.PAYLOADS

    async def filter(
        self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind
    ) -> AnswerFilter | WholeFilter | None:
        return await mcp_answers.reader(exchange, answer, ask, bind, self._pending, self._listings)

    def usage(self, exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
        return reported(exchange, answer)

    def _no_task(self, exchange: Exchange, asked: Call, headers: list[Header]) -> tuple[int, list[Header], bytes]:
        """What the upstream would say of a task it does not have. Never a 404 for a session's task: to an older client
        that means its whole session is gone."""
        about_it = asked.era == MODERN and asked.action.startswith("mcp.tasks/")
        if about_it and self._pending.taskless(exchange.upstream.name):
            return 404, headers, jsonrpc.error_body(asked.message_id, jsonrpc.METHOD_NOT_FOUND, "Method not found")
        return 200, headers, jsonrpc.error_body(asked.message_id, jsonrpc.INVALID_PARAMS, "Task not found")

    def _legacy(self, exchange: Exchange, message: Message, heading: Heading) -> Call | Refusal:
        session = heading.session
        if message.kind is _RESPONSE:
            return self._answered(exchange, message, session)
        method = _known(LEGACY, message)
        if method is None:
            return _unknown(message, LEGACY)
        if heading.mirrors and (refusal := _mismatch(heading.headers, message, method, False)) is not None:
            return refusal
        if not session:
            return _call(exchange, message, method, LEGACY, (), {})
        return _call(exchange, message, method, LEGACY, (Handle(SESSION, session),), {"session": session})

    def _modern(
        self, exchange: Exchange, message: Message, headers: dict[bytes, bytes], version: str
    ) -> Call | Refusal:
        if message.kind is _RESPONSE:
            text = "this version has no responses from clients"
            return Refusal(Reason.MALFORMED, text, rule="envelope", rpc_code=jsonrpc.INVALID_REQUEST)
        method = _known(MODERN, message)
        asks = message.kind is _REQUEST
        if (refusal := _mismatch(headers, message, method or Method(message.method), asks)) is not None:
            return refusal
        if method is None:
            return _unknown(message, MODERN)
        mirrored = mcp_headers.rewritten((mcp_headers.VERSION, version.encode()), method, message.params)
        return _call(exchange, message, method, MODERN, (), {}, mirrored)

    def _answered(self, exchange: Exchange, message: Message, session: str) -> Call | Refusal:
        """A response is judged as the request it answers (ruling 12), in the session that was shown the request."""
        method = self._pending.method(exchange.route.name, session, message.id)
        if method is None:
            text = "No request with this id was sent to this session"
            return Refusal(Reason.DENIED, text, rule="unknown_request", status=202)
        context: dict[str, Json] = {"direction": "response", "session": session}
        if message.failed:
            context["failed"] = True
        return Call(
            "mcp." + method,
            "endpoint",
            exchange.upstream.name,
            arguments=message.answer,
            has_arguments=True,
            context=context,
            reply=False,
            era=LEGACY,
            judged=True,
            handles=(Handle(SESSION, session),),
        )


def _call(
    exchange: Exchange,
    message: Message,
    method: Method,
    era: str,
    handles: tuple[Handle, ...],
    context: dict[str, Json],
    headers: tuple[Header, ...] = (),
) -> Call:
    """The Call of a known request or notification. Raises Malformed for params that do not say what is asked."""
    params = message.params
    check_names(params)
    upstream = exchange.upstream.name
    resource_type, resource_id = resource(method, params, upstream)
    if method.tasks:
        handles += tuple(Handle(TASK, ident) for ident in tasks(method, params))
    arguments, has_arguments = _arguments(method, params)
    if "inputResponses" in params:
        context["input_responses"] = params["inputResponses"]
    dropped = _NOTHING if era == LEGACY else _DROPPED if method.named else _DROPPED_NAME
    return Call(
        method.action,
        resource_type,
        resource_id,
        arguments=arguments,
        has_arguments=has_arguments,
        context=context,
        message_id=message.id,
        reply=message.kind is _REQUEST,
        era=era,
        listing=method.listing,
        judged=True,
        metered=method.metered,
        idempotent=method.idempotent,
        stream=method.stream,
        handles=handles,
        traceparent=_traceparent(params),
        headers=headers,
        drop_headers=dropped,
    )


def _arguments(method: Method, params: dict[str, Json]) -> tuple[Json, bool]:
    """Ruling 16: `params.arguments` of a tool or prompt, else params without `_meta`."""
    if method.calls:
        arguments = params.get("arguments")
        if arguments is not None and not isinstance(arguments, dict):
            raise Malformed("params.arguments must be an object")
        return arguments, arguments is not None
    if "_meta" in params:
        params = {name: value for name, value in params.items() if name != "_meta"}
    return params or None, bool(params)


def _stream(exchange: Exchange, heading: Heading) -> Call | Refusal:
    """GET opens the session's event stream, DELETE ends the session. Only the legacy era has them."""
    version, session = heading.version, heading.session
    if version in MODERN_VERSIONS:
        return _not_allowed(b"POST")
    if exchange.head.websocket or exchange.head.method not in ("GET", "DELETE"):
        return _not_allowed(b"GET, POST, DELETE")
    if version and version not in LEGACY_VERSIONS:
        return _unsupported(version)
    if exchange.body_stream is not None:
        return Refusal(Reason.MALFORMED, f"{exchange.head.method} has no body here", rule="body")
    opens = exchange.head.method == "GET"
    return Call(
        "mcp.stream.open" if opens else "mcp.session.end",
        "endpoint",
        exchange.upstream.name,
        context={"session": session} if session else {},
        era=LEGACY,
        judged=opens,
        stream=opens,
        ends=not opens,
        handles=(Handle(SESSION, session),) if session else (),
    )


def _version(message: Message, header: str) -> str | Refusal:
    """The version that header and `_meta` agree on, "" for the oldest, which has neither; a Refusal where they do not
    agree or a modern request says too little."""
    meta = message.params.get("_meta")
    said = meta.get(VERSION_META) if isinstance(meta, dict) else None
    if said is None and (not header or header in LEGACY_VERSIONS):
        return header
    if message.kind is _REQUEST:
        if not isinstance(meta, dict) or not isinstance(said, str):
            return _missing(VERSION_META)
        if not isinstance(meta.get(CAPABILITIES_META), dict):
            return _missing(CAPABILITIES_META)
    if said is not None and said != header:
        text = "MCP-Protocol-Version is not the version of _meta"
        return Refusal(Reason.MALFORMED, text, rule="header", rpc_code=HEADER_MISMATCH)
    return header if header in MODERN_VERSIONS else _unsupported(header)


def _mismatch(headers: dict[bytes, bytes], message: Message, method: Method, required: bool) -> Refusal | None:
    try:
        mcp_headers.check(headers, method, message.params, required)
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="header", rpc_code=HEADER_MISMATCH)
    return None


def _missing(name: str) -> Refusal:
    text = f"params._meta must have {name}"
    return Refusal(Reason.MALFORMED, text, rule="meta", rpc_code=jsonrpc.INVALID_PARAMS)


def _unsupported(version: str) -> Refusal:
    data = {"supported": list(MODERN_VERSIONS), "requested": version[:64]}
    text = "Unsupported protocol version"
    return Refusal(Reason.MALFORMED, text, rule="version", rpc_code=UNSUPPORTED_VERSION, data=data)


def _unknown(message: Message, era: str) -> Refusal:
    """Ruling 11: the era's own not-found; to a notification nothing is said."""
    if message.kind is Kind.NOTIFICATION:
        return Refusal(Reason.DENIED, "Unknown notification", rule="unknown_method", status=202)
    status = 404 if era == MODERN else 200
    text = "Method not found"
    return Refusal(Reason.DENIED, text, rule="unknown_method", status=status, rpc_code=jsonrpc.METHOD_NOT_FOUND)


def _known(era: str, message: Message) -> Method | None:
    table = REQUESTS if message.kind is _REQUEST else NOTIFICATIONS
    return table[era].get(message.method)


def _not_allowed(allowed: bytes) -> Refusal:
    text = "This method is not allowed here"
    return Refusal(Reason.METHOD_NOT_ALLOWED, text, rule="method", headers=((b"allow", allowed),))


def _traceparent(params: dict[str, Json]) -> str:
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return ""
    found = meta.get("traceparent")
    return found if isinstance(found, str) and _TRACEPARENT.fullmatch(found) is not None else ""


def _disguised(
    exchange: Exchange, asked: Call, refusal: Refusal, headers: list[Header]
) -> tuple[int, list[Header], bytes]:
    """A denial as the route wants it: `tool_error` is a tool's result that says so, `hidden` what a server says of an
    object it does not have."""
    name = asked.resource_id.removeprefix(exchange.upstream.name + "/")
    if exchange.route.deny_as == "tool_error":
        if asked.action != "mcp.tools/call":
            return refusal.rpc_status, headers, jsonrpc.refusal_body(exchange, refusal)
        facts = {"tollgate/refusal": jsonrpc.refusal_data(exchange, refusal)}
        result = {"content": [{"type": "text", "text": refusal.text}], "isError": True, "_meta": facts}
        if asked.era == MODERN:
            result["resultType"] = "complete"
        body = {"jsonrpc": "2.0", "id": asked.message_id, "result": result}
        return 200, headers, json.dumps(body, separators=(",", ":")).encode()
    code, text, status = jsonrpc.INVALID_PARAMS, f"Unknown {asked.resource_type}: {name}", 200
    if asked.resource_type == "resource" and asked.era == LEGACY:
        code, text = RESOURCE_NOT_FOUND, "Resource not found"
    elif asked.resource_type == "endpoint":
        code, text, status = jsonrpc.METHOD_NOT_FOUND, "Method not found", 404 if asked.era == MODERN else 200
    return status, headers, jsonrpc.error_body(asked.message_id, code, text)
