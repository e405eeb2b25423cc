"""The ordinary ask of a caller in memory: what it asks for each time, with where that is counted, found once.

1. It is taken here only where it is taken whole and there is nothing to decide or to tell of: all rates and places are
free, all amounts fit in what lasts for the whole period, no soft mark is passed. All else is left to
`MemoryCounters.take`, which comes to the same where both could take it. 2. Others may forget or change what it points
at. Each of these says so itself (`gone`, `version`): then it is found anew. 3. Sliding windows are not ordinary, nor
are accounts that may be forgotten while their period runs: rolling ones. (Those whose key is the run are no caller's.)
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import Account, ChargeAsk, PlaceAsk, RateAsk
from gateway.ledger.held import Inside, Part
from gateway.ledger.rates import Arrivals
from gateway.ledger.standings import BudgetStandings, Standing


class _Found:
    """An account as it was found. `most` may be settled and reserved of it before it is used up or a soft mark is
    passed: that is the same as long as its version is."""

    __slots__ = ("account", "known", "most", "standing", "version")

    def __init__(self, account: Account, known: BudgetStandings, standing: Standing) -> None:
        self.account: Final = account
        self.known: Final = known
        self.standing: Final = standing
        self.version: Final = standing.version
        total = standing.most + standing.granted
        untold = [mark for mark in known.budget.warn_at if mark > standing.marked]
        self.most: Final = min(total, -(-untold[0] * total // 1000) - 1) if untold else total


class Ordinary:
    """Of the rates, places and accounts that were asked for last; `ahead` is nanoseconds, of each rate."""

    __slots__ = ("_arrivals", "_found", "_parts", "ahead", "insides", "places", "rates")

    def __init__(
        self, rates: list[RateAsk], arrivals: list[Arrivals], places: list[PlaceAsk], insides: list[Inside]
    ) -> None:
        self.rates: Final = rates
        self.places: Final = places
        self.insides: Final = insides
        self.ahead: Final = [0] * len(rates)
        self._arrivals: Final = arrivals
        self._found: Final[list[_Found]] = []
        self._parts: Final[list[Part]] = []

    def add(self, ask: ChargeAsk, known: BudgetStandings, standing: Standing) -> None:
        self._found.append(_Found(ask.account, known, standing))
        self._parts.append(Part(ask.account, known, standing, ask.amount, False))

    def free(self, charges: list[ChargeAsk], now: int) -> bool:
        """1 and 2, at monotonic nanoseconds; `ahead` is then how far it goes."""
        if len(charges) != len(self._found):
            return False
        for at, rate in enumerate(self.rates):
            arrivals = self._arrivals[at]
            ahead = arrivals.ahead(rate, now)
            if ahead > rate.capacity or arrivals.gone:
                return False
            self.ahead[at] = ahead
        for at, place in enumerate(self.places):
            inside = self.insides[at]
            if inside.count >= place.most or inside.gone:
                return False
        fits = True
        for at, ask in enumerate(charges):
            fits = fits and _fits(self._found[at], ask)
        return fits

    def take(self, charges: list[ChargeAsk], now: int) -> list[Part]:
        """What is held of accounts then: the same list each time, not to be changed, where the amounts are the same."""
        for at, rate in enumerate(self.rates):
            self._arrivals[at].take(rate.key, now + self.ahead[at])
        for inside in self.insides:
            inside.count += 1
        alike = True
        for at, ask in enumerate(charges):
            found, amount = self._found[at], ask.amount
            found.standing.reserved += amount
            found.known.reserved += amount
            alike = alike and self._parts[at].amount == amount
        if alike:
            return self._parts
        return [Part(part.account, part.known, part.standing, ask.amount, False)
                for part, ask in zip(self._parts, charges, strict=True)]  # fmt: skip


def _fits(found: _Found, ask: ChargeAsk) -> bool:
    standing = found.standing
    if ask.account is not found.account or standing.version != found.version:
        return False
    return standing.settled + standing.reserved + ask.amount <= found.most
