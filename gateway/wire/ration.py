"""A stream under a budget: every piece of it is asked for before it is sent, and it ends where it may not go on.

1. Events are whole: a piece that ends in mid-event keeps its tail back until the rest is here, so that an end in the
   protocol's own words never stands within an event. Joined, what was let through is what came, byte for byte.
2. A piece is counted, then the ledger is asked, then it is sent. The one for which there is no room is counted, since
   the upstream made it, and not sent: the caller gets nothing beyond the budget, and what is booked passes it by one
   event.
3. An event too large to be kept is let go in pieces: then, as in anything that is no stream of plain events, there is
   no place for last words, and the answer is cut.
It must never wait for more of the upstream than the end of the event that has begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import Refusal
from gateway.core.sse import BLANK

EVENT_BYTES: Final = 256 * 1024  # a larger event is text or an image: it is let go as it comes


class Ration:
    """Of one answer. `headers` are those that the caller gets."""

    __slots__ = ("_bounded", "_exchange", "_pending", "_plain", "_whole")

    def __init__(self, exchange: Exchange, headers: Sequence[Header]) -> None:
        names = dict(headers)
        kind = names.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self._exchange: Final = exchange
        self._plain: Final = kind == b"text/event-stream" and names.get(b"content-encoding", b"identity") == b"identity"
        self._bounded: Final = b"content-length" in names or exchange.head.method == "HEAD"
        self._pending = bytearray()
        self._whole = True  # what was let go ended with an event

    @property
    def between_events(self) -> bool:
        """Whether something can be said behind what was let go."""
        return self._plain and self._whole and not self._bounded

    async def let(self, data: bytes, more: bool) -> tuple[bytes, Refusal | None]:
        """What of it may be sent now, and why nothing behind it may. `more` False: nothing else comes."""
        exchange = self._exchange
        reader, usage = exchange.reader, exchange.usage
        passed: list[bytes] = []
        refusal: Refusal | None = None
        for piece in self._pieces(data, more):
            if reader is not None:
                reader.feed(piece)
            sent = 0 if exchange.left else len(piece)
            usage.bytes_out += sent
            refusal = await grown(exchange)
            if refusal is not None:
                usage.bytes_out -= sent  # 2
                break
            passed.append(piece)
        if passed:
            self._whole = BLANK.search(passed[-1][-4:]) is not None
        return passed[0] if len(passed) == 1 else b"".join(passed), refusal

    def _pieces(self, data: bytes, more: bool) -> list[bytes]:
        if not self._plain:
            return [data] if data else []
        pending = self._pending
        if pending:
            searched = max(0, len(pending) - 3)
            pending += data
            if more and len(pending) <= EVENT_BYTES and BLANK.search(pending, searched) is None:
                return []
            data = bytes(pending)
            pending.clear()
        found: list[bytes] = []
        start = 0
        for end in BLANK.finditer(data):
            found.append(data[start : end.end()])
            start = end.end()
        if not more or len(data) - start > EVENT_BYTES:  # 3
            if start < len(data):
                found.append(data[start:])
        else:
            pending += data[start:]
        return found


async def grown(exchange: Exchange) -> Refusal | None:
    """Asks the ledger for what was counted by now; None where there is room for it."""
    asked = exchange.snapshot.ledger.grow(exchange)
    return asked if asked is None or isinstance(asked, Refusal) else await asked


async def within(exchange: Exchange, size: int) -> Refusal | None:
    """Whether an answer that is judged as a whole may be this long by now; nothing of it was sent."""
    exchange.usage.bytes_out = size
    refusal = await grown(exchange)
    if refusal is not None:
        exchange.usage.bytes_out = 0
    return refusal
