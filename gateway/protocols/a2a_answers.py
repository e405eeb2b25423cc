"""Answers of an agent on their way back: new tasks and conversations are bound before they are shown, others' are not
shown. Cards are in a2a_card_answer.py.

The rule it keeps: what is passed on is passed on byte for byte; only a list that hides something is written anew. An
answer that cannot be read is not shown, since a task in it could not be bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal

from gateway.core.canonical import Json, parse_answer
from gateway.core.exchange import Exchange, Handle
from gateway.core.obligations import mark
from gateway.core.ports import Bind
from gateway.core.reasons import Malformed
from gateway.core.sse import Scanner
from gateway.protocols.a2a_operations import CONTEXT, TASK, context
from gateway.protocols.claims import Claims
from gateway.protocols.jsonrpc import payload

_IDS = re.compile(rb'"(task|context)_?[iI]d"\s*:\s*"([^"\\]*)"')
_NAMES = frozenset({CONTEXT})
_PARTS = ("task", "message", "msg", "statusUpdate", "status_update", "artifactUpdate", "artifact_update")


class TaskAnswer:
    """The JSON answer to a message: its task is bound, its bytes stay. `enveloped`: it is a JSON-RPC response."""

    __slots__ = ("_claims", "_enveloped")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._enveloped = enveloped
        self._claims = Claims(exchange, bind, _NAMES)

    async def rewrite(self, body: bytes) -> bytes:
        if body:
            await self._claims.claim(named(payload(parse_answer(body), self._enveloped)))
        return body


class TaskEvents:
    """The streamed answer to a message: each event goes on as it came, once its task is bound."""

    __slots__ = ("_claims", "_enveloped", "_scanner")

    whole: Literal[False] = False

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._enveloped = enveloped
        self._claims = Claims(exchange, bind, _NAMES)
        self._scanner = Scanner()

    async def feed(self, chunk: bytes) -> bytes:
        events = self._scanner.feed(chunk)
        for event in events:
            if event.data and not self._seen(event.data):
                await self._claims.claim(named(payload(parse_answer(event.data), self._enveloped)))
        return events[0].raw if len(events) == 1 else b"".join([event.raw for event in events])

    async def finish(self) -> bytes:
        """What a stream leaves that ends in mid-event is no event, but it came: it goes on unless it names a task."""
        rest = self._scanner.rest
        return rest if not rest or self._seen(rest) or b"task" not in rest.lower() else b""

    def outbox(self) -> list[bytes]:
        return []

    def _seen(self, data: bytes) -> bool:
        """Whether an event is an update of tasks that are bound: nearly all are, and need not be parsed for it."""
        if b'"task"' in data:
            return False
        found = _IDS.findall(data)
        handles = [_named(kind, ident) for kind, ident in found]
        return any(handle.kind == TASK for handle in handles) and all(map(self._claims.knows, handles))


class TaskList:
    """ListTasks: only the caller's own. Where nothing is hidden the bytes are the upstream's."""

    __slots__ = ("_bind", "_claims", "_enveloped", "_exchange")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._bind = bind
        self._exchange = exchange
        self._enveloped = enveloped
        self._claims = Claims(exchange, bind, _NAMES)

    async def rewrite(self, body: bytes) -> bytes:
        document = parse_answer(body)
        result = payload(document, self._enveloped)
        if result is None:
            return body
        listed = result.get("tasks", []) if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(listed, list):
            raise Malformed("a list of tasks has no tasks")
        shown = [item for item in listed if await self._may_see(Handle(TASK, _ident(item)))]
        hidden = len(listed) - len(shown)
        self._exchange.filtered = (len(shown), hidden)
        if not hidden:
            return body
        result["tasks"] = shown
        total = result.get("totalSize")
        if type(total) is int:
            result["totalSize"] = max(len(shown), total - hidden)  # the rest of the count is of pages not seen yet
        return json.dumps(document, separators=(",", ":")).encode()

    async def _may_see(self, task: Handle) -> bool:
        """Its own; and one of which something was hidden only where policy hides something here too."""
        return await self._claims.owns(task) and (
            self._exchange.hides is not None or await self._bind.owner(mark(task)) is None
        )


def named(result: Json) -> Iterator[Handle]:
    """The tasks and conversations that an answer or event shows, in both versions' shapes."""
    if not isinstance(result, dict):
        return
    for part in (result, *(result.get(name) for name in _PARTS)):
        if not isinstance(part, dict):
            continue
        for name in ("taskId", "task_id"):
            ident = part.get(name)
            if isinstance(ident, str) and ident:
                yield Handle(TASK, ident)
        if part is result.get("task") or part.get("kind") == "task" or ("status" in part and "kind" not in part):
            ident = part.get("id")
            if isinstance(ident, str) and ident:
                yield Handle(TASK, ident)
        for name in ("contextId", "context_id"):
            ident = part.get(name)
            if isinstance(ident, str) and ident:
                yield context(ident)


def _named(kind: bytes, ident: bytes) -> Handle:
    text = ident.decode("utf-8", "replace")
    return context(text) if kind == b"context" else Handle(TASK, text)


def _ident(item: Json) -> str:
    ident = item.get("id") if isinstance(item, dict) else None
    if not isinstance(ident, str) or not ident:
        raise Malformed("an item has no id")
    return ident
