"""Counters in memory that are filled from a log's sums stand as they stood before, hand-over and grants included."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway import config
from gateway.assembly_counters import Counting
from gateway.core.accounts import Account, Adjustment, Ask, Balance, Budget, Charge, ChargeAsk, key_text, shown
from gateway.core.records import timestamp
from gateway.ledger.periods import before, running
from gateway.stores.usage import UsageBook
from tests.stores.test_usage import Clock, Log
from tests.thorough import examples

NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00:00Z
DAY = 86_400.0
MONTH = Budget("month", ("subject.org",), "usd", 100_000_000, "month", carry=200)
HOUR = Budget("hour", ("subject.org",), "calls", 50, "rolling", window=3600)


class Gateway:
    """One life of a gateway that counts: what it settles is in its log, too."""

    def __init__(self, log: Log, clock: Clock, folder: Path) -> None:
        self.clock, self.log = clock, log
        self.book = UsageBook(folder / "usage.sqlite", log, clock, lambda: len(log.entries))
        unused: Any = None  # only counters elsewhere wait for a log
        self.counting = Counting(config.Settings(data_dir=folder), "gw", clock, unused)
        self._ids = itertools.count(len(log.entries))

    async def start(self) -> None:
        self.book.start()
        await self.counting.start(lambda: (MONTH, HOUR), self.book)

    async def stop(self) -> None:
        await self.counting.aclose()
        self.book.close()

    def account(self, budget: Budget, org: str) -> Account:
        return Account(budget.name, key_text((org,)), running(budget, self.clock.time()).period)

    async def spend(self, org: str, usd: int) -> None:
        now, ident = self.clock.time(), str(next(self._ids))
        charges, asks, said = [], [], []
        for budget, amount in ((MONTH, usd), (HOUR, 1)):
            span = running(budget, now)
            account, last = self.account(budget, org), before(budget, span)
            previous = Account(budget.name, account.key, last.period) if last is not None and budget.carry else None
            asks.append(ChargeAsk(budget, account, amount, budget.amount, span.ends, previous))
            charge = Charge(budget, account, amount)
            charge.settled = amount
            charges.append(charge)
            text = shown(amount, budget.unit)
            members = {"key": [org], "name": budget.name, "reserved": text, "settled": text, "unit": budget.unit}
            said.append(members | ({"period": span.period} if span.period else {}))
        given: Any = self.counting.counters.take(Ask(ident, (), (), asks))
        assert given.ok
        self.counting.counters.close(ident, charges)
        self.book.committed([self.log.outcome(ident, org=org, budgets=said, time=timestamp(now))])

    async def adjust(self, org: str, **members: int) -> None:
        """An administrator's act: in the log, then told."""
        now = self.clock.time()
        span, account = running(MONTH, now), self.account(MONTH, org)
        said = {name: shown(value, "usd") if name != "until" else value for name, value in members.items()}
        if "unset" in members:
            said = {"unset": True}
        entry = self.log.adjusted("set", MONTH, [org], **said, period=span.period, time=timestamp(now))
        self.book.committed([entry])
        ident = json.loads(entry[1])["id"]
        wanted: dict[str, Any] = {**members, **({"unset": True} if "unset" in members else {})}
        await self.counting.counters.adjust(Adjustment(ident, MONTH, account, span.ends, **wanted))

    async def balances(self, *orgs: str) -> list[Balance]:
        wanted = [(budget, self.account(budget, org)) for budget in (MONTH, HOUR) for org in orgs]
        return await self.counting.counters.balances(wanted)


def lives(folder: Path, *stories: Callable[[Gateway], Awaitable[None]]) -> None:
    """One story after the other, each in a life of its own over the same log and clock."""
    log, clock = Log(), Clock(NOVEMBER)

    async def live() -> None:
        for story in stories:
            found = Gateway(log, clock, folder)
            await found.start()
            await story(found)
            await found.stop()

    asyncio.run(live())


def test_accounts_stand_as_they_did_with_what_was_handed_over(tmp_path: Path) -> None:
    seen: list[list[Balance]] = []

    async def spending(gateway: Gateway) -> None:
        gateway.clock.now = NOVEMBER + 20 * DAY
        await gateway.spend("acme", 40_000_000)
        await gateway.spend("zeta", 90_000_000)
        gateway.clock.now = NOVEMBER + 31 * DAY  # the next month
        await gateway.spend("acme", 1_000_000)
        gateway.clock.now += 600
        await gateway.spend("acme", 2_000_000)
        seen.append(await gateway.balances("acme"))

    async def again(gateway: Gateway) -> None:
        seen.append(await gateway.balances("acme"))
        await gateway.spend("zeta", 1_000_000)  # begun in this life
        [month, _] = await gateway.balances("zeta")
        assert (month.granted, month.settled) == (2_000_000, 1_000_000)

    lives(tmp_path, spending, again)
    before_, after = seen
    assert before_ == after
    assert (after[0].granted, after[0].settled, after[0].left) == (12_000_000, 3_000_000, 109_000_000)
    assert after[1].settled == 2


def test_what_passes_with_time_has_passed_in_the_next_life(tmp_path: Path) -> None:
    async def spending(gateway: Gateway) -> None:
        for _ in range(5):
            await gateway.spend("acme", 1)
            gateway.clock.now += 900

    async def later(gateway: Gateway) -> None:
        [_, hour] = await gateway.balances("acme")
        assert hour.settled in (3, 4)  # the last four were within the hour; one is at its edge
        gateway.clock.now += 3700
        [month, hour] = await gateway.balances("acme")
        assert (month.settled, hour.settled) == (5, 0)

    lives(tmp_path, spending, later)


ORGS = ("a", "b", "c")


def test_whatever_is_spent_and_administered_stands_the_same_in_the_next_life(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    begun: set[tuple[str, str]] = set()

    async def live(gateway: Gateway) -> None:
        for _ in range(source.randrange(12)):
            org, act = source.choice(ORGS), source.randrange(7)
            [balance] = (await gateway.balances(org))[:1]
            begun.add((org, balance.account.period))
            if act == 0:
                gateway.clock.now += source.choice([3600, 2 * DAY, 20 * DAY])
                begun.discard((org, balance.account.period))
            elif act == 1:
                await gateway.adjust(org, most=source.randrange(200) * 1_000_000)
            elif act == 2:
                await gateway.adjust(org, unset=True)
            elif act == 3:
                await gateway.adjust(org, granted=source.randrange(1, 50) * 1_000_000)
            elif act == 4:
                until = int(gateway.clock.now + source.choice([3600, 10 * DAY, 50 * DAY]))
                await gateway.adjust(org, granted=source.randrange(1, 50) * 1_000_000, until=until)
            elif act == 5:
                await gateway.adjust(org, forgiven=max(0, balance.settled))
            elif balance.left >= 0:  # below it nothing fits, nor does nothing
                await gateway.spend(org, min(balance.left, source.randrange(30_000_000)))

    async def story() -> None:
        for run in range(examples(60)):
            log, clock, folder = Log(), Clock(NOVEMBER), tmp_path / str(run)
            folder.mkdir()
            begun.clear()
            for _ in range(source.randrange(2, 5)):
                found = Gateway(log, clock, folder)
                await found.start()
                await live(found)
                stood = await found.balances(*ORGS)
                await found.stop()
                again = Gateway(log, clock, folder)
                await again.start()
                for before_, after in zip(stood[:3], (await again.balances(*ORGS))[:3], strict=True):
                    org = json.loads(before_.account.key)[0]
                    if (org, before_.account.period) in begun:  # else its hand-over is not there yet
                        assert before_ == after, f"seed {seed}"
                await again.stop()

    asyncio.run(story())
