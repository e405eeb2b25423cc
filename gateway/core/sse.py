"""The event scanner that forwarding, filtering and metering share (WHATWG server-sent events).

Sans-I/O: bytes go in as they arrive, whole events come out with their exact bytes, so that an event which is passed on
is passed on unchanged. Lines end with LF, CRLF or CR. A pending event is bounded: past `limit` bytes `Malformed` is
raised, so that an upstream without line ends cannot fill the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.core.reasons import Malformed

EVENT_LIMIT_BYTES = 4 * 1024 * 1024  # as much as a judged body may have

BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")  # the end of a line, and an empty line
_LINE = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `raw` is all its bytes, blank line included; `data` its joined data lines, None where it has none
    (a comment, a bare id or retry)."""

    raw: bytes
    data: bytes | None
    name: str
    id: bytes | None


class Scanner:
    """Splits a stream into events. `rest` is what a stream that ends in mid-event leaves: it is no event."""

    __slots__ = ("_limit", "_pending", "_searched")

    def __init__(self, limit: int = EVENT_LIMIT_BYTES) -> None:
        self._pending = bytearray()  # grows in place: a slow line costs its length once, not its square
        self._searched = 0
        self._limit = limit

    def feed(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        start = 0
        if self._pending:
            self._pending += chunk
            first = BLANK.search(self._pending, max(0, self._searched - 3))
            if first is None:
                return self._wait(events)
            chunk, self._pending = bytes(self._pending), bytearray()
            start = first.end()
            events.append(_event(chunk[:start]))
        for found in BLANK.finditer(chunk, start):
            events.append(_event(chunk[start : found.end()]))
            start = found.end()
        self._pending += chunk[start:] if start else chunk
        return self._wait(events)

    def _wait(self, events: list[Event]) -> list[Event]:
        self._searched = len(self._pending)
        if self._searched > self._limit:
            raise Malformed(f"an event is larger than {self._limit} bytes")
        return events

    @property
    def rest(self) -> bytes:
        return bytes(self._pending)


def _event(raw: bytes) -> Event:
    data: list[bytes] = []
    name = ""
    ident: bytes | None = None
    for line in _LINE.split(raw.removeprefix(b"\xef\xbb\xbf")):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            ident = value
    return Event(raw, b"\n".join(data) if data else None, name, ident)


def encode(data: bytes, *, name: str = "", ident: bytes | None = None) -> bytes:
    """The bytes of one event whose data is a single line."""
    lines = []
    if name:
        lines.append(b"event: " + name.encode())
    if ident is not None:
        lines.append(b"id: " + ident)
    lines.append(b"data: " + data)
    return b"\n".join(lines) + b"\n\n"
