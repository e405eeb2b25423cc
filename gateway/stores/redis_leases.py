"""Counters in Redis, lease: as strict while Redis is there; while it is away, each gateway goes on within what it
holds.

Rules, numbered as in the code:
1. While Redis answers, every exchange asks it, exactly as strict. A lease is a reserve, not a cache.
2. Of each account that it uses a gateway holds a lease: reserved in Redis like an exchange's charge, as much as it
   uses in `lasts` seconds and its largest call twice over, but never more than `share` of the amount, nor than an
   eighth of what is left. So it shrinks towards the edge, and is given back where somebody is refused for it.
3. While Redis is away, charges come out of the lease; where it is used up nobody can say, and nobody is let through.
   Rates and places are divided: each gateway has its part of them, by how many there were lately.
4. What was spent of a lease is settled in Redis when that is back; a lease may not be used `HOLD_SECONDS` after
   Redis was last heard, and other gateways free it `REAP_SECONDS` after its gateway was.
It must never let more through of a budget than is left in Redis plus what the lease has reserved there.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

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
from gateway.core.ports import Clock
from gateway.stores.redis_counters import RedisCounters
from gateway.stores.redis_words import lease_key

HOLD_SECONDS = 100.0
IDLE_SECONDS = 300.0  # of no use, after which a lease is given back
LEASES_LIMIT = 2000  # accounts: all of them are looked at every two seconds

_SECOND: Final = 1_000_000_000


class Lease:
    """What this gateway holds ahead of one account: `out` of it is with open exchanges, `spent` was settled since
    Redis was last told. `used`, `rate` (per second) and `largest` say how much of it to hold, `left` what Redis had
    last."""

    __slots__ = ("ask", "asking", "id", "largest", "last", "left", "out", "rate", "spent", "used")

    def __init__(self, id: str, ask: ChargeAsk) -> None:
        self.id: Final = id
        self.ask = ask  # the last one: what the account may hold altogether
        self.asking = False
        self.out = 0
        self.spent = 0
        self.left = 0
        self.used = 0
        self.largest = 0
        self.last = 0.0  # when it was used last
        self.rate = 0.0

    def wanted(self, held: int, share: float, lasts: float) -> int:
        """2."""
        use = int(self.rate * lasts) + 2 * self.largest
        return max(0, min(int(self.ask.most * share), use, (self.left + held) // 8))


class Local:
    """What an exchange was given while Redis was away. `beside`: it holds more in Redis, where all of it is settled."""

    __slots__ = ("beside", "charges", "places")

    def __init__(self, places: list[tuple[str, str]], charges: dict[Account, int], beside: bool) -> None:
        self.places: Final = places
        self.charges: Final = charges
        self.beside: Final = beside


class LeasedCounters:
    """core.ledger.Counters. `nodes` says how many gateways count together; `tend` is called every few seconds while
    Redis is there, and as soon as it is back."""

    def __init__(
        self, strict: RedisCounters, clock: Clock, nodes: Callable[[], int], share: float, lasts: float
    ) -> None:
        self.strict: Final = strict
        self.without = 0  # exchanges that were let through without Redis
        self._clock: Final = clock
        self._nodes: Final = nodes
        self._share: Final = share
        self._lasts: Final = lasts
        self._leases: Final[dict[Account, Lease]] = {}
        self._local: Final[dict[str, Local]] = {}
        self._arrivals: Final[dict[tuple[str, str], int]] = {}
        self._inside: Final[dict[tuple[str, str], int]] = {}
        self._tended = clock.monotonic()

    # -- what the pipeline asks

    def take(self, ask: Ask) -> Given | Awaitable[Given]:
        for charge in ask.charges:
            self._use(charge)
        try:
            return self._taken(ask, self.strict.take(ask))  # 1
        except CountersUnavailable as why:
            return self._without(ask, why)

    def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given | Awaitable[Given]:
        local = self._local.get(id)
        if local is not None:
            return self._grown(local, charges)
        try:
            return self._grown_there(id, charges, self.strict.grow(id, charges))
        except CountersUnavailable:
            return self._grown_here(id, charges)

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        local = self._local.pop(id, None)
        if local is None or local.beside:
            self.strict.close(id, charges)
        if local is None:
            return
        for place in local.places:
            left = self._inside[place] - 1
            if left:
                self._inside[place] = left
            else:
                del self._inside[place]
        for account, amount in local.charges.items():
            self._leases[account].out -= amount
        if not local.beside:
            for charge in charges:
                lease = self._leases.get(charge.account)
                if lease is not None and charge.account in local.charges:
                    lease.spent += charge.settled or 0

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await self.strict.balances(accounts)

    async def adjust(self, adjustment: Adjustment) -> None:
        await self.strict.adjust(adjustment)

    async def check(self) -> None:
        """Ready for as long as leases may be used."""
        if not self._may():
            await self.strict.check()

    # -- what whoever keeps the connection says

    def tend(self) -> None:
        """4, and 2: leases are settled, made larger or smaller."""
        now = self._clock.monotonic()
        seconds, self._tended = max(now - self._tended, 0.1), now
        self._arrivals.clear()
        epoch = int(self.strict.now())
        for account, lease in list(self._leases.items()):
            lease.rate = 0.7 * lease.rate + 0.3 * lease.used / seconds
            lease.used = 0
            if lease.spent:
                self.strict.turn(lease.id, lease.ask.budget, account, lease.spent)
                lease.spent = 0
            over = 0 < lease.ask.ends <= epoch or lease.last + IDLE_SECONDS < now
            if over and not lease.out:
                self.strict.close(lease.id, ())
                del self._leases[account]
                continue
            held = self._held(lease)
            wanted = lease.wanted(held, self._share, self._lasts)
            if wanted > held + held // 4:
                self._more(lease, wanted - held)
            elif wanted < held - held // 4:
                self._more(lease, -min(held - wanted, held - lease.out))

    def release(self) -> None:
        """The gateway is going down: what was not used is free again."""
        for account, lease in self._leases.items():
            if lease.spent:
                self.strict.turn(lease.id, lease.ask.budget, account, lease.spent)
                lease.spent = 0
            self.strict.close(lease.id, ())

    @property
    def leased(self) -> int:
        """How many accounts have a lease."""
        return sum([self._held(lease) > 0 for lease in self._leases.values()])

    # -- while Redis is there

    def _use(self, charge: ChargeAsk) -> None:
        lease = self._leases.get(charge.account)
        if lease is None:
            if len(self._leases) >= LEASES_LIMIT:
                return
            lease = self._leases[charge.account] = Lease(lease_key(charge.account), charge)
        lease.ask = charge
        lease.last = self._tended
        lease.used += charge.amount
        lease.largest = max(lease.largest, charge.amount)

    async def _taken(self, ask: Ask, asked: Awaitable[Given]) -> Given:
        try:
            given = await asked
        except CountersUnavailable as why:
            return self._without(ask, why)
        for charge, left in zip(ask.charges, given.charges, strict=True):
            lease = self._leases.get(charge.account)
            if lease is None:
                continue
            lease.left = left
            if not given.ok and charge.amount > left:
                self._more(lease, lease.out - self._held(lease))  # 2: given back, for whoever asks next
        return given

    async def _grown_there(self, id: str, charges: Sequence[ChargeAsk], asked: Awaitable[Given]) -> Given:
        try:
            return await asked
        except CountersUnavailable:
            return self._grown_here(id, charges)

    def _held(self, lease: Lease) -> int:
        """As Redis has it."""
        held = self.strict.truth.open.get(lease.id)
        return held.amounts.get(lease.ask.account, 0) if held is not None else 0

    def _more(self, lease: Lease, amount: int) -> None:
        """Or less. Nobody waits for it."""
        if lease.asking or not amount:
            return
        ask = lease.ask
        step = ChargeAsk(ask.budget, ask.account, amount, ask.most, ask.ends, ask.previous)
        try:
            if lease.id in self.strict.truth.open:
                asked = self.strict.grow(lease.id, [step])
            elif amount > 0:
                asked = self.strict.take(Ask(lease.id, (), (), [step]))
            else:
                return
        except CountersUnavailable:
            return
        lease.asking = True
        asked.add_done_callback(lambda done: self._answered(lease, done))

    def _answered(self, lease: Lease, done: Future[Given]) -> None:
        lease.asking = False
        if not done.cancelled() and done.exception() is None:
            lease.left = done.result().charges[0]

    # -- while it is away

    def _may(self) -> bool:
        return self._clock.monotonic() < self.strict.heard + HOLD_SECONDS

    def _without(self, ask: Ask, why: CountersUnavailable) -> Given:
        """3. All of it or none. Raises `why` where the lease does not reach."""
        now, nodes = int(self._clock.monotonic() * _SECOND), max(1, self._nodes())
        rates = [_part(rate, nodes) for rate in ask.rates]
        ahead = [
            max(0, self._arrivals.get((rate.counter, rate.key), 0) - now) + interval
            for rate, (interval, _) in zip(ask.rates, rates, strict=True)
        ]
        over = [found > capacity for found, (_, capacity) in zip(ahead, rates, strict=True)]
        full = [not place.held and self._inside_of(place) >= _quota(place, nodes) for place in ask.places]
        exceeded = [rate.name for rate, beyond in zip(ask.rates, over, strict=True) if beyond]
        exceeded += [place.name for place, none_left in zip(ask.places, full, strict=True) if none_left]
        refused = any(beyond and not rate.shadow for rate, beyond in zip(ask.rates, over, strict=True)) or any(
            none_left and not place.shadow for place, none_left in zip(ask.places, full, strict=True)
        )
        if not self._reach(ask.charges):
            raise why
        if not refused:
            self._keep(ask, now, ahead, over, full)
        told = [
            _told(found if not refused and not beyond else found - interval, interval, capacity)
            for found, beyond, (interval, capacity) in zip(ahead, over, rates, strict=True)
        ]
        places = [max(0, _quota(place, nodes) - self._inside_of(place)) for place in ask.places]
        return Given(not refused, told, places, [self._free(charge.account) for charge in ask.charges], exceeded)

    def _keep(self, ask: Ask, now: int, ahead: list[int], over: list[bool], full: list[bool]) -> None:
        self.without += 1
        for rate, found, beyond in zip(ask.rates, ahead, over, strict=True):
            if not beyond:
                self._arrivals[rate.counter, rate.key] = now + found
        local = Local([], {}, False)
        for place, none_left in zip(ask.places, full, strict=True):
            if not place.held and not none_left:
                key = (place.name, place.key)
                self._inside[key] = self._inside.get(key, 0) + 1
                local.places.append(key)
        self._draw(local, ask.charges)
        self._local[ask.id] = local

    def _grown(self, local: Local, charges: Sequence[ChargeAsk]) -> Given:
        if not self._reach(charges):
            raise CountersUnavailable("the lease does not reach")
        self._draw(local, charges)
        return Given(True, (), (), [self._free(charge.account) for charge in charges])

    def _grown_here(self, id: str, charges: Sequence[ChargeAsk]) -> Given:
        """Of an exchange that holds something in Redis already."""
        local = Local([], {}, True)
        given = self._grown(local, charges)
        self._local[id] = local
        return given

    def _reach(self, charges: Sequence[ChargeAsk]) -> bool:
        return not charges or (self._may() and all(charge.amount <= self._free(charge.account) for charge in charges))

    def _draw(self, local: Local, charges: Sequence[ChargeAsk]) -> None:
        for charge in charges:
            local.charges[charge.account] = local.charges.get(charge.account, 0) + charge.amount
            self._leases[charge.account].out += charge.amount

    def _free(self, account: Account) -> int:
        lease = self._leases.get(account)
        return self._held(lease) - lease.out - lease.spent if lease is not None else -1

    def _inside_of(self, place: PlaceAsk) -> int:
        return self._inside.get((place.name, place.key), 0)


def _part(rate: RateAsk, nodes: int) -> tuple[int, int]:
    """3: one gateway's part of a rate, as interval and capacity."""
    if rate.interval:
        return rate.interval * nodes, max(1, rate.capacity // rate.interval // nodes) * rate.interval * nodes
    interval = -(-rate.window // rate.most) * nodes
    return interval, max(1, rate.most // nodes) * interval


def _quota(place: PlaceAsk, nodes: int) -> int:
    return max(1, place.most // nodes)


def _told(ahead: int, interval: int, capacity: int) -> tuple[int, int, int]:
    return max(0, (capacity - ahead) // interval), max(0, ahead + interval - capacity), max(0, ahead)
