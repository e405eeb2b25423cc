"""Who counts in one process: rates, places and accounts in memory, exactly, all of an ask or none.

1. Everything is asked before anything is taken. 2. Rates run on monotonic nanoseconds. Accounts run on epoch seconds
that go on monotonically from when this began: a clock that is set neither gives an account back nor locks it.
3. Whatever an id took is kept under it until it is closed, once; closing what is not open does nothing. 4. A settlement
is taken as it is, also above what was reserved. 5. It outlives snapshots: a reload forgets no count. A rate that was
changed is another one; an account is the same as long as its budget's name, period and key's values are. 6. An ask that
was given before may be taken again without looking for where it is counted (ordinary.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.core import accounts as core
from gateway.core.accounts import Account, Adjustment, Balance, Budget, Charge, ChargeAsk, Given, PlaceAsk, RateAsk
from gateway.core.ports import Clock
from gateway.ledger.held import Held, Inside, Insides, Part
from gateway.ledger.ordinary import Ordinary
from gateway.ledger.rates import Arrivals, Window, Windows, told, told_window
from gateway.ledger.standings import BudgetStandings

KEYS_LIMIT: Final = 100_000  # per limit or budget and period: about 20 MB
RATES: Final = 256  # different ones, above which those at rest are forgotten
ADJUSTMENTS: Final = 10_000  # whose ids are remembered
_SECOND: Final = 1_000_000_000


class MemoryCounters:
    """The Counters port (core/ledger.py)."""

    __slots__ = (
        "_adjusted", "_began", "_budgets", "_clock", "_held", "_keys_limit", "_places", "_rates", "_windows",
    )  # fmt: skip

    def __init__(self, clock: Clock, keys_limit: int = KEYS_LIMIT) -> None:
        self._clock: Final = clock
        self._began: float | None = None  # epoch seconds of monotonic zero, as it was when an account was first asked
        self._keys_limit: Final = keys_limit
        self._rates: dict[str, Arrivals] = {}
        self._windows: dict[str, Windows] = {}
        self._places: dict[str, Insides] = {}
        self._budgets: dict[str, BudgetStandings] = {}
        self._held: dict[str, Held] = {}
        self._adjusted: dict[str, None] = {}

    def take(self, ask: core.Ask) -> Given:
        if ask.id in self._held:
            raise RuntimeError(f"exchange {ask.id} has asked already")
        monotonic = self._clock.monotonic()
        now = int(monotonic * _SECOND)
        seconds = self._seconds(monotonic) if ask.charges else 0
        exceeded: list[str] = []
        parts: list[Part] = []
        refused = False
        ahead: list[int] = []
        windows: list[Window | None] = []
        for rate in ask.rates:
            if rate.interval:
                found = self._arrivals(rate).ahead(rate, now)
                ahead.append(found)
                windows.append(None)
                over = found > rate.capacity
            else:
                window = self._sliding(rate).find(rate.key, now)
                ahead.append(0)
                windows.append(window)
                over = window is None or window.total >= rate.most
            if over:
                exceeded.append(rate.name)
                refused = refused or not rate.shadow
        for place in ask.places:
            if not place.held and self._inside(place).count >= place.most:
                exceeded.append(place.name)
                refused = refused or not place.shadow
        if not self._asked(ask.charges, parts, exceeded, seconds):
            refused = True
        if refused:
            return self._refused(ask, ahead, windows, parts, exceeded, now, seconds)
        return self._taken(ask, ahead, windows, parts, exceeded, now, seconds)

    def take_again(self, id: str, ask: Ordinary, charges: list[ChargeAsk]) -> bool:
        """6: whether it was taken."""
        if id in self._held:
            raise RuntimeError(f"exchange {id} has asked already")
        now = int(self._clock.monotonic() * _SECOND)
        if not ask.free(charges, now):
            return False
        parts = ask.take(charges, now)
        if parts or ask.insides:
            self._held[id] = Held(ask.insides, parts, shared=True)
        return True

    def ordinary(self, ask: core.Ask) -> Ordinary | None:
        """Of an ask that was given just now; None where it cannot be an ordinary one."""
        if any(not rate.interval for rate in ask.rates) or any(place.held for place in ask.places):
            return None
        arrivals, insides = [self._arrivals(rate) for rate in ask.rates], [self._inside(place) for place in ask.places]
        found = Ordinary(ask.rates, arrivals, ask.places, insides)
        for charge in ask.charges:
            known = self._standings(charge.budget)
            standing = known.known(charge.account)
            if standing is None or standing.window:
                return None
            found.add(charge, known, standing)
        return found

    def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given:
        held = self._held.get(id)
        if held is None:
            raise RuntimeError(f"exchange {id} holds nothing")
        now = self._seconds(self._clock.monotonic())
        parts: list[Part] = []
        exceeded: list[str] = []
        if not self._asked(charges, parts, exceeded, now):
            return Given(False, (), (), [part.left(now) for part in parts], exceeded)
        held.own()
        marks: list[tuple[str, int]] = []
        left = [_reserve(part, held, marks, now) for part in parts]
        return Given(True, (), (), left, (), marks)

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        held = self._held.get(id)
        if held is None:
            return  # 3
        del self._held[id]
        for place in held.places:
            place.count -= 1
        if not held.charges:
            return
        now = -1
        closing = charges if isinstance(charges, list) else list(charges)
        for at, part in enumerate(held.charges):
            standing = part.standing
            if standing is None:
                continue
            standing.reserved -= part.amount
            part.known.reserved -= part.amount
            if part.known.forgetful:
                part.known.rest(part.account, standing)
            charge = closing[at] if at < len(closing) else None
            if charge is None or charge.account is not part.account:
                charge = _charge_of(part.account, closing)
            if charge is not None and charge.settled:
                if standing.window and now < 0:  # only what is rolling counts by when it was
                    now = self._seconds(self._clock.monotonic())
                standing.settle(charge.settled, now)  # 4
                part.known.filled(part.account, standing)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return [self.balance(budget, account) for budget, account in accounts]

    def balance(self, budget: Budget, account: Account) -> Balance:
        now = self._seconds(self._clock.monotonic())
        known = self._budgets.get(budget.name)
        found = known.known(account) if known is not None else None
        most = known.most.get(account.key, budget.amount) if known is not None else budget.amount
        if found is None:
            return Balance(account, budget.unit, most, 0, 0, 0)
        granted = found.left(now) + found.settled + found.reserved - found.most
        return Balance(account, budget.unit, most, granted, found.reserved, found.settled)

    async def adjust(self, adjustment: Adjustment) -> None:
        if adjustment.id in self._adjusted:
            return
        self._adjusted[adjustment.id] = None
        if len(self._adjusted) > ADJUSTMENTS:
            del self._adjusted[next(iter(self._adjusted))]
        self._standings(adjustment.budget).adjust(adjustment, self._seconds(self._clock.monotonic()))

    def fill(self, budget: Budget, ends: int, tallies: Iterable[core.Tally], adjusted: Iterable[str] = ()) -> None:
        """What a log has of one budget, before anything is asked for; `adjusted` are the adjustments in it."""
        now = self._seconds(self._clock.monotonic())
        for tally in tallies:
            self._standings(budget).fill(tally, ends, now)
        for ident in adjusted:
            self._adjusted[ident] = None

    async def check(self) -> None:
        return None

    def held(self) -> tuple[int, int]:
        """How many places are taken, how much of all accounts is reserved: nothing when nothing is open."""
        places = sum([sum([found.count for found in known.by_key.values()]) for known in self._places.values()])
        reserved = 0
        for budget in self._budgets.values():
            for known in budget.periods.values():
                reserved += sum([found.reserved for found in known.values()])
        return places, reserved

    def summary(self) -> list[tuple[str, str, int, float]]:
        """Of each budget: name, unit, how much is reserved, and which share of the fullest account was settled in the
        running period. It looks at no account."""
        return [(name, known.budget.unit, known.reserved, known.fullest) for name, known in self._budgets.items()]

    def _seconds(self, monotonic: float) -> int:
        if self._began is None:
            self._began = self._clock.time() - monotonic
        return int(self._began + monotonic)  # 2

    def _arrivals(self, rate: RateAsk) -> Arrivals:
        found = self._rates.get(rate.counter)
        if found is None:
            if len(self._rates) >= RATES:  # reloads and policies brought many: those at rest are like new ones
                now = int(self._clock.monotonic() * _SECOND)
                for name, known in list(self._rates.items()):
                    if known.rests(now):
                        known.gone = True
                        del self._rates[name]
            found = self._rates[rate.counter] = Arrivals(rate.capacity, self._keys_limit)
        return found

    def _sliding(self, rate: RateAsk) -> Windows:
        found = self._windows.get(rate.counter)
        if found is None:
            if len(self._windows) >= RATES:
                now = int(self._clock.monotonic() * _SECOND)
                self._windows = {name: known for name, known in self._windows.items() if not known.rests(now)}
            found = self._windows[rate.counter] = Windows(rate.window, self._keys_limit)
        return found

    def _inside(self, place: PlaceAsk) -> Inside:
        known = self._places.get(place.name)
        if known is None:
            known = self._places[place.name] = Insides()
        return known.of(place.key)

    def _standings(self, budget: Budget) -> BudgetStandings:
        found = self._budgets.get(budget.name)
        if found is None:
            found = self._budgets[budget.name] = BudgetStandings(budget, self._keys_limit)
        elif found.budget is not budget and found.budget != budget:
            found.changed(budget)  # by a reload
        return found

    def _asked(self, charges: Sequence[ChargeAsk], parts: list[Part], exceeded: list[str], now: int) -> bool:
        """Puts the account of each charge on `parts`; whether all fit."""
        fits = True
        for ask in charges if isinstance(charges, list) else list(charges):
            known = self._standings(ask.budget)
            found = known.known(ask.account)
            new = found is None
            if found is None:
                found = known.begun(ask, now)
            parts.append(Part(ask.account, known, found, ask.amount, new))
            if found is None or ask.amount > found.left(now):
                exceeded.append(ask.budget.name)
                fits = False
        return fits

    def _taken(
        self, ask: core.Ask, ahead: list[int], windows: list[Window | None], parts: list[Part],
        exceeded: list[str], now: int, seconds: int,
    ) -> Given:  # fmt: skip
        rates: list[tuple[int, int, int]] = []
        for at, rate in enumerate(ask.rates):
            window = windows[at]
            if rate.interval:
                if ahead[at] <= rate.capacity:
                    self._arrivals(rate).take(rate.key, now + ahead[at])
                    rates.append(told(rate, ahead[at]))
                else:
                    rates.append(told(rate, ahead[at] - rate.interval))
            else:
                known = self._windows[rate.counter]
                if window is not None and window.total < rate.most:
                    known.take(rate.key, window, now)
                rates.append(told_window(rate, known, window, now))
        held = Held([], [])
        places: list[int] = []
        for place in ask.places:
            inside = self._inside(place)
            if not place.held and inside.count < place.most:
                inside.count += 1
                held.places.append(inside)
            places.append(max(0, place.most - inside.count))  # a reload may have lowered it below what runs
        marks: list[tuple[str, int]] = []
        charges = [_reserve(part, held, marks, seconds) for part in parts]
        if held.places or held.charges:
            self._held[ask.id] = held
        return Given(True, rates, places, charges, exceeded, marks)

    def _refused(
        self, ask: core.Ask, ahead: list[int], windows: list[Window | None], parts: list[Part],
        exceeded: list[str], now: int, seconds: int,
    ) -> Given:  # fmt: skip
        """How things stand before this ask."""
        rates = [
            told(rate, ahead[at] - rate.interval)
            if rate.interval
            else told_window(rate, self._windows[rate.counter], windows[at], now)
            for at, rate in enumerate(ask.rates)
        ]
        places = [max(0, place.most - self._inside(place).count) for place in ask.places]
        charges = [part.left(seconds) for part in parts]
        return Given(False, rates, places, charges, exceeded)


def _reserve(part: Part, held: Held, marks: list[tuple[str, int]], now: int) -> int:
    """1: all was asked. What is left behind it."""
    found, known, amount = part.standing, part.known, part.amount
    if found is None:
        return 0
    found.reserved += amount
    known.reserved += amount
    left = found.left(now)
    if known.budget.warn_at:
        for mark in found.passes(known.budget, left):
            marks.append((part.account.budget, mark))
    for other in held.charges:
        if other.standing is found:
            other.amount += amount
            return left
    if part.new:
        known.keep(part.account, found)
    held.charges.append(part)
    return left


def _charge_of(account: Account, charges: list[Charge]) -> Charge | None:
    for charge in charges:
        if charge.account is account or charge.account == account:
            return charge
    return None
