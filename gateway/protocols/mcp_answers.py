"""The way back of an MCP answer: which answers are read, and how their documents reach the judge.

The rule it keeps: an answer that could carry something to be judged is read in whole (JSON) or event by event; an event
that is shown keeps its bytes and is not held back. What cannot be read (another type, a content coding) is not shown.
It must never trust a content type that two clients would read in two ways.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from gateway.core import sse
from gateway.core.descriptors import Listings
from gateway.core.exchange import Exchange
from gateway.core.obligations import mark
from gateway.core.ports import AnswerFilter, Ask, Bind, UpstreamAnswer, WholeFilter
from gateway.core.reasons import Malformed
from gateway.protocols.mcp_headers import SESSION
from gateway.protocols.mcp_judge import Judge, calm, words
from gateway.protocols.mcp_methods import LEGACY
from gateway.protocols.mcp_pending import Pending

_LINE = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")
_SOFT_BREAK = re.compile(rb"[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")  # line ends for some readers only


async def reader(
    exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind, pending: Pending, listings: Listings | None
) -> AnswerFilter | WholeFilter | None:
    """The filter of this answer, None where its bytes pass as they are. Raises Malformed for what cannot be shown."""
    call = exchange.call
    asked = call.context.get("session", "")
    kind, session = _head(answer)
    judge: Judge | None = None
    if session and session != asked and call.era == LEGACY and answer.status < 300:
        judge = Judge(exchange, ask, bind, pending, listings, session)
        await judge.mint()
    if kind is _Kind.JSON and call.reply and exchange.head.method == "POST":
        body = answer.complete
        if body is not None and body[:1] == b"{" and calm(body, words(call)):
            return None  # what nearly every answer is
    judge = judge or Judge(exchange, ask, bind, pending, listings, asked if isinstance(asked, str) else "")
    if call.action == "mcp.stream.open":
        for handle in call.handles:
            if await bind.owner(mark(handle)) is not None:
                judge.withhold()
    if answer.status in (202, 204, 304):
        return None
    if kind is _Kind.EVENTS:
        return Events(judge)
    if not call.reply:
        return None
    if kind is _Kind.JSON and exchange.head.method == "POST":
        return Whole(judge)
    if answer.status < 300 and kind is not _Kind.NOTHING and answer.complete != b"":
        raise Malformed("a successful answer is neither JSON nor an event stream")
    return None


class Whole:
    """A JSON answer, judged when all of it is there."""

    __slots__ = ("_judge",)

    whole: Literal[True] = True

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def rewrite(self, body: bytes) -> bytes:
        shown = await self._judge.document(body)
        if shown is None:
            raise Malformed("a JSON answer that is no response")
        return shown


class Events:
    """An event stream, judged event by event."""

    __slots__ = ("_judge", "_scanner")

    whole: Literal[False] = False

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._scanner = sse.Scanner()

    async def feed(self, chunk: bytes) -> bytes:
        shown = [await self._event(event) for event in self._scanner.feed(chunk)]
        return b"".join(shown) if len(shown) != 1 else shown[0]

    async def finish(self) -> bytes:
        """What a stream leaves behind its last event is no event for the standard, but some readers take it for one."""
        rest = self._scanner.rest
        if not rest:
            return b""
        [event] = self._scanner.feed(b"\n\n")
        shown = await self._event(event)
        return rest if shown is event.raw else shown

    def outbox(self) -> list[bytes]:
        messages, self._judge.outbox = self._judge.outbox, []
        return messages

    async def _event(self, event: sse.Event) -> bytes:
        raw, data = event.raw, event.data
        if self._judge.calm(raw) and (not data or data[:1] == b"{"):
            return raw
        if _SOFT_BREAK.search(raw) is not None:
            self._check_other_lines(raw)
        if not data:
            return raw
        shown = await self._judge.document(data)
        return raw if shown is data else _with_data(raw, shown)

    def _check_other_lines(self, raw: bytes) -> None:
        """A comment that holds a line end of its own kind is a message for a reader that splits there."""
        others = b"".join(line for line in _LINE.split(raw) if not line.startswith(b"data"))
        if _SOFT_BREAK.search(others) is not None and not self._judge.calm(others):
            raise Malformed("a message outside of an event's data")


class _Kind(StrEnum):
    JSON = "json"
    EVENTS = "events"
    OTHER = "other"
    NOTHING = "nothing"


_KINDS = {
    b"application/json": _Kind.JSON,
    b"application/json; charset=utf-8": _Kind.JSON,
    b"text/event-stream": _Kind.EVENTS,
}


def _head(answer: UpstreamAnswer) -> tuple[_Kind, str]:
    """What the head says of the body, and the session id. Raises Malformed where it can be read in two ways."""
    kind: _Kind | None = None
    coded = empty = False
    session = ""
    for name, value in answer.headers:
        if name == b"content-type":
            found = _KINDS.get(value) or _essence(value)
            if kind is not None and kind is not found:
                raise Malformed("an answer with two content types")
            kind = found
        elif name == b"content-encoding":
            coded = value.lower() != b"identity"
        elif name == b"content-length":
            empty = value == b"0"
        elif name == SESSION:
            if session:
                raise Malformed("an answer with two session ids")
            session = value.decode("latin-1")
    if empty:
        return _Kind.NOTHING, session
    if coded and kind in (_Kind.JSON, _Kind.EVENTS):
        raise Malformed("a content coding that was not asked for")
    return kind or _Kind.OTHER, session


def _essence(value: bytes) -> _Kind:
    text = value.lower()
    essence = text.partition(b";")[0].strip()
    events, json = b"text/event-stream" in text, b"json" in text
    if (events and (json or essence != b"text/event-stream")) or (json and b"json" not in essence):
        raise Malformed("a content type that can be read in two ways")
    return _Kind.EVENTS if events else _Kind.JSON if json else _Kind.OTHER


def _with_data(raw: bytes, data: bytes | None) -> bytes:
    """The event with other data. Without data it is still there where it has an id: a broken stream is resumed from
    the last one, and what was withheld once is not to come again."""
    kept: list[bytes] = []
    names: set[bytes] = set()
    for line in _LINE.split(raw.removeprefix(b"\xef\xbb\xbf")):
        name = line.rstrip(b"\r\n").partition(b":")[0]
        if name == b"data" and data is not None and name not in names:
            kept.append(b"data: " + data + b"\n")
        elif name in (b"id", b"retry") or (name == b"event" and data is not None):
            kept.append(line)
        names.add(name)
    return b"".join(kept) + b"\n" if data is not None or b"id" in names else b""
