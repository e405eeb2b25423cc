"""The counters from a worker: one question to the process that owns them, for everything an exchange asks.

1. An exchange's ask goes to the owner whole and is answered whole, so limits and budgets are exact over all workers.
2. `close` is told and not waited for. It comes behind the `take` of the same exchange, because what is said arrives in
   the order in which it was said.
3. Whoever is cancelled while it waits gives back what it may have been given.
4. Without its owner a worker can say nothing: CountersUnavailable, for good.
Amounts are whole numbers and travel as JSON; a budget as one string, which both sides remember.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, fields
from typing import Any, Final

import orjson

from gateway.core import posting
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
    PlaceAsk,
    RateAsk,
)
from gateway.core.ledger import Counters
from gateway.core.posting import Post, PostGone, PostRefused

BUDGETS: Final = 4096  # different ones that are remembered; a reload may make new ones


class RemoteCounters:
    """Implements `Counters`. Belongs to one event loop."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._budgets = Budgets()

    async def take(self, ask: Ask) -> Given:
        rates = [[one.name, one.key, one.interval, one.capacity, one.window, one.most, one.shadow] for one in ask.rates]
        places = [[one.name, one.key, one.most, one.shadow, one.held] for one in ask.places]
        said = orjson.dumps([ask.id, rates, places, [self._asked(one) for one in ask.charges]])
        try:
            return _given(await self._ask(posting.TAKE, said))
        except asyncio.CancelledError:  # 3
            held = [Charge(one.budget, one.account, one.amount) for one in ask.charges]
            for charge in held:
                charge.settled = 0
            self.close(ask.id, held)
            raise

    async def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given:
        said = orjson.dumps([id, [self._asked(one) for one in charges]])
        return _given(await self._ask(posting.GROW, said))

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        text = self._budgets.text
        held = [
            [text(one.budget), one.account.key, one.account.period, one.reserved, one.settled or 0] for one in charges
        ]
        self._post.tell(posting.CLOSE, 0, orjson.dumps([id, held]))

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        text = self._budgets.text
        said = orjson.dumps([[text(budget), account.key, account.period] for budget, account in accounts])
        found = orjson.loads(await self._ask(posting.BALANCES, said))
        return [
            Balance(account, budget.unit, *numbers) for (budget, account), numbers in zip(accounts, found, strict=True)
        ]

    async def adjust(self, adjustment: Adjustment) -> None:
        given = {one.name: getattr(adjustment, one.name) for one in fields(Adjustment)}
        given["budget"] = self._budgets.text(adjustment.budget)
        given["account"] = [adjustment.account.key, adjustment.account.period]
        await self._ask(posting.ADJUST, orjson.dumps(given))

    async def check(self) -> None:
        await self._ask(posting.COUNTS, b"")

    def _asked(self, one: ChargeAsk) -> list[Any]:
        account, previous = one.account, one.previous
        before = previous.period if previous is not None else None
        return [self._budgets.text(one.budget), account.key, account.period, one.amount, one.most, one.ends, before]

    async def _ask(self, kind: bytes, said: bytes) -> bytes:
        try:
            return await self._post.ask(kind, said)
        except (PostGone, PostRefused) as error:
            raise CountersUnavailable(str(error)) from None


class Budgets:
    """A budget as one string and back, each looked at once."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Budget, str]] = {}
        self._known: dict[str, Budget] = {}

    def text(self, budget: Budget) -> str:
        known = self._texts.get(id(budget))
        if known is None or known[0] is not budget:
            if len(self._texts) >= BUDGETS:
                self._texts.clear()
            known = self._texts[id(budget)] = (budget, orjson.dumps(astuple(budget)).decode())
        return known[1]

    def budget(self, text: str) -> Budget:
        """Raises ValueError."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= BUDGETS:
                self._known.clear()
            found: list[Any] = [tuple(one) if isinstance(one, list) else one for one in orjson.loads(text)]
            try:
                known = self._known[text] = Budget(*found)
            except TypeError as error:
                raise ValueError(f"no budget: {error}") from None
        return known


class CountersClerk:
    """The owner's side, one worker's. What the worker holds is remembered, so that it is given back when the worker is
    gone. `open`: whether an exchange's intent is in the log and its terminal record is not."""

    def __init__(self, counters: Counters, post: Post, open: Callable[[str], bool]) -> None:
        self._counters = counters
        self._budgets = Budgets()
        self._open = open
        self.held: dict[str, list[Charge]] = {}
        self._closed: dict[str, list[Charge]] = {}
        self._asking: dict[str, bytes | None] = {}  # and what was said of it meanwhile
        post.told(posting.CLOSE, self._close)
        post.asked(posting.TAKE, self._take)
        post.asked(posting.GROW, self._grow)
        post.asked(posting.BALANCES, self._balances)
        post.asked(posting.ADJUST, self._adjust)
        post.asked(posting.COUNTS, self._check)

    def over(self, exchange: str) -> None:
        """Its terminal record was taken."""
        self._closed.pop(exchange, None)

    def lost(self, settled: Callable[[str], Callable[[Charge], int] | None]) -> None:
        """The worker is gone: closes what it held. `settled` of an exchange says what a charge came to; None where
        nothing was forwarded."""
        held, self.held = self.held, {}
        for exchange, charges in held.items():
            came = settled(exchange)
            for charge in charges:
                charge.settled = came(charge) if came is not None else 0
            self._counters.close(exchange, charges)
        self._closed.clear()

    def came(self, exchange: str) -> list[Charge]:
        """What an exchange without terminal record was closed at already."""
        return self._closed.get(exchange, [])

    def _take(self, said: bytes) -> bytes | Awaitable[bytes]:
        ident, rates, places, charges = orjson.loads(said)
        asked = [self._charge(one) for one in charges]
        ask = Ask(ident, [RateAsk(*one) for one in rates], [PlaceAsk(*one) for one in places], asked)
        given = self._counters.take(ask)
        return self._taken(ident, asked, given) if isinstance(given, Given) else self._later(ident, asked, given)

    async def _later(self, ident: str, asked: list[ChargeAsk], given: Awaitable[Given]) -> bytes:
        """Where the counters are elsewhere themselves. Whoever was cancelled meanwhile has said so already."""
        self._asking[ident] = None
        try:
            found = await given
        finally:
            said = self._asking.pop(ident)
        answer = self._taken(ident, asked, found)
        if said is not None:
            self._close(0, said)
        return answer

    def _taken(self, ident: str, asked: list[ChargeAsk], given: Given) -> bytes:
        if given.ok:
            held = self.held.setdefault(ident, [])
            for one in asked:
                for charge in held:
                    if charge.account == one.account:
                        charge.reserved += one.amount
                        break
                else:
                    held.append(Charge(one.budget, one.account, one.amount))
        return orjson.dumps([given.ok, given.rates, given.places, given.charges, given.exceeded, given.marks])

    def _grow(self, said: bytes) -> bytes | Awaitable[bytes]:
        ident, charges = orjson.loads(said)
        asked = [self._charge(one) for one in charges]
        given = self._counters.grow(ident, asked)
        return self._taken(ident, asked, given) if isinstance(given, Given) else self._later(ident, asked, given)

    def _close(self, number: int, said: bytes) -> None:
        ident, found = orjson.loads(said)
        if ident in self._asking:
            self._asking[ident] = said
            return
        if self.held.pop(ident, None) is None:
            return  # nothing was given
        charges = []
        for text, key, period, reserved, settled in found:
            budget = self._budgets.budget(text)
            charge = Charge(budget, Account(budget.name, key, period), reserved)
            charge.settled = settled
            charges.append(charge)
        self._counters.close(ident, charges)
        if charges and self._open(ident):
            self._closed[ident] = charges

    async def _balances(self, said: bytes) -> bytes:
        wanted = []
        for text, key, period in orjson.loads(said):
            budget = self._budgets.budget(text)
            wanted.append((budget, Account(budget.name, key, period)))
        found = await self._counters.balances(wanted)
        return orjson.dumps([[one.most, one.granted, one.reserved, one.settled] for one in found])

    async def _adjust(self, said: bytes) -> bytes:
        given = orjson.loads(said)
        budget = self._budgets.budget(given.pop("budget"))
        account = Account(budget.name, *given.pop("account"))
        await self._counters.adjust(Adjustment(budget=budget, account=account, **given))
        return b""

    async def _check(self, said: bytes) -> bytes:
        await self._counters.check()
        return b""

    def _charge(self, one: list[Any]) -> ChargeAsk:
        text, key, period, amount, most, ends, before = one
        budget = self._budgets.budget(text)
        previous = Account(budget.name, key, before) if before is not None else None
        return ChargeAsk(budget, Account(budget.name, key, period), amount, most, ends, previous)


def _given(said: bytes) -> Given:
    ok, rates, places, charges, exceeded, marks = orjson.loads(said)
    return Given(ok, [tuple(one) for one in rates], places, charges, exceeded, [tuple(one) for one in marks])
