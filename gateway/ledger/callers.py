"""What all calls of one caller on one route ask for alike, and what calls are told of limits: kept, for most repeat it.

A caller is the very principal, route and upstream, which are held here: nothing else can be at their place. Bounded by
whoever keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.accounts import Given, PlaceAsk, RateAsk
from gateway.core.exchange import Exchange, Header
from gateway.ledger.budgets import Known
from gateway.ledger.limits import Places, Rate
from gateway.ledger.ordinary import Ordinary

KEPT_WORDS: Final = 4096  # some hundred bytes each
_SECOND: Final = 1_000_000_000


class Words:
    """How limits stand: `facts` for the record, a JSON array; `header` for the caller, None if it is told nothing."""

    __slots__ = ("facts", "header")

    def __init__(self, facts: bytes, header: Header | None) -> None:
        self.facts: Final = facts
        self.header: Final = header


class Wording:
    """How the limits of one ledger are told of: kept by the numbers that it says, whoever asks."""

    __slots__ = ("_kept", "places", "rates")

    def __init__(self, rates: list[Rate], places: list[Places]) -> None:
        self.rates: Final = rates
        self.places: Final = places
        self._kept: Final[dict[tuple[int, ...], Words]] = {}

    def of(self, standing: tuple[int, ...]) -> Words:
        """`standing` is `standing_of`, of an ask that was not too much for any."""
        found = self._kept.get(standing)
        if found is None:
            if len(self._kept) >= KEPT_WORDS:
                self._kept.clear()
            found = self._kept[standing] = words(self.rates, self.places, standing, ())
        return found

    def again(self, taken: Ordinary) -> Words:
        """Of an ordinary ask that was taken just now."""
        return self.of(standing_again(taken))


class Caller:
    """Of one snapshot's limits and budgets."""

    __slots__ = ("accounts", "ordinary", "places", "principal", "rates", "route", "upstream")

    def __init__(self, exchange: Exchange, rates: list[RateAsk], places: list[PlaceAsk], accounts: list[Known]) -> None:
        self.principal: Final = exchange.principal
        self.route: Final = exchange.route
        self.upstream: Final = exchange.upstream
        self.rates: Final = rates
        self.places: Final = places
        self.accounts: Final = accounts
        self.ordinary: Ordinary | None = None  # where counters are in memory: as it was given last


def standing_of(given: Given) -> tuple[int, ...]:
    """Of each rate how many calls are left and seconds until all are back, of each place how many are left."""
    found: list[int] = []
    for left, _, back in given.rates:
        found.append(left)
        found.append(-(-back // _SECOND))
    return tuple(found + given.places)


def standing_again(taken: Ordinary) -> tuple[int, ...]:
    """The same of an ordinary ask that was taken just now."""
    found: list[int] = []
    for at, rate in enumerate(taken.rates):
        ahead = taken.ahead[at]
        found.append((rate.capacity - ahead) // rate.interval)
        found.append(-(-ahead // _SECOND))
    for at, place in enumerate(taken.places):
        found.append(place.most - taken.insides[at].count)
    return tuple(found)


def words(rates: list[Rate], places: list[Places], standing: tuple[int, ...], exceeded: Sequence[str]) -> Words:
    """`exceeded` are the names of limits that the call was too much for."""
    facts: list[str] = []
    told: list[str] = []
    at = 0
    for rate in rates:
        left = str(standing[at])
        facts.append(_fact(rate.fact, left, rate.shadow, rate.name in exceeded))
        if not rate.shadow:
            told.append(f"{rate.said}{left};t={standing[at + 1]}")
        at += 2
    for limit in places:
        left = str(standing[at])
        facts.append(_fact(limit.fact, left, limit.shadow, limit.name in exceeded))
        if not limit.shadow:
            told.append(f"{limit.said}{left}")
        at += 1
    return Words(f"[{','.join(facts)}]".encode(), (b"ratelimit", ", ".join(told).encode()) if told else None)


def _fact(before: str, left: str, shadow: bool, exceeded: bool) -> str:
    """Members in the order of their names."""
    opened = f'{{"exceeded":true,{before[1:]}' if exceeded else before
    return f'{opened}{left},"shadow":true}}' if shadow else f"{opened}{left}}}"
