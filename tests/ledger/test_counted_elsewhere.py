"""A ledger whose counters are elsewhere: it waits, says no while nobody can say, and gives back what it may have been
given when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

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
)
from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.ledger import Asking, Memory
from gateway.ledger.limits import LimitSettings
from gateway.stages.ledger import Ledger
from tests.ledger.books import Books, budget
from tests.ledger.test_growth import Reader

CALLS = budget(amount=1)


class Elsewhere:
    """Counters on the other side of a wire: an ask is counted when it gets there, the answer comes when it is let
    through. `away`: nobody answers."""

    def __init__(self, counters: MemoryCounters) -> None:
        self.counters = counters
        self.answers = asyncio.Event()
        self.answers.set()
        self.away = False

    async def take(self, ask: Ask) -> Given:
        if self.away:
            raise CountersUnavailable("nobody is there")
        given = self.counters.take(ask)
        await self.answers.wait()
        return given

    async def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given:
        if self.away:
            raise CountersUnavailable("nobody is there")
        await self.answers.wait()
        return self.counters.grow(id, charges)

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        self.counters.close(id, charges)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await self.counters.balances(accounts)

    async def adjust(self, adjustment: Adjustment) -> None:
        await self.counters.adjust(adjustment)

    async def check(self) -> None: ...


def apart(*budgets: Budget, limits: Sequence[LimitSettings] = ()) -> tuple[Books, Elsewhere]:
    books = Books(budgets, limits)
    elsewhere = Elsewhere(books.counters)
    books.ledger = Asking(limits, budgets, elsewhere, books.clock, Memory())
    return books, elsewhere


async def taken(books: Books, found: Exchange) -> Any:
    said = Ledger()(found)
    return await said if isinstance(said, Awaitable) else said


def test_an_answer_from_elsewhere_is_an_answer() -> None:
    async def story() -> None:
        books, _ = apart(CALLS, limits=[LimitSettings("l", ("subject.id",), rate=5)])
        found = books.tool()
        assert await taken(books, found) is CONTINUE
        assert (len(found.charges), found.limits) == (1, [{"name": "l", "remaining": 4}])
        refused = await taken(books, books.tool())
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.BUDGET_EXHAUSTED

    asyncio.run(story())


def test_while_nobody_can_say_it_is_no() -> None:
    async def story() -> None:
        books, elsewhere = apart(CALLS)
        elsewhere.away = True
        found = books.tool()
        refused = await taken(books, found)
        assert isinstance(refused, Refusal)
        assert (refused.reason, refused.rule, refused.retry_after) == (Reason.OVERLOADED, "counters", 1)
        assert (found.charges, found.places) == ([], [])

    asyncio.run(story())


def test_who_is_cancelled_while_it_waits_gives_back_what_it_was_given() -> None:
    async def story() -> None:
        place = LimitSettings("one", ("subject.id",), concurrent=1)
        books, elsewhere = apart(CALLS, limits=[place])
        elsewhere.answers.clear()
        found = books.tool()
        waiting = asyncio.ensure_future(taken(books, found))
        await asyncio.sleep(0)
        assert books.counters.held() == (1, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert books.counters.held() == (0, 0)
        assert (found.charges, found.places) == ([], [])
        elsewhere.answers.set()
        assert await taken(books, books.tool()) is CONTINUE

    asyncio.run(story())


def test_a_stream_goes_on_within_what_it_holds_while_nobody_can_say_and_no_further() -> None:
    async def story() -> None:
        books, elsewhere = apart(budget("usd", 10**7, "usd"))
        found, reader = books.chat(stream=True, max_tokens=100_000), Reader()
        assert await taken(books, found) is CONTINUE
        found.reader = reader
        elsewhere.away = True
        held = found.charges[0].reserved
        through = 0
        refusal: Any = None
        while refusal is None:
            reader.output += 10
            said = books.ledger.grow(found)
            refusal = await said if isinstance(said, Awaitable) else said
            through = reader.output
        assert (refusal.reason, refusal.rule) == (Reason.OVERLOADED, "counters")
        assert 1024 < through <= 1040
        assert found.charges[0].reserved == held
        elsewhere.away = False
        said = books.ledger.grow(found)
        assert (await said if isinstance(said, Awaitable) else said) is None, "it could be had again"

    asyncio.run(story())


def test_policy_is_told_what_was_last_heard_and_nothing_before() -> None:
    async def story() -> None:
        books, _ = apart(budget(amount=7))
        found = books.tool()
        assert books.ledger.remaining(found, found.call) == {}
        await taken(books, found)
        heard = books.ledger.remaining(found, found.call)["org-month"]
        assert isinstance(heard, dict)
        assert heard["remaining"] == "6"

    asyncio.run(story())
