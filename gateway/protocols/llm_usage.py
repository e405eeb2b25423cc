"""Token usage of model answers, read beside the stream and never in its way.

1. Nothing is held back: `feed` sees a copy and keeps at most one event of `EVENT_BYTES`, or of a document as much.
2. Only what may hold usage (`"usage": {`) is parsed. Counts are cumulative: the last one that was said counts, none is
ever added up. 3. An event or document too large to keep is skipped, but its tail is searched: vendors say usage last.
4. gzip and deflate are decoded into a bounded copy; other codings are not read. 5. What was not said, or not to the
end, is estimated from the bytes (4 to a token) and marked so.
`input_tokens` is all input, also what was read from or written to the vendor's cache; `cached_tokens` what was read.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import TypeGuard

import orjson

from gateway.core.exchange import Usage
from gateway.core.ports import UsageReader
from gateway.core.reasons import Malformed
from gateway.core.sse import Scanner

EVENT_BYTES = 256 * 1024  # an event larger than this is text or an image, its usage stands in the tail
DOCUMENT_BYTES = 256 * 1024  # the same for a JSON answer: embeddings are megabytes with their usage at the end
TAIL_BYTES = 16 * 1024
DECODED_BYTES = 32 * 1024 * 1024  # past this a coded answer is a bomb or a library: no longer read
BYTES_PER_TOKEN = 4
MOST_TOKENS = 10**12  # of one answer, a million times what any takes; a record has no number above 2^53-1
_COUNTS = frozenset(
    {
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
        "cache_creation_input_tokens",
    }
)  # fmt: skip

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_STEP_BYTES = 256 * 1024


class Tally:
    """The counts as they were last said, by the names the vendors use."""

    __slots__ = ("_counts", "complete")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.complete = False  # whether a vendor said what it says at the end only

    def load(self, data: bytes) -> None:
        """From one whole document; what the parser does not take (a lone surrogate) may still say its usage."""
        try:
            self.read(orjson.loads(data))
        except orjson.JSONDecodeError:
            self.search(data)

    def search(self, tail: bytes) -> None:
        """From the end of a document of which the beginning is gone."""
        found = _tail_usage(tail[-TAIL_BYTES:])
        if found is not None:
            self.take(found, final=True)

    def read(self, document: object) -> None:
        """Takes the usage of a chat completion, chunk, response, response event, message or message event."""
        if not isinstance(document, dict):
            return
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                self.take(holder["usage"], final=document.get("type") != "message_start")

    def take(self, usage: Mapping[str, object], *, final: bool) -> None:
        for name, value in usage.items():
            if name in _COUNTS:
                if _is_count(value):
                    self._counts[name] = value
            elif name in ("prompt_tokens_details", "input_tokens_details") and isinstance(value, dict):
                cached = value.get("cached_tokens")
                if _is_count(cached):
                    self._counts["cached_tokens"] = cached
        self.complete = self.complete or final

    @property
    def input_tokens(self) -> int | None:
        counts = self._counts
        if "prompt_tokens" in counts:
            return counts["prompt_tokens"]
        if "input_tokens" not in counts:
            return None
        apart = counts.get("cache_read_input_tokens", 0) + counts.get("cache_creation_input_tokens", 0)
        return counts["input_tokens"] + apart

    @property
    def output_tokens(self) -> int | None:
        found = self._counts.get("completion_tokens")
        return found if found is not None else self._counts.get("output_tokens")

    @property
    def cached_tokens(self) -> int | None:
        found = self._counts.get("cached_tokens")
        return found if found is not None else self._counts.get("cache_read_input_tokens")


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_TOKENS


class EventUsage:
    """Reads a stream of events. `asked_bytes` is the length of the request, for the estimate."""

    __slots__ = ("_asked_bytes", "_oversize", "_pending", "_seen_bytes", "_tally")

    def __init__(self, asked_bytes: int) -> None:
        self._asked_bytes = asked_bytes
        self._seen_bytes = 0
        self._tally = Tally()
        self._pending = b""  # the event that has not ended yet; its tail only, once it is too large
        self._oversize = False

    def feed(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)
        data = self._pending + chunk if self._pending else chunk
        end = len(data) if data.endswith(b"\n\n") else _last_boundary(data)
        if self._oversize and end:
            first = _first_boundary(data)
            self._tally.search(data[:first])
            self._oversize = False
            self._events(data[first:end])
        elif end:
            self._events(data[:end] if end < len(data) else data)
        self._pending = data[end:]
        if len(self._pending) > EVENT_BYTES:
            self._oversize = True
        if self._oversize:
            self._pending = self._pending[-TAIL_BYTES:]

    def finish(self, usage: Usage) -> None:
        if self._oversize:
            self._tally.search(self._pending)
        else:
            self._events(self._pending + b"\n\n")
        self._pending = b""
        _settle(usage, self._tally, self._asked_bytes, self._seen_bytes)

    def _events(self, data: bytes) -> None:
        if _USAGE.search(data) is None:
            return
        try:
            events = Scanner(EVENT_BYTES).feed(data)
        except Malformed:
            return
        for event in events:
            if event.data is not None and _USAGE.search(event.data) is not None:
                self._tally.load(event.data)


class DocumentUsage:
    """Reads one JSON answer: whole while it is small, its tail only beyond that."""

    __slots__ = ("_asked_bytes", "_kept", "_seen_bytes", "_whole")

    def __init__(self, asked_bytes: int) -> None:
        self._asked_bytes = asked_bytes
        self._seen_bytes = 0
        self._kept = bytearray()
        self._whole = True

    def feed(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)
        self._kept += chunk
        if len(self._kept) > DOCUMENT_BYTES:
            self._whole = False
            del self._kept[:-TAIL_BYTES]

    def finish(self, usage: Usage) -> None:
        tally = Tally()
        kept = bytes(self._kept)
        if self._whole:
            tally.load(kept)
        else:
            tally.search(kept)
        _settle(usage, tally, self._asked_bytes, self._seen_bytes)


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
                found = self._decoder.decompress(chunk, _STEP_BYTES)
                chunk = self._decoder.unconsumed_tail
                self._left -= len(found)
                self._reader.feed(found)
        except zlib.error:
            self._left = 0

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

    __slots__ = ("_asked_bytes", "_seen_bytes")

    def __init__(self, asked_bytes: int) -> None:
        self._asked_bytes = asked_bytes
        self._seen_bytes = 0

    def feed(self, chunk: bytes) -> None:
        self._seen_bytes += len(chunk)

    def finish(self, usage: Usage) -> None:
        _settle(usage, Tally(), self._asked_bytes, self._seen_bytes)


def reader(content_type: bytes, coding: str, asked_bytes: int) -> UsageReader:
    """The reader for an answer of this type and content coding ("" and "identity": none)."""
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return Unread(asked_bytes)
    essence = content_type.split(b";", 1)[0].strip().lower()
    inner: UsageReader = EventUsage(asked_bytes) if essence == b"text/event-stream" else DocumentUsage(asked_bytes)
    return inner if coding in ("", "identity") else Decoded(inner, "deflate" if coding == "deflate" else "gzip")


def _settle(usage: Usage, tally: Tally, asked_bytes: int, seen_bytes: int) -> None:
    told_in, told_out = tally.input_tokens, tally.output_tokens
    usage.cached_tokens = tally.cached_tokens
    usage.input_tokens = told_in if told_in is not None else _estimate(asked_bytes)
    usage.output_tokens = told_out
    if told_in is None or not tally.complete:
        usage.estimated = True
        usage.output_tokens = max(told_out or 0, _estimate(seen_bytes))


def _estimate(count: int) -> int:
    return -(-count // BYTES_PER_TOKEN)


def _tail_usage(tail: bytes) -> dict[str, object] | None:
    """The last `"usage": {...}` of a cut document. In JSON text a quote is escaped, so no text of a model can look like
    that; a tool's own input can, but the vendors say usage after it."""
    last = None
    for last in _USAGE.finditer(tail):  # noqa: B007 (the last one is wanted)
        pass
    if last is None:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(tail[last.end() - 1 :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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
