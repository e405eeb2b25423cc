"""What a worker holds of its owner's counters, and who gives it back when nobody says what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from gateway.core.accounts import (
    Account,
    Adjustment,
    Ask,
    Balance,
    Budget,
    Charge,
    ChargeAsk,
    CountersUnavailable,
    Given,
)  # fmt: skip
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.remote import CountersClerk, RemoteCounters
from tests.ports.counting import RealClock, account, budget, charge, closed, place, rate
from tests.wire.posts import posts

TOKENS = budget(amount=100, period="total", warn_at=(500,))


def story(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await job()

    asyncio.run(bounded())


async def reserved(counters: Any, of: Budget = TOKENS) -> tuple[int, int]:
    [found] = await counters.balances([(of, account(of))])
    return found.reserved, found.settled


class Slow:
    """Counters that are elsewhere themselves: every answer comes a few turns later."""

    def __init__(self, counters: MemoryCounters) -> None:
        self._counters = counters
        self.go = asyncio.Event()

    async def take(self, ask: Ask) -> Given:
        await self.go.wait()
        found = self._counters.take(ask)
        assert isinstance(found, Given)
        return found

    async def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given:
        await self.go.wait()
        found = self._counters.grow(id, charges)
        assert isinstance(found, Given)
        return found

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        self._counters.close(id, charges)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await self._counters.balances(accounts)

    async def adjust(self, adjustment: Adjustment) -> None:
        await self._counters.adjust(adjustment)

    async def check(self) -> None:
        raise CountersUnavailable("nobody is there")


def test_who_is_cancelled_while_it_asks_holds_nothing() -> None:
    async def main() -> None:
        memory = MemoryCounters(RealClock())
        async with posts() as (worker, owner):
            clerk = CountersClerk(memory, owner, lambda exchange: True)
            counters = RemoteCounters(worker)
            for turns in range(12):  # cancelled at each step of the way there and back
                asking = asyncio.ensure_future(
                    counters.take(Ask(f"e-{turns}", [], [place(most=1)], [charge(TOKENS, 60)]))
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                try:
                    given = await asking
                except asyncio.CancelledError:
                    pass
                else:  # it was there before: then the exchange has it, and closes it
                    assert given.ok
                    counters.close(f"e-{turns}", [closed(charge(TOKENS, 60), 0)])
                await counters.check()  # whose answer comes behind what was closed
                assert await reserved(memory) == (0, 0)
            assert not clerk.held

    story(main)


def test_the_same_where_the_owner_itself_has_to_ask() -> None:
    async def main() -> None:
        memory = MemoryCounters(RealClock())
        slow = Slow(memory)
        async with posts() as (worker, owner):
            clerk = CountersClerk(slow, owner, lambda exchange: True)
            counters = RemoteCounters(worker)
            asking = asyncio.ensure_future(counters.take(Ask("e", [rate()], [place()], [charge(TOKENS, 60)])))
            for _ in range(10):
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            with pytest.raises(CountersUnavailable, match="nobody is there"):
                await counters.check()
            slow.go.set()
            assert await reserved(counters) == (0, 0)
            await asyncio.sleep(0)
            assert await reserved(memory) == (0, 0)
            assert not clerk.held

    story(main)


def test_what_a_dead_worker_held_is_settled_where_it_was_forwarded_and_given_back_where_not() -> None:
    async def main() -> None:
        memory = MemoryCounters(RealClock())
        async with posts() as (worker, owner):
            clerk = CountersClerk(memory, owner, lambda exchange: True)
            counters = RemoteCounters(worker)
            for exchange, amount in (("sent", 30), ("refused later", 20), ("told", 10)):
                assert (await counters.take(Ask(exchange, [], [place(most=3)], [charge(TOKENS, amount)]))).ok
            assert (await counters.grow("sent", [charge(TOKENS, 5)])).ok
            counters.close("told", [closed(charge(TOKENS, 10), 7)])
            assert await reserved(counters) == (55, 7)
            assert [one.settled for one in clerk.came("told")] == [7], "until its record is there"
            clerk.over("told")
            assert clerk.came("told") == []
            clerk.lost(lambda exchange: (lambda held: held.reserved) if exchange == "sent" else None)
            assert await reserved(memory) == (0, 42)
            again = memory.take(Ask("again", [], [place(most=3)], []))
            assert isinstance(again, Given)
            assert list(again.places) == [2], "every place came back"

    story(main)


def test_without_their_owner_nobody_can_say_how_things_stand() -> None:
    async def main() -> None:
        async with posts() as (worker, owner):
            counters = RemoteCounters(worker)
            owner.close()
            for asked in (counters.take(Ask("e", [], [], [])), counters.grow("e", []), counters.check()):
                with pytest.raises(CountersUnavailable):
                    await asked
            counters.close("e", [])

    story(main)
