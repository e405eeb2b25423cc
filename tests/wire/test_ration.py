"""A stream under a budget: whole events, each counted and asked for before it goes, the same bytes in the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, Usage
from gateway.core.reasons import Reason, Refusal
from gateway.wire.ration import EVENT_BYTES, Ration
from tests.stages.exchanges import exchange

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
NO = Refusal(Reason.BUDGET_EXHAUSTED, "used up", rule="b")


class Most:
    """The ledger of one exchange whose answer may have so many bytes; `elsewhere`: a turn of the loop away."""

    def __init__(self, most: int, *, elsewhere: bool = False) -> None:
        self.most, self.elsewhere, self.asked = most, elsewhere, 0

    def grow(self, of: Exchange) -> Any:
        self.asked += 1
        found = NO if of.usage.bytes_out > self.most else None
        return self._later(found) if self.elsewhere else found

    async def _later(self, found: Refusal | None) -> Refusal | None:
        await asyncio.sleep(0)
        return found


class Reader:
    """Notes what it is fed."""

    def __init__(self) -> None:
        self.fed: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        self.fed.append(chunk)

    def seen(self) -> int:
        return len(self.fed)

    def finish(self, usage: Usage) -> None: ...


def rationed(ledger: Most, headers: Sequence[tuple[bytes, bytes]] = EVENTS) -> tuple[Ration, Exchange, Reader]:
    found, reader = exchange(), Reader()
    snapshot: Any = SimpleNamespace(ledger=ledger)
    found.snapshot = snapshot
    found.reader = reader
    return Ration(found, headers), found, reader


async def let(ration: Ration, pieces: Sequence[bytes]) -> tuple[list[bytes], Refusal | None]:
    """As the wire does it: piece by piece, then the end."""
    found: list[bytes] = []
    for piece in [*pieces, b""]:
        passed, refusal = await ration.let(piece, bool(piece))
        found.append(passed)
        if refusal is not None:
            return found, refusal
    return found, None


STREAMS = st.lists(st.sampled_from([b"data: x\n\n", b"data: y\r\n\r\n", b": c\r\r", b"\n", b"id: 1\ndata: z\n\n"]))


@settings(deadline=None)
@given(STREAMS, st.binary(max_size=8), st.lists(st.integers(0, 200)), st.booleans())
def test_however_it_is_cut_what_is_let_through_is_what_came(
    events: list[bytes], tail: bytes, cuts: list[int], elsewhere: bool
) -> None:
    whole = b"".join(events) + tail
    at = [0, *sorted({cut for cut in cuts if 0 < cut < len(whole)}), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(at) if end > start]
    ration, found, reader = rationed(Most(10**9, elsewhere=elsewhere))
    passed, refusal = asyncio.run(let(ration, pieces))
    assert (b"".join(passed), refusal, b"".join(reader.fed)) == (whole, None, whole)
    assert found.usage.bytes_out == len(whole)


def test_the_event_for_which_there_is_no_room_is_counted_and_not_sent() -> None:
    ration, found, reader = rationed(Most(20))
    passed, refusal = asyncio.run(let(ration, [b"data: 1\n\ndata: 2\n\nda", b"ta: 3\n\ndata: 4\n\n"]))
    assert (b"".join(passed), refusal) == (b"data: 1\n\ndata: 2\n\n", NO)
    assert reader.fed == [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]
    assert found.usage.bytes_out == 18
    assert ration.between_events


def test_there_are_no_last_words_where_they_would_be_read_as_something_else() -> None:
    coded = [*EVENTS, (b"content-encoding", b"gzip")]
    for headers in (coded, [*EVENTS, (b"content-length", b"9")], [(b"content-type", b"application/json")]):
        ration, _, _ = rationed(Most(0), headers)
        assert asyncio.run(let(ration, [b"data: 1\n\n"])) == ([b""], NO)
        assert not ration.between_events


def test_an_event_that_is_too_large_to_be_kept_goes_in_pieces() -> None:
    ration, _, _ = rationed(Most(10**9))
    large = b"data: " + b"x" * EVENT_BYTES

    async def story() -> None:
        assert await ration.let(large[:-8], True) == (b"", None)
        assert await ration.let(large[-8:] + b"x", True) == (large + b"x", None)
        assert not ration.between_events
        assert await ration.let(b"yy\n\n", True) == (b"yy\n\n", None)
        assert ration.between_events

    asyncio.run(story())


def test_an_event_that_comes_byte_by_byte_is_not_read_again_for_each() -> None:
    ration, _, _ = rationed(Most(10**9))

    async def story() -> None:
        for _ in range(200_000):
            assert await ration.let(b"x", True) == (b"", None)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_nothing_is_asked_for_what_the_caller_does_not_get() -> None:
    ration, found, reader = rationed(Most(0))
    found.left = True
    assert asyncio.run(let(ration, [b"data: 1\n\n"]))[1] is None
    assert (found.usage.bytes_out, reader.fed) == (0, [b"data: 1\n\n"])
