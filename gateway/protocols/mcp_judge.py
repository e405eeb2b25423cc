"""What an MCP upstream says, judged document by document before the caller sees it.

1. A document in which no word occurs that could matter is not even parsed; the search sees every spelling.
2. List items are shown if policy allows the caller to use them (`context.listing`) and they are described as it was
   approved; legacy tasks if they are its own.
3. A server's request, as a message (legacy) or inside a result (modern), is judged as `mcp.<method>` with
   `context.direction: server`. Denied, it is withheld and answered, or the result becomes an error.
4. Handles that a result mints are the caller's before the caller sees them; one that is somebody else's is not shown.
5. What cannot be read, or could be read in two ways, raises Malformed. What is not changed keeps its bytes.
6. In a session in which an answer was redacted, the stream that shows again what a broken one had left shows no
   results: whose answer one is cannot be told, and so not what is hidden of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from gateway.core.canonical import Json, parse, parse_answer
from gateway.core.descriptors import Listings
from gateway.core.exchange import Call, Decision, Exchange, Handle
from gateway.core.obligations import mark
from gateway.core.ports import Ask, Bind
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.protocols import jsonrpc
from gateway.protocols.mcp_methods import (
    DISCOVER,
    LEGACY,
    LIST_CHANGED,
    LISTS,
    MODERN,
    SERVER_REQUESTS,
    TASKS,
    TASKS_EXTENSION,
    List,
)
from gateway.protocols.mcp_pending import Pending

MAX_SEEN = 1000  # decisions on watched resources that one stream keeps

TASK = "mcp-task"
SESSION = "mcp-session"

_DENIED = -31403
# Names by their folded spelling, for `_check_names`.
_ENVELOPE = {name: name for name in ("jsonrpc", "id", "method", "params", "result", "error")}
_ITEM = {name: name for name in ("method", "params")}
_MODERN_RESULT = {name.casefold(): name for name in ("inputRequests", "resultType", "taskId")}
_MEMBERS = {shape.member.casefold(): shape.member for shape in LISTS.values()}
_KEYS = {shape.key: {shape.key.casefold(): shape.key} for shape in LISTS.values()}
_LETTER = re.compile(rb"\\u00[4-7]")  # the only other way to write an ASCII letter in JSON
_BEFORE = b"\xef\xbb\xbf \t\r\n"  # what lenient readers pass over before a document


def words(call: Call) -> tuple[bytes, ...]:
    """What the answer to this call has to say somewhere, in lower case, if something in it is to be judged. None of
    them depends on a letter that has a lookalike outside ASCII (s, k) where folding could mislead a reader."""
    if call.listing or call.action == DISCOVER:
        return (b"{",)
    if call.era == MODERN:
        return (b"method", b"inputreque", b"taskid")
    if call.action == "mcp.tools/call":
        return (b"method", b"taskid")
    return (b"method", b"tool", b"prompt", b"ource") if call.action == "mcp.stream.open" else (b"method",)


def calm(data: bytes, words: tuple[bytes, ...]) -> bool:
    """Rule 1: whether nothing in these bytes has to be judged, in whatever spelling."""
    lower = data.lower()
    for word in words:
        if lower.find(word) >= 0:  # `in` would try the word as a number first
            return False
    return data.find(b"\0") < 0 and (data.find(b"\\u00") < 0 or _LETTER.search(data) is None)


class Judge:
    """The judge of one answer. `outbox` collects what the upstream is told about its own denied requests."""

    __slots__ = (
        "_ask", "_bind", "_call", "_exchange", "_listings", "_pending", "_seen", "_session", "_shapes", "_withholds",
        "_words", "outbox",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, ask: Ask, bind: Bind, pending: Pending, listings: Listings | None, session: str
    ) -> None:
        self._exchange = exchange
        self._call = call = exchange.call
        self._ask = ask
        self._bind = bind
        self._pending = pending
        self._listings = listings
        self._session = session
        self._seen: dict[str, bool] = {}
        self._shapes: Sequence[List] = (LISTS[call.listing],) if call.listing in LISTS else ()
        self._words = words(call)
        if call.action == "mcp.stream.open":  # what a broken stream had left is replayed here, lists included
            self._shapes = tuple(LISTS.values())
        self._withholds = False
        self.outbox: list[bytes] = []

    def withhold(self) -> None:
        """Rule 6: this stream shows no results."""
        self._withholds = True
        self._words = (b"{",)

    def calm(self, data: bytes) -> bool:
        return calm(data, self._words)

    async def document(self, data: bytes) -> bytes | None:
        """What of one JSON document is shown: itself, another, or nothing. Raises Malformed."""
        first = data[:1] if data[:1] in (b"{", b"[") else data.lstrip(_BEFORE)[:1]
        if first == b"[":
            raise Malformed("a batch")
        if first != b"{" and b"\0" not in data:
            return data  # no message for any reader
        if self.calm(data):
            return data
        value = parse_answer(data)
        if not isinstance(value, dict):
            raise Malformed("not one JSON-RPC message")
        _check_names(value, _ENVELOPE)
        if "method" not in value:
            return await self._response(data, value)
        if "result" in value or "error" in value or not isinstance(value["method"], str):
            raise Malformed("neither a request nor a response")
        if "id" not in value:
            return data if await self._notification(value["method"], value) else None
        if self._call.era == MODERN:
            self._count(0, 1)  # this era has no requests on streams, and the caller could not answer
            return None
        return await self._request(data, value["method"], value["id"])

    async def mint(self) -> None:
        """Rule 4 for a session that the answer's head mints. Nothing waits in it yet."""
        await self._bind(Handle(SESSION, self._session))
        self._pending.forget(self._exchange.route.name, self._session)

    async def _request(self, data: bytes, method: str, ident: Json) -> bytes | None:
        if type(ident) is not int and type(ident) is not str:
            raise Malformed("a request of the upstream has no usable id")
        code, text = jsonrpc.METHOD_NOT_FOUND, "Method not found"
        if method in SERVER_REQUESTS[LEGACY]:
            code, text = _DENIED, "Denied by policy"
            try:
                params = jsonrpc.message(parse(data)).params
                allowed = await self._allows([self._incoming(method, params)]) is None
            except Malformed as error:
                code, text, allowed = jsonrpc.INVALID_REQUEST, str(error), False
            if allowed:
                self._pending.add(self._exchange.route.name, self._session, ident, method)
                return data
        self._count(0, 1)
        self.outbox.append(jsonrpc.error_body(ident, code, text, {"exchange_id": self._exchange.id}))
        return None

    async def _notification(self, method: str, value: Mapping[str, Json]) -> bool:
        if method in LIST_CHANGED and self._listings is not None:
            self._listings.stale(self._exchange.upstream.name)
        params = value.get("params")
        if not isinstance(params, dict):
            return True
        if method == "notifications/resources/updated" and self._call.era == MODERN:
            return await self._may_see(params.get("uri"))
        if method in ("notifications/tasks", "notifications/tasks/status"):
            task = params.get("taskId")
            principal = self._exchange.principal
            if not isinstance(task, str) or principal is None:
                raise Malformed("a task without an id")
            handle, hides = Handle(TASK, task), self._exchange.hides is not None
            if await self._bind.owner(handle) != principal.id or not (
                hides or await self._bind.owner(mark(handle)) is None
            ):
                self._count(0, 1)
                return False
            _check_names(params, _MODERN_RESULT)
            return await self._inputs(params) is None
        return True

    async def _may_see(self, uri: Json) -> bool:
        """Whether the caller may know of this resource: what it may not read, it does not watch either."""
        if not isinstance(uri, str):
            raise Malformed("an update without a URI")
        if uri not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            call = Call("mcp.resources/read", "resource", _clean(uri), context=self._context(listing=True))
            self._seen[uri] = await self._allows([call]) is None
        if not self._seen[uri]:
            self._count(0, 1)
        return self._seen[uri]

    async def _response(self, data: bytes, value: dict[str, Json]) -> bytes:
        result = value.get("result")
        if self._withholds:
            self._count(0, 1)
            text = "An answer in this session is redacted, and what is shown again cannot be"
            return jsonrpc.error_body(value.get("id"), _DENIED, text, {"exchange_id": self._exchange.id})
        if not isinstance(result, dict):
            return data
        if self._call.era == MODERN:
            _check_names(result, _MODERN_RESULT)
            refusal = await self._inputs(result)
            if refusal is not None:
                return self._replaced(refusal)
            if result.get("resultType") == "task":
                await self._task(result)
            elif self._call.action == DISCOVER:
                self._learn(result.get("capabilities"))
        elif self._call.action == "mcp.tools/call":
            await self._task(result.get("task"))
        changed = False
        for shape in self._shapes:
            _check_names(result, _MEMBERS)
            if shape.member in result:
                changed |= await self._filter(result, shape)
        if self._call.listing == TASKS and "tasks" in result:
            changed |= await self._own_tasks(result)
        if self._call.listing and (self._call.era == MODERN or "cacheScope" in result):
            changed |= result.get("cacheScope") != "private"
            result["cacheScope"] = "private"  # what is shown to one caller is for no shared cache
        return json.dumps(value, separators=(",", ":")).encode() if changed else data

    async def _filter(self, result: dict[str, Json], shape: List) -> bool:
        items = result[shape.member]
        if not isinstance(items, list):
            raise Malformed(f"{shape.member} is not a list")
        prefix = "" if shape.resource_type == "resource" else self._exchange.upstream.name + "/"
        context = self._context(listing=True)
        calls: list[Call] = []
        for item in items:
            if not isinstance(item, dict) or not isinstance(name := item.get(shape.key), str):
                raise Malformed(f"an item of {shape.member} has no {shape.key}")
            _check_names(item, _KEYS[shape.key])
            calls.append(Call(shape.action, shape.resource_type, prefix + _clean(name), context=context))
        decisions = await self._ask(calls) if calls else []
        as_approved = await self._as_approved(result, shape, items)
        kept = [
            item
            for item, decision, approved in zip(items, decisions, as_approved, strict=True)
            if approved and _refusal(decision) is None
        ]
        self._count(len(kept), len(items) - len(kept))
        result[shape.member] = kept
        return len(kept) != len(items)

    async def _as_approved(self, result: Mapping[str, Json], shape: List, items: Sequence[Json]) -> Sequence[bool]:
        """Which of the items are described as it was approved."""
        described = [item for item in items if isinstance(item, dict)]
        asked = self._call.arguments
        first = self._call.listing == shape.name and not (isinstance(asked, dict) and "cursor" in asked)
        shown: Sequence[bool] | None = None
        if self._listings is not None:
            whole = first and not result.get("nextCursor")
            shown = await self._listings.shown(self._exchange.upstream.name, shape.name, described, whole)
        return shown if shown is not None else [True] * len(items)

    async def _own_tasks(self, result: dict[str, Json]) -> bool:
        items, principal = result["tasks"], self._exchange.principal
        if not isinstance(items, list) or principal is None:
            raise Malformed("tasks is not a list")
        kept: list[Json] = []
        for item in items:
            if not isinstance(item, dict) or not isinstance(ident := item.get("taskId"), str):
                raise Malformed("a task has no taskId")
            if await self._bind.owner(Handle(TASK, ident)) == principal.id:
                kept.append(item)
        self._count(len(kept), len(items) - len(kept))
        result["tasks"] = kept
        return len(kept) != len(items)

    async def _inputs(self, holder: Mapping[str, Json]) -> Refusal | None:
        """Rule 3 for the requests inside a result. They are read again, strictly: policy sees what is in them."""
        if "inputRequests" not in holder:
            return None
        requests = parse(json.dumps(holder["inputRequests"]).encode())
        if not isinstance(requests, dict):
            raise Malformed("inputRequests is not an object")
        calls: list[Call] = []
        for item in requests.values():
            if not isinstance(item, dict):
                raise Malformed("an input request is not an object")
            _check_names(item, _ITEM)
            method, params = item.get("method"), item.get("params", {})
            if not isinstance(params, dict) or not isinstance(method, str):
                raise Malformed("an input request has no method or params")
            if method not in SERVER_REQUESTS[MODERN]:
                self._count(0, len(requests))
                return Refusal(Reason.DENIED, "The upstream asks for what no client knows", rule="unknown_method")
            calls.append(self._incoming(method, params))
        refusal = await self._allows(calls)
        if refusal is not None:
            self._count(0, len(requests))
        return refusal

    def _learn(self, capabilities: Json) -> None:
        """Whether the upstream has tasks at all, so that who asks for one is told what the upstream would say."""
        if isinstance(capabilities, dict):
            extensions = capabilities.get("extensions")
            has_tasks = isinstance(extensions, dict) and TASKS_EXTENSION in extensions
            self._pending.tasks(self._exchange.upstream.name, has_tasks)

    async def _task(self, task: Json) -> None:
        if isinstance(task, dict) and isinstance(ident := task.get("taskId"), str):
            await self._bind(Handle(TASK, ident))

    async def _allows(self, calls: Sequence[Call]) -> Refusal | None:
        for decision in await self._ask(calls) if calls else []:
            refusal = _refusal(decision)
            if refusal is not None:
                return refusal
        return None

    def _incoming(self, method: str, params: Mapping[str, Json]) -> Call:
        arguments: Json = {name: value for name, value in params.items() if name != "_meta"}
        context = self._context(direction="server")
        upstream = self._exchange.upstream.name
        return Call(
            "mcp." + method, "endpoint", upstream, arguments=arguments, has_arguments=bool(arguments), context=context
        )

    def _context(self, **rest: Json) -> dict[str, Json]:
        return {**rest, "session": self._session} if self._session else rest

    def _replaced(self, refusal: Refusal) -> bytes:
        self._exchange.refusal = refusal
        data = jsonrpc.refusal_data(self._exchange, refusal)
        return jsonrpc.error_body(self._call.message_id, refusal.code, refusal.text, data)

    def _count(self, shown: int, hidden: int) -> None:
        before = self._exchange.filtered or (0, 0)
        self._exchange.filtered = (before[0] + shown, before[1] + hidden)


def _refusal(decision: Decision) -> Refusal | None:
    """An allow that asks for something more is no allow here: nobody would fulfil it for an item or a request. One that
    is a fault is the route's word (access.ask lets no other be both)."""
    if decision.allow is True and not decision.obligations:
        return None
    reason = Reason.POLICY_UNAVAILABLE if decision.fault else Reason.DENIED
    return Refusal(reason, decision.reason, rule=decision.rule)


def _check_names(members: Iterable[str], folded: Mapping[str, str]) -> None:
    """Raises Malformed for a member that a reader which ignores case would take for one of the watched names."""
    for name in members:
        if folded.get(name.casefold(), name) != name:
            raise Malformed(f"a member is misspelled: {name[:40]!r}")


def _clean(text: str) -> str:
    """Text that policy may see. Raises Malformed for a lone surrogate."""
    if not text.isascii() and any(0xD800 <= ord(mark) <= 0xDFFF for mark in text):
        raise Malformed("a lone surrogate is not text")
    return text
