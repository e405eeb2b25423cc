"""Where a request body ends: by its count, or by a strict decoder of RFC 9112 section 7.1. Sans-I/O.

Of chunks: only CR LF ends a line, a size is 1 to 16 hex digits and nothing else, data ends exactly where its size says.
What it cannot place is refused; nothing is skipped to find the next size. It holds at most one unfinished line.
1. Size: `1*16HEXDIG`. 2. Extensions of RFC 9112 grammar without white space are read over, up to `EXTENSION_BYTES` for
the whole body. 3. CR LF behind the data. 4. The last chunk is zeros. 5. Trailers are field lines, capped, read to their
end and dropped: nothing in them may become a header. 6. The body has a limit, told before its bytes are kept.
"""

from __future__ import annotations

import re

from gateway.core.reasons import Reason, Refusal

EXTENSION_BYTES = 4096  # real clients send none
TRAILER_BYTES = 8192  # real clients send a digest or a timing
LINE_BYTES = 1024  # one size with its extensions

BAD_CHUNK = Refusal(Reason.MALFORMED, "The chunked body is malformed", rule="body.chunk", close=True)
BAD_TRAILER = Refusal(Reason.MALFORMED, "A trailer is malformed", rule="body.trailer", close=True)
LONG_TRAILER = Refusal(Reason.TOO_LARGE, "The trailers are too large", rule="body.trailer", status=431, close=True)
BODY_TOO_LARGE = Refusal(Reason.TOO_LARGE, "The request's body is too large", rule="body.large", close=True)

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:;"
    + _TOKEN
    + rb"(?:=(?:"
    + _TOKEN
    + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"))?)*)'
)
_TRAILER = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")

_IN_SIZE, _IN_DATA, _AFTER_DATA, _IN_TRAILERS = range(4)


class CountedBody:
    """One body of exactly `length` bytes. `received` counts what came."""

    __slots__ = ("_left", "received")

    def __init__(self, length: int) -> None:
        self._left = length
        self.received = 0

    def feed(self, data: bytes, into: list[bytes]) -> bytes | Refusal | None:
        """As ChunkedBody's; it refuses nothing."""
        taken = data[: self._left]
        into.append(taken)
        self._left -= len(taken)
        self.received += len(taken)
        return None if self._left else data[len(taken) :]


class ChunkedBody:
    """One body of at most `limit` bytes. `received` counts what was decoded."""

    __slots__ = ("_extensions", "_left", "_limit", "_rest", "_state", "_trailers", "received")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._state = _IN_SIZE
        self._rest = b""
        self._left = 0
        self._extensions = 0
        self._trailers = 0
        self.received = 0

    def feed(self, data: bytes, into: list[bytes]) -> bytes | Refusal | None:
        """Appends decoded bytes to `into`. None: more is needed; bytes: the body has ended, these came behind it."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while at < end:
            if self._state == _IN_DATA:
                piece = data[at : at + self._left]
                into.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _AFTER_DATA
                continue
            line_end = data.find(b"\n", at, at + TRAILER_BYTES + 1)
            if line_end < 0:
                return self._wait(data[at:])
            if data[line_end - 1 : line_end] != b"\r" or line_end == at:
                return BAD_CHUNK  # a bare LF ends nothing
            line = data[at : line_end - 1]
            at = line_end + 1
            refusal = self._line(line)
            if refusal is not None:
                return refusal
            if not line and self._state == _IN_TRAILERS:
                return data[at:]
        return None

    def _wait(self, rest: bytes) -> Refusal | None:
        """An unfinished line: kept if it may still become a good one, so that a wrong one is refused at once."""
        state = self._state
        if state == _AFTER_DATA:
            wrong = rest != b"\r"
        elif state == _IN_SIZE:
            bare = rest.removesuffix(b"\r")
            size, extended, _ = bare.partition(b";")
            wrong = (
                b"\r" in bare or len(rest) > LINE_BYTES or not _is_size_so_far(size) or (bool(extended) and not size)
            )
        elif len(rest) + self._trailers > TRAILER_BYTES:
            return LONG_TRAILER
        else:
            wrong = False
        if wrong:
            return BAD_CHUNK
        self._rest = rest
        return None

    def _line(self, line: bytes) -> Refusal | None:
        if self._state == _AFTER_DATA:
            self._state = _IN_SIZE
            return BAD_CHUNK if line else None  # 3
        if self._state == _IN_SIZE:
            return self._size(line)
        self._trailers += len(line) + 2
        if self._trailers > TRAILER_BYTES:
            return LONG_TRAILER
        if line and _TRAILER.fullmatch(line) is None:
            return BAD_TRAILER  # 5
        return None

    def _size(self, line: bytes) -> Refusal | None:
        found = _SIZE.fullmatch(line) if len(line) <= LINE_BYTES else None
        if found is None:
            return BAD_CHUNK  # 1
        self._extensions += len(found[2])
        if self._extensions > EXTENSION_BYTES:
            return BAD_CHUNK  # 2
        self._left = int(found[1], 16)
        if self._left == 0:
            self._state = _IN_TRAILERS  # 4
            return None
        self.received += self._left
        if self.received > self._limit:
            return BODY_TOO_LARGE  # 6
        self._state = _IN_DATA
        return None


def _is_size_so_far(text: bytes) -> bool:
    return len(text) <= 16 and not text.translate(None, b"0123456789abcdefABCDEF")
