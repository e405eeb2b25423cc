"""Whatever is asked, counters in Redis say what those in memory say; a clock of Redis that jumps locks nobody out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import pytest

from gateway.core.accounts import Adjustment, Ask, Budget, Charge, Given
from gateway.core.ledger import Counters
from gateway.ledger.counters import MemoryCounters
from tests.ports.counting import SECOND, account, budget, charge, closed, grown, place, rate, sliding, taken
from tests.stores.redis_server import RealClock, node, server

BUDGETS: Sequence[Budget] = (
    budget("month", 3000, warn_at=(250, 500, 900)),
    budget("total", 20_000, period="total"),
    budget("rolling", 900, period="rolling", window=7200, warn_at=(500,)),
    budget("hour", 1000, period="hour"),
)
KEYS = ("acme", "b", None)


class Steps:
    """Random steps, the same for both."""

    def __init__(self, seed: int, one: Counters, two: Counters) -> None:
        self.chance = random.Random(seed)
        self.one, self.two = one, two
        self.open: dict[str, list[Charge]] = {}
        self.refused = 0

    def ask(self, at: int) -> Ask:
        chance = self.chance
        rates = [
            rate("r", chance.choice("kl"), 200),
            rate("s", "k", 90, shadow=True),
            sliding("w", chance.choice("kl"), 60),
        ]
        places = [place("p", chance.choice("kl"), 4), place("q", "k", 3, shadow=True), place("h", "k", 2, held=True)]
        charges = [charge(of, chance.randint(0, 60), chance.choice(KEYS)) for of in BUDGETS]
        return Ask(
            f"x{at}",
            [one for one in rates if chance.random() < 0.4],
            [one for one in places if chance.random() < 0.4],
            [one for one in charges if chance.random() < 0.6],
        )

    async def take(self, at: int) -> None:
        ask = self.ask(at)
        one, two = await taken(self.one, ask), await taken(self.two, ask)
        self.same(one, two)
        if one.ok:
            self.open[ask.id] = [closed(found, found.amount) for found in ask.charges]
        else:
            self.refused += 1

    async def grow(self) -> None:
        held = [(ident, charges) for ident, charges in self.open.items() if charges]
        if held:
            ident, charges = self.chance.choice(held)
            steps = [charge(found.budget, self.chance.randint(0, 30), *key(found)) for found in charges]
            self.same(await grown(self.one, ident, steps), await grown(self.two, ident, steps))

    def close(self) -> None:
        if self.open:
            ident = self.chance.choice(list(self.open))
            charges = self.open.pop(ident)
            for found in charges:
                found.settled = self.chance.randint(0, found.reserved + 10)
            self.one.close(ident, charges)
            self.two.close(ident, charges)

    async def adjust(self, at: int) -> None:
        of, chance = self.chance.choice(BUDGETS), self.chance
        who = account(of, chance.choice(KEYS))
        most = chance.choice([None, None, chance.randint(0, 5000)])
        wanted = Adjustment(
            f"a{at}", of, who, 0, most, most is None and chance.random() < 0.3, chance.randint(0, 100),
            chance.choice([0, int(time.time()) + 3600]),
        )  # fmt: skip
        await self.one.adjust(wanted)
        await self.two.adjust(wanted)

    def same(self, one: Given, two: Given) -> None:
        assert (one.ok, list(one.exceeded), list(one.places)) == (two.ok, list(two.exceeded), list(two.places))
        assert (list(one.charges), list(one.marks)) == (list(two.charges), list(two.marks))
        assert len(one.rates) == len(two.rates)
        for mine, theirs in zip(one.rates, two.rates, strict=True):
            assert abs(mine[0] - theirs[0]) <= 1  # Redis rounds its intervals up to microseconds
            for here, there in zip(mine[1:], theirs[1:], strict=True):
                assert abs(here - there) < 120 * SECOND  # a part of the window, and the time between the two

    async def balances(self) -> None:
        wanted = [(of, account(of, key)) for of in BUDGETS for key in KEYS]
        assert await self.one.balances(wanted) == await self.two.balances(wanted)


def key(found: Charge) -> tuple[str | None, ...]:
    return ("acme",) if "acme" in found.account.key else ("b",) if "b" in found.account.key else (None,)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counters_in_redis_say_what_counters_in_memory_say(seed: int) -> None:
    async def story() -> None:
        with server() as running:
            async with node(running.at()) as gateway:
                steps = Steps(seed, MemoryCounters(RealClock()), gateway.counters)
                for at in range(600):
                    kind = steps.chance.random()
                    if kind < 0.55:
                        await steps.take(at)
                    elif kind < 0.65:
                        await steps.grow()
                    elif kind < 0.97:
                        steps.close()
                    else:
                        await steps.adjust(at)
                    if at % 50 == 0:
                        await steps.balances()
                while steps.open:
                    steps.close()
                await steps.balances()
                assert 50 < steps.refused < 300
                assert not running.client().exists("{tollgate}open:gw-1")

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_clock_of_redis_that_was_put_back_locks_nobody_out_for_more_than_one_burst() -> None:
    async def story() -> None:
        with server() as running:
            client = running.client()
            async with node(running.at()) as gateway:
                smooth, window = rate(count=3600), sliding(most=2)
                for at in range(2):
                    assert (await taken(gateway.counters, Ask(str(at), [smooth, window], [], []))).ok
                [tat] = [found for found in client.scan_iter() if b"rate:rate" in found]
                [parts] = [found for found in client.scan_iter() if b"rate:window" in found]
                year = 365 * 86400 * 1_000_000  # as if what is there had been written a year ahead of now
                client.set(tat, int(client.get(tat)) + year)
                given = await taken(gateway.counters, Ask("3", [smooth], [], []))
                assert not given.ok
                assert given.rates[0][1] <= SECOND  # the next call in a second, all of them in an hour
                assert given.rates[0][2] <= 3600 * SECOND
                current = int(client.hget(parts, "hi"))
                client.delete(parts)
                ahead = current + year // (3600 * 1_000_000 // 64)
                client.hset(parts, mapping={str(ahead): 2, "n": 2, "lo": ahead, "hi": ahead})
                assert (await taken(gateway.counters, Ask("4", [window], [], []))).ok

    asyncio.run(asyncio.wait_for(story(), 60))
