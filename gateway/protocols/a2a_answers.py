"""Answers of an agent on their way back: new tasks are bound before they are shown, others' tasks are not shown. Cards
are in a2a_card_answer.py.

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
from gateway.core.ports import Bind
from gateway.core.reasons import Malformed
from gateway.core.sse import Scanner
from gateway.protocols.a2a_operations import TASK
from gateway.protocols.jsonrpc import payload

_TASK_ID = re.compile(rb'"task_?[iI]d"\s*:\s*"([^"\\]*)"')
_PARTS = ("task", "message", "msg", "statusUpdate", "status_update", "artifactUpdate", "artifact_update")


class Tasks:
    """The tasks of one exchange. Those its request names were looked up already."""

    __slots__ = ("_bind", "_owner", "known")

    def __init__(self, exchange: Exchange, bind: Bind) -> None:
        if exchange.principal is None:
            raise RuntimeError("an answer belongs to an identified caller")
        self._owner = exchange.principal.id
        self._bind = bind
        self.known = {handle.id for handle in exchange.call.handles}

    async def claim(self, ident: str) -> None:
        """Binds a task nobody has. Raises Malformed for one that another caller has."""
        if ident in self.known:
            return
        handle = Handle(TASK, ident)
        owner = await self._bind.owner(handle)
        if owner is None:
            await self._bind(handle)
        elif owner != self._owner:
            raise Malformed("it holds a task of another caller")
        self.known.add(ident)

    async def owns(self, ident: str) -> bool:
        return ident in self.known or await self._bind.owner(Handle(TASK, ident)) == self._owner


class TaskAnswer:
    """The JSON answer to a message: its task is bound, its bytes stay. `enveloped`: it is a JSON-RPC response."""

    __slots__ = ("_enveloped", "_tasks")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._enveloped = enveloped
        self._tasks = Tasks(exchange, bind)

    async def rewrite(self, body: bytes) -> bytes:
        if body:
            for ident in task_ids(payload(parse_answer(body), self._enveloped)):
                await self._tasks.claim(ident)
        return body


class TaskEvents:
    """The streamed answer to a message: each event goes on as it came, once its task is bound."""

    __slots__ = ("_enveloped", "_scanner", "_tasks")

    whole: Literal[False] = False

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._enveloped = enveloped
        self._tasks = Tasks(exchange, bind)
        self._scanner = Scanner()

    async def feed(self, chunk: bytes) -> bytes:
        events = self._scanner.feed(chunk)
        for event in events:
            if event.data and not self._seen(event.data):
                for ident in task_ids(payload(parse_answer(event.data), self._enveloped)):
                    await self._tasks.claim(ident)
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
        found = _TASK_ID.findall(data)
        return bool(found) and all(ident.decode("utf-8", "replace") in self._tasks.known for ident in found)


class TaskList:
    """ListTasks: only the caller's own. Where nothing is hidden the bytes are the upstream's."""

    __slots__ = ("_enveloped", "_exchange", "_tasks")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, bind: Bind, *, enveloped: bool) -> None:
        self._exchange = exchange
        self._enveloped = enveloped
        self._tasks = Tasks(exchange, bind)

    async def rewrite(self, body: bytes) -> bytes:
        document = parse_answer(body)
        result = payload(document, self._enveloped)
        if result is None:
            return body
        listed = result.get("tasks", []) if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(listed, list):
            raise Malformed("a list of tasks has no tasks")
        shown = [item for item in listed if await self._tasks.owns(_ident(item))]
        hidden = len(listed) - len(shown)
        self._exchange.filtered = (len(shown), hidden)
        if not hidden:
            return body
        result["tasks"] = shown
        total = result.get("totalSize")
        if type(total) is int:
            result["totalSize"] = max(len(shown), total - hidden)  # the rest of the count is of pages not seen yet
        return json.dumps(document, separators=(",", ":")).encode()


def task_ids(result: Json) -> Iterator[str]:
    """The tasks that an answer or event shows, in both versions' shapes."""
    if not isinstance(result, dict):
        return
    for part in (result, *(result.get(name) for name in _PARTS)):
        if not isinstance(part, dict):
            continue
        for name in ("taskId", "task_id"):
            ident = part.get(name)
            if isinstance(ident, str) and ident:
                yield ident
        if part is result.get("task") or part.get("kind") == "task" or ("status" in part and "kind" not in part):
            ident = part.get("id")
            if isinstance(ident, str) and ident:
                yield ident


def _ident(item: Json) -> str:
    ident = item.get("id") if isinstance(item, dict) else None
    if not isinstance(ident, str) or not ident:
        raise Malformed("an item has no id")
    return ident
