"""What an exchange asks of the limits: which rates and places, under which keys, and how a caller is told of them.

1. A rate of N per window with burst B lets B through from rest and one more each window/N: never more than B +
N*t/window in any t. The interval is rounded up. A sliding one lets N through in any window. 2. Keys are the very
values, compared as they are: nothing is joined, folded or normalised. The names of the key's fields are part of it, so
that a limit whose key was changed begins anew. 3. What comes up within an exchange (a message of an open socket) runs
in the place that its exchange holds of the same limit and key; rates count it like any other. 4. A rate that policy
asks for is one more of them, counted for the caller, the route, the rule that asked and what is called. At most
`POLICY_RATES` different ones are in use: a policy that made one up for each call would count nothing. 5. A shadow limit
refuses nobody: records say what it would have done, callers are told nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias

import orjson

from gateway.core.accounts import KeyValues, PlaceAsk, RateAsk, key_text
from gateway.core.exchange import Exchange
from gateway.core.obligations import ExtraRate

POLICY_RATES: Final = 64
KEPT_ASKS: Final = 4096  # of each limit: some hundred bytes each

_SECOND: Final = 1_000_000_000
FIELDS: Final = {
    "subject.id": "principal.id",
    "subject.org": "principal.org",
    "team": "principal.team",
    "agent": "principal.agent",
    "run": "trace_id",
    "route": "route.name",
    "upstream": "upstream.name",
    "resource.id": "asked.resource_id",
    "peer": "head.peer",
}
"""What keys of limits and budgets may name, and where it stands."""
_POLICY_FIELDS: Final = {"resource.type": "asked.resource_type", "action": "asked.action", "rule": "decision.rule"}
_POLICY_KEY: Final = ("subject.id", "route", "rule", "action", "resource.type", "resource.id")
_STEADY: Final = frozenset({"subject.id", "subject.org", "team", "agent", "route", "upstream"})
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what fits into a structured-field string unescaped

KeyOf: TypeAlias = "Callable[[Exchange], Any]"


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """One entry of `limits`: `rate` calls per `window` seconds with `burst` (default: all of them at once), or in any
    `window` (`sliding`), or `concurrent` calls at the same time. `key` is what is counted apart."""

    name: str
    key: tuple[str, ...]
    rate: int | None = None
    window: int = 60
    burst: int | None = None
    concurrent: int | None = None
    sliding: bool = False
    shadow: bool = False


class Rate:
    """One rate limit. Its asks are kept: they say the same for the same key."""

    __slots__ = (
        "_asks", "_key_of", "capacity", "fact", "interval", "key", "most", "name", "policy", "said", "shadow", "used",
        "window",
    )  # fmt: skip

    def __init__(self, settings: LimitSettings, rate: int) -> None:
        self.name: Final = settings.name
        self.key: Final = settings.key
        self.shadow: Final = settings.shadow
        self._key_of: Final = key_of(settings.key)
        self.interval: Final = 0 if settings.sliding else -(-settings.window * _SECOND // rate)  # 1: rounded up
        self.capacity: Final = self.interval * (rate if settings.burst is None else settings.burst)
        self.window: Final = settings.window * _SECOND if settings.sliding else 0
        self.most: Final = rate if settings.sliding else 0
        self.policy: Final = f'"{settings.name}";q={rate};w={settings.window}'
        self.fact: Final = _fact(settings.name)
        self.said: Final = f'"{settings.name}";r='
        self.used = 0  # monotonic nanoseconds, kept for what policy asks for only
        self._asks: dict[Any, RateAsk] = {}

    def ask(self, exchange: Exchange) -> RateAsk:
        values = self._key_of(exchange)
        found = self._asks.get(values)
        if found is None:
            if len(self._asks) >= KEPT_ASKS:
                self._asks.clear()
            key = _limit_key(self.key, values)
            found = self._asks[values] = RateAsk(
                self.name, key, self.interval, self.capacity, self.window, self.most, self.shadow
            )
        return found


class Places:
    """One limit of calls at the same time."""

    __slots__ = ("_asks", "_key_of", "_names", "fact", "most", "name", "policy", "said", "shadow")

    def __init__(self, settings: LimitSettings, most: int) -> None:
        self.name: Final = settings.name
        self.shadow: Final = settings.shadow
        self.most: Final = most
        self._names: Final = settings.key
        self._key_of: Final = key_of(settings.key)
        self.policy: Final = f'"{settings.name}";q={most};qu="concurrent-requests"'
        self.fact: Final = _fact(settings.name)
        self.said: Final = f'"{settings.name}";r='
        self._asks: dict[Any, PlaceAsk] = {}

    def ask(self, exchange: Exchange) -> PlaceAsk:
        values = self._key_of(exchange)
        found = self._asks.get(values)
        if found is None:
            if len(self._asks) >= KEPT_ASKS:
                self._asks.clear()
            key = _limit_key(self._names, values)
            found = self._asks[values] = PlaceAsk(self.name, key, self.most, self.shadow)
        for held in exchange.held:  # 3
            if held.name == found.name and held.key == found.key:
                return PlaceAsk(self.name, found.key, self.most, self.shadow, held=True)
        return found


class PolicyRates:
    """The rates that policy asks for (4). They outlive snapshots."""

    __slots__ = ("_rates",)

    def __init__(self) -> None:
        self._rates: dict[ExtraRate, Rate] = {}

    def asked_for(self, wanted: Sequence[ExtraRate], now: int) -> list[Rate] | None:
        """None where there would be too many different ones. `now` is monotonic nanoseconds."""
        found: list[Rate] = []
        for one in wanted:
            rate = self._rates.get(one)
            if rate is None:
                if len(self._rates) >= POLICY_RATES:
                    for known, kept in list(self._rates.items()):
                        if now >= kept.used + kept.capacity:  # at rest: it cannot be told from a new one
                            del self._rates[known]
                if len(self._rates) >= POLICY_RATES:
                    return None
                settings = LimitSettings(one.name, _POLICY_KEY, rate=one.count, window=one.window)
                rate = self._rates[one] = Rate(settings, one.count)
            rate.used = now
            found.append(rate)
        return found


def key_of(names: Sequence[str]) -> KeyOf:
    """Rule 2. One field gives its value, several a tuple; a limit's keys are all of the same form."""
    return attrgetter(*(FIELDS.get(name) or _POLICY_FIELDS[name] for name in names))


def steady(key: Sequence[str]) -> bool:
    """Whether the values of the key are the same for all calls of one principal on one route."""
    return _STEADY.issuperset(key)


def as_values(found: Any) -> KeyValues:
    return found if isinstance(found, tuple) else (found,)


def _fact(name: str) -> str:
    """What a record says of a limit, up to how many calls are left."""
    return f'{{"name":{orjson.dumps(name).decode()},"remaining":'


def _limit_key(names: tuple[str, ...], found: Any) -> str:
    return key_text((*names, *as_values(found)))


def check_name(where: str, name: str, seen: set[str]) -> None:
    if _NAME.fullmatch(name) is None or name in seen:
        raise ValueError(f"{where}: the name is taken or not 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
    seen.add(name)


def check_key(where: str, key: Sequence[str]) -> None:
    if not key or not set(key) <= set(FIELDS) or len(set(key)) < len(key):
        raise ValueError(f"{where}: key is not a list of {', '.join(FIELDS)}, each at most once")


def check_limit(settings: LimitSettings, seen: set[str]) -> None:
    """Raises ValueError for settings that make no sense."""
    where = f"limit {settings.name}"
    check_name(where, settings.name, seen)
    check_key(where, settings.key)
    if (settings.rate is None) == (settings.concurrent is None):
        raise ValueError(f"{where}: exactly one of rate and concurrent is needed")
    if settings.sliding and (settings.rate is None or settings.burst is not None):
        raise ValueError(f"{where}: a sliding window is of a rate, and has no burst")
    numbers = (settings.rate, settings.window, settings.burst, settings.concurrent)
    if any(number is not None and number < 1 for number in numbers):
        raise ValueError(f"{where}: a number below 1")
