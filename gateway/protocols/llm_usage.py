"""Token usage of model answers, read beside the stream and never in its way.

1. Nothing is held back: `feed` sees a copy and keeps at most one event of `EVENT_BYTES`, or of a document as much.
2. Only what may hold usage (`"usage": {`) is parsed (llm_counts.py). 3. An event or document too large to keep is
skipped, but its tail is searched: vendors say usage last. 4. gzip and deflate are decoded into a bounded copy; other
codings are not read. 5. What was not said, or not to the end, is estimated and marked so: input as it was asked with,
the output of a stream from what was seen of it (llm_seen.py), else from the bytes; where not all of it can be seen, as
what was reserved for it: unknown is not free.
What is read never depends on how the answer was cut into chunks.
"""

from __future__ import annotations

import zlib
from typing import Final

from gateway.core.exchange import Usage
from gateway.core.ports import UsageReader
from gateway.core.reasons import Malformed
from gateway.core.sse import BLANK, Scanner
from gateway.protocols.llm_counts import SAYS_USAGE, TAIL_BYTES, Tally
from gateway.protocols.llm_seen import BYTES_PER_TOKEN, Seen

EVENT_BYTES = 256 * 1024  # an event larger than this is text or an image, its usage stands in the tail
DOCUMENT_BYTES = 256 * 1024  # the same for a JSON answer: embeddings are megabytes with their usage at the end
DECODED_BYTES = 32 * 1024 * 1024  # past this a coded answer is a bomb or a library: no longer read

_STEP_BYTES = 256 * 1024
_BEGINS_BYTES: Final = 256  # of an event too large to keep: what it is
_LINE_ENDS: Final = b"\r\n"
_KEPT_BYTES: Final = TAIL_BYTES + 8  # with the line ends behind it


class EventUsage:
    """Reads a stream of events. `asked` is the request's estimated tokens, `api` whose shapes the events have, `unseen`
    the least output where the vendor does not say it."""

    __slots__ = ("_asked", "_begins", "_length", "_oversize", "_pending", "_seen", "_tally", "_unseen")

    def __init__(self, asked: int, api: str = "", unseen: int = 0) -> None:
        self._asked = asked
        self._unseen = unseen
        self._tally = Tally()
        self._seen = Seen(api)
        self._pending = b""  # the event that has not ended yet; its tail only, once it is too large
        self._oversize = False
        self._length, self._begins = 0, b""  # of that one

    def feed(self, chunk: bytes) -> None:
        data = self._pending + chunk if self._pending else chunk
        end = len(data) if data.endswith(b"\n\n") else _last_boundary(data)
        if self._oversize:
            first = _first_boundary(data) if end else len(data)
            self._length += first - len(self._pending)
            if not end:
                self._pending = data[-_KEPT_BYTES:]
                return
            self._large(data[:first])
            self._events(data[first:end])
        elif end:
            self._events(data[:end] if end < len(data) else data)
        self._pending = data[end:]
        if len(self._pending) > EVENT_BYTES and _too_large(self._pending):
            self._oversize = True
            self._pending = self._pending.lstrip(_LINE_ENDS)
            self._length, self._begins = len(self._pending), self._pending[:_BEGINS_BYTES]
            self._pending = self._pending[-_KEPT_BYTES:]

    def seen(self) -> int:
        return self._seen.tokens

    def finish(self, usage: Usage) -> None:
        if self._oversize:
            self._large(self._pending)
        elif self._pending:
            self._event(self._pending + b"\n\n")
        self._pending = b""
        _settle(usage, self._tally, self._asked, max(self._seen.tokens, self._unseen))

    def _events(self, data: bytes) -> None:
        """Whole events, one by one."""
        if len(data) <= EVENT_BYTES and data.find(b"\n\n") == len(data) - 2 and data.find(b"\r") < 0:
            self._event(data)  # what nearly every chunk is
            return
        start = 0
        for found in BLANK.finditer(data):
            event = data[start : found.end()] if start or found.end() < len(data) else data
            start = found.end()
            if len(event) > EVENT_BYTES and _too_large(event):
                event = event.lstrip(_LINE_ENDS)
                self._length, self._begins = len(event), event[:_BEGINS_BYTES]
                self._large(event)
            else:
                self._event(event)
        if start < len(data):
            self._event(data[start:])

    def _event(self, data: bytes) -> None:
        self._seen.event(data)
        if data.find(b'"usage"') < 0 or SAYS_USAGE.search(data) is None:
            return
        try:
            events = Scanner(EVENT_BYTES).feed(data)
        except Malformed:
            return
        for event in events:
            if event.data is not None and SAYS_USAGE.search(event.data) is not None:
                self._tally.load(event.data)

    def _large(self, tail: bytes) -> None:
        """One that is too large to keep has ended."""
        text = tail.rstrip(_LINE_ENDS)
        if not self._tally.search(text):
            self._seen.oversize(self._begins, self._length - (len(tail) - len(text)))
        self._oversize = False


def _too_large(event: bytes) -> bool:
    """By its text alone: which line ends are before and behind it depends on how the stream was cut."""
    return len(event.strip(_LINE_ENDS)) > EVENT_BYTES


class DocumentUsage:
    """Reads one JSON answer: whole while it is small, its tail only beyond that."""

    __slots__ = ("_asked", "_kept", "_seen_bytes", "_unseen", "_whole")

    def __init__(self, asked: int, unseen: int = 0) -> None:
        self._asked = asked
        self._unseen = unseen
        self._seen_bytes = 0
        self._kept = bytearray()
        self._whole = True

    def feed(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)
        self._kept += chunk
        if len(self._kept) > DOCUMENT_BYTES:
            self._whole = False
            del self._kept[:-TAIL_BYTES]

    def seen(self) -> int:
        return 0

    def finish(self, usage: Usage) -> None:
        tally = Tally()
        kept = bytes(self._kept)
        if self._whole:
            tally.load(kept)
        else:
            tally.search(kept)
        _settle(usage, tally, self._asked, max(estimate(self._seen_bytes), self._unseen))


class Decoded:
    """A reader behind a content coding. An answer that does not decode is read no further: it is estimated."""

    __slots__ = ("_begun", "_coding", "_decoder", "_left", "_reader")

    def __init__(self, reader: UsageReader, coding: str) -> None:
        self._reader = reader
        self._coding = coding
        self._decoder: zlib._Decompress | None = None
        self._begun = b""  # what is called deflate comes with and without the zlib header: two bytes tell
        self._left = DECODED_BYTES

    def feed(self, chunk: bytes) -> None:
        if self._left <= 0:
            return
        if self._decoder is None:
            self._begun += chunk
            if len(self._begun) < 2:
                return
            chunk, self._begun = self._begun, b""
            self._decoder = zlib.decompressobj(_window(self._coding, chunk))
        try:
            while chunk and self._left > 0:
                found = self._decoder.decompress(chunk, min(_STEP_BYTES, self._left))
                chunk = self._decoder.unconsumed_tail
                self._left -= len(found)
                self._reader.feed(found)
        except zlib.error:
            self._left = 0

    def seen(self) -> int:
        return self._reader.seen()

    def finish(self, usage: Usage) -> None:
        self._reader.finish(usage)


def _window(coding: str, begun: bytes) -> int:
    """zlib's name for a format: gzip, zlib (RFC 1950: method 8, check bits) or the bare stream."""
    if coding == "gzip":
        return 16 + zlib.MAX_WBITS
    wrapped = begun[0] & 0x0F == 8 and (begun[0] << 8 | begun[1]) % 31 == 0
    return zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS


class Unread:
    """An answer in a coding that is not decoded here: its bytes are counted and the tokens estimated."""

    __slots__ = ("_asked", "_seen_bytes", "_unseen")

    def __init__(self, asked: int, unseen: int = 0) -> None:
        self._asked = asked
        self._unseen = unseen
        self._seen_bytes = 0

    def feed(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)

    def seen(self) -> int:
        return estimate(self._seen_bytes)

    def finish(self, usage: Usage) -> None:
        _settle(usage, Tally(), self._asked, max(estimate(self._seen_bytes), self._unseen))


def reader(content_type: bytes, coding: str, asked: int, api: str = "", unseen: int = 0) -> UsageReader:
    """The reader for an answer of this type and content coding ("" and "identity": none); `asked` is the tokens of the
    request, as they were estimated, `unseen` what its output counts at least where the vendor does not say it."""
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return Unread(asked, unseen)
    essence = content_type.split(b";", 1)[0].strip().lower()
    events = essence == b"text/event-stream"
    inner: UsageReader = EventUsage(asked, api, unseen) if events else DocumentUsage(asked, unseen)
    return inner if coding in ("", "identity") else Decoded(inner, "deflate" if coding == "deflate" else "gzip")


def estimate(count: int) -> int:
    """Tokens of so many bytes."""
    return -(-count // BYTES_PER_TOKEN)


def _settle(usage: Usage, tally: Tally, asked: int, seen: int) -> None:
    told_in, told_out = tally.input_tokens, tally.output_tokens
    tally.put(usage)
    usage.input_tokens = told_in if told_in is not None else asked
    usage.output_tokens = told_out
    if told_in is None or not tally.complete:
        usage.estimated = True
        usage.output_tokens = max(told_out or 0, seen)


def _last_boundary(data: bytes) -> int:
    """Where the last complete event ends; 0 where none does."""
    best = 0
    for mark in (b"\n\n", b"\n\r\n", b"\r\r"):
        at = data.rfind(mark)
        if at >= 0:
            best = max(best, at + len(mark))
    return best


def _first_boundary(data: bytes) -> int:
    ends = [at + len(mark) for mark in (b"\n\n", b"\n\r\n", b"\r\r") if (at := data.find(mark)) >= 0]
    return min(ends, default=len(data))
