"""How often and how many at once: GCRA rates and concurrency, sans I/O, all limits of an exchange in one call.

1. All or nothing: every limit is asked before any is taken; a refusal leaves all as they were. 2. Time is monotonic and
comes from outside, in whole nanoseconds, so that sums of intervals are exact. 3. A rate of N per window with burst B
lets B through from rest and one more each window/N: never more than B + N*t/window in any t. The interval is rounded
up. 4. Keys are tuples of the very values, compared as they are: nothing is joined, folded or normalised. 5. Memory is
bounded: a key at rest is forgotten, because it cannot be told from a new one; when `KEYS_LIMIT` keys are not at rest, a
new one is refused. 6. A permit counts from `take` to `release`, once, on the state that a reload carries over.
7. What comes up within an exchange (a message of an open socket) runs in the place that its exchange holds of the same
limit and key; rates count it like any other. 8. A rate that policy asks for is one more of them, counted for the
caller, the route, the rule that asked and what is called. At most `POLICY_RATES` different ones are in use: a policy
that made one up for each call would count nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

from gateway.core.accounts import Budget
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange, Header
from gateway.core.obligations import ExtraRate
from gateway.core.ports import Clock
from gateway.core.reasons import Reason, Refusal

KEYS_LIMIT = 100_000  # per limit: about 20 MB
POLICY_RATES = 64
CONCURRENT_RETRY_SECONDS = 1  # nobody knows when a permit comes back

_SECOND: Final = 1_000_000_000
_FIELDS: Final = {
    "subject.id": "principal.id",
    "subject.org": "principal.org",
    "agent": "principal.agent",
    "route": "route.name",
    "upstream": "upstream.name",
    "resource.id": "asked.resource_id",
    "peer": "head.peer",
    "resource.type": "asked.resource_type",
    "action": "asked.action",
    "rule": "decision.rule",
}
_CONFIGURED: Final = frozenset(_FIELDS) - {"resource.type", "action", "rule"}  # what `limits` may name
_POLICY_KEY: Final = ("subject.id", "route", "rule", "action", "resource.type", "resource.id")
_TOO_MANY_RATES: Final = (
    f"The policy asks for more than {POLICY_RATES} different rates: a rate is not to be made up per call"
)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what fits into a structured-field string unescaped

KeyOf: TypeAlias = "Callable[[Exchange], Hashable]"


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """One entry of `limits`: `rate` calls per `window` seconds with `burst` (default: all of them at once) or
    `concurrent` calls at the same time. `key` is what is counted apart."""

    name: str
    key: tuple[str, ...]
    rate: int | None = None
    window: int = 60
    burst: int | None = None
    concurrent: int | None = None


class _Rates:
    """The theoretical arrival time (TAT) of each key, in two generations.

    A key's TAT is never more than `capacity` ahead of its last use. A generation that was not written to for so long
    holds only keys at rest, and is dropped whole: no sweep, no timer.
    """

    __slots__ = ("capacity", "keys_limit", "new", "old", "swept", "turn")

    def __init__(self, capacity: int, keys_limit: int) -> None:
        self.capacity = capacity
        self.keys_limit = keys_limit
        self.new: dict[Hashable, int] = {}
        self.old: dict[Hashable, int] = {}
        self.turn = 0  # when the new generation becomes the old one
        self.swept = -_SECOND

    def find(self, key: Hashable, now: int) -> int | None:
        """The TAT of a key that is not in the new generation; None where there is no room for one more."""
        found = self.old.get(key)
        if found is None and len(self.new) + len(self.old) >= self.keys_limit and not self._room(now):
            return None
        return found or 0

    def grow_old(self, now: int) -> None:
        self.old = self.new if now < self.turn + self.capacity else {}
        self.new = {}
        self.turn = now + self.capacity

    def rests(self, now: int) -> bool:
        """Whether no key can be told from a new one: none was used since the new generation could have grown old."""
        return now >= self.turn + self.capacity

    def _room(self, now: int) -> bool:
        """Forgets what is at rest already; at most once a second, for it looks at every key."""
        if now - self.swept < _SECOND:
            return False
        self.swept = now
        self.new = {key: tat for key, tat in self.new.items() if tat > now}
        self.old = {key: tat for key, tat in self.old.items() if tat > now and key not in self.new}
        return len(self.new) + len(self.old) < self.keys_limit


class _Permit:
    """One of the calls that may run at the same time."""

    __slots__ = ("_counts", "_key")

    def __init__(self, counts: dict[Hashable, int], key: Hashable) -> None:
        self._counts: dict[Hashable, int] | None = counts
        self._key = key

    def covers(self, counts: dict[Hashable, int], key: Hashable) -> bool:
        return self._counts is counts and self._key == key

    def release(self) -> None:
        counts, self._counts = self._counts, None
        if counts is None:
            return  # given back already
        left = counts[self._key] - 1
        if left:
            counts[self._key] = left
        else:
            del counts[self._key]


class _Rate:
    """One rate limit, with its key and its intervals in nanoseconds."""

    __slots__ = ("capacity", "interval", "key_of", "name", "policy", "said", "settings", "state")

    def __init__(self, settings: LimitSettings, rate: int, keys_limit: int) -> None:
        self.settings = settings
        self.name = settings.name
        self.key_of = _key_of(settings)
        self.interval = -(-settings.window * _SECOND // rate)  # 3: rounded up
        self.capacity = self.interval * (rate if settings.burst is None else settings.burst)
        self.state = _Rates(self.capacity, keys_limit)
        self.policy = f'"{settings.name}";q={rate};w={settings.window}'
        self.said = f'"{settings.name}";r='


class _Concurrency:
    """One limit of calls at the same time."""

    __slots__ = ("counts", "key_of", "most", "name", "policy", "said", "settings")

    def __init__(self, settings: LimitSettings, most: int) -> None:
        self.settings = settings
        self.name = settings.name
        self.key_of = _key_of(settings)
        self.most = most
        self.counts: dict[Hashable, int] = {}  # bounded by the cap on concurrent exchanges
        self.policy = f'"{settings.name}";q={most};qu="concurrent-requests"'
        self.said = f'"{settings.name}";r='


_Asked: TypeAlias = "tuple[_Rate, Hashable, int]"
"""A rate, the key and how many nanoseconds ahead of now its TAT would be with this call."""
_Running: TypeAlias = "tuple[_Concurrency, Hashable, int, int]"
"""A limit, the key, how many there are and how many places more this call needs: one or (7) none."""


class Limits:
    """All limits of one snapshot. Raises ValueError for settings that make no sense."""

    __slots__ = ("_concurrency", "_keys_limit", "_monotonic", "_policy", "_policy_rates", "_rates")

    def __init__(self, settings: Sequence[LimitSettings], clock: Clock, keys_limit: int = KEYS_LIMIT) -> None:
        self._monotonic = clock.monotonic
        self._keys_limit = keys_limit
        self._policy_rates: dict[ExtraRate, _Rate] = {}  # 8
        self._rates: list[_Rate] = []
        self._concurrency: list[_Concurrency] = []
        seen: set[str] = set()
        for one in settings:
            _check(one, seen)
            if one.rate is not None:
                self._rates.append(_Rate(one, one.rate, keys_limit))
            elif one.concurrent is not None:
                self._concurrency.append(_Concurrency(one, one.concurrent))
        policies = [rate.policy for rate in self._rates] + [limit.policy for limit in self._concurrency]
        self._policy: Header | None = (b"ratelimit-policy", ", ".join(policies).encode()) if policies else None

    def carry(self, previous: Limits) -> None:
        """Takes over the state of limits that are the same as before; open permits are given back to it. A rate that
        was changed begins anew, a changed number of concurrent calls does not forget who is in."""
        self._policy_rates = previous._policy_rates
        rates = {limit.settings: limit.state for limit in previous._rates}
        counts = {(limit.name, limit.settings.key): limit.counts for limit in previous._concurrency}
        for rate in self._rates:
            rate.state = rates.get(rate.settings, rate.state)
        for limit in self._concurrency:
            limit.counts = counts.get((limit.name, limit.settings.key), limit.counts)

    @property
    def budgets(self) -> Sequence[Budget]:
        return ()

    def grow(self, exchange: Exchange) -> Refusal | None:
        return None

    def remaining(self, exchange: Exchange, call: Call) -> dict[str, Json]:
        return {}

    def settle(self, exchange: Exchange) -> None:
        return None

    def take(self, exchange: Exchange) -> Refusal | None:
        rates, policy = self._rates, self._policy
        if exchange.rates:
            more = self._asked_for(exchange.rates, int(self._monotonic() * _SECOND))
            if more is None:
                return Refusal(Reason.DENIED, _TOO_MANY_RATES, rule="obligation")
            rates = rates + more
            policy = _joined(policy, more)
        if policy is None:
            return None
        now = int(self._monotonic() * _SECOND)
        asked: list[_Asked] = []
        refused = False
        for rate in rates:
            key, state = rate.key_of(exchange), rate.state
            if now >= state.turn:
                state.grow_old(now)
            tat = state.new.get(key)
            if tat is None:
                tat = state.find(key, now)
                if tat is None:
                    tat = now + rate.capacity  # 5: as if it had used up everything
            ahead = tat - now + rate.interval if tat > now else rate.interval
            if ahead > rate.capacity:
                refused = True
            asked.append((rate, key, ahead))
        running: list[_Running] = []
        for limit in self._concurrency:
            key = limit.key_of(exchange)
            count = limit.counts.get(key, 0)
            needs = 0 if exchange.held and _covered(exchange, limit.counts, key) else 1  # 7
            if needs and count >= limit.most:
                refused = True
            running.append((limit, key, count, needs))
        if refused:
            return _refuse(exchange, policy, asked, running)
        said = []
        for rate, key, ahead in asked:  # 1: nothing was taken before here
            rate.state.new[key] = now + ahead
            left = (rate.capacity - ahead) // rate.interval
            exchange.limits.append({"name": rate.name, "remaining": left})
            said.append(f"{rate.said}{left};t={-(-ahead // _SECOND)}")
        for limit, key, count, needs in running:
            if needs:
                limit.counts[key] = count + 1
                exchange.permits.append(_Permit(limit.counts, key))
            left = max(0, limit.most - count - needs)  # a reload may have lowered it below what runs
            exchange.limits.append({"name": limit.name, "remaining": left})
            said.append(f"{limit.said}{left}")
        exchange.limit_headers += (policy, (b"ratelimit", ", ".join(said).encode()))
        return None

    def _asked_for(self, wanted: Sequence[ExtraRate], now: int) -> list[_Rate] | None:
        """The rates that policy asked for, None where there would be too many different ones (8)."""
        found: list[_Rate] = []
        for one in wanted:
            rate = self._policy_rates.get(one)
            if rate is None:
                if len(self._policy_rates) >= POLICY_RATES:
                    for known, kept in list(self._policy_rates.items()):
                        if kept.state.rests(now):
                            del self._policy_rates[known]
                if len(self._policy_rates) >= POLICY_RATES:
                    return None
                settings = LimitSettings(one.name, _POLICY_KEY, rate=one.count, window=one.window)
                rate = self._policy_rates[one] = _Rate(settings, one.count, self._keys_limit)
            found.append(rate)
        return found


def _joined(policy: Header | None, more: Sequence[_Rate]) -> Header:
    said = [rate.policy for rate in more]
    return (b"ratelimit-policy", ", ".join([policy[1].decode(), *said] if policy is not None else said).encode())


def _covered(exchange: Exchange, counts: dict[Hashable, int], key: Hashable) -> bool:
    """Whether the exchange within which this one came up holds a place of this limit."""
    return any(isinstance(permit, _Permit) and permit.covers(counts, key) for permit in exchange.held)


def _refuse(exchange: Exchange, policy: Header, asked: list[_Asked], running: list[_Running]) -> Refusal:
    """Nothing is taken: what is told is how things stood before."""
    wait, refusing, said = 0, [], []
    for rate, _, ahead in asked:
        left = max(0, (rate.capacity - ahead) // rate.interval + 1)
        said.append(f"{rate.said}{left};t={-((rate.interval - ahead) // _SECOND)}")
        fact: dict[str, Json] = {"name": rate.name, "remaining": left}
        if ahead > rate.capacity:
            wait = max(wait, ahead - rate.capacity)
            refusing.append(rate.name)
            fact["exceeded"] = True
        exchange.limits.append(fact)
    for limit, _, count, more in running:
        left = max(0, limit.most - count)
        said.append(f"{limit.said}{left}")
        fact = {"name": limit.name, "remaining": left}
        if more and count >= limit.most:
            wait = max(wait, CONCURRENT_RETRY_SECONDS * _SECOND)
            refusing.append(limit.name)
            fact["exceeded"] = True
        exchange.limits.append(fact)
    exchange.limit_headers += (policy, (b"ratelimit", ", ".join(said).encode()))
    seconds = -(-wait // _SECOND)
    return Refusal(
        Reason.RATE_LIMITED,
        f"Too many calls: try again in {seconds} s",
        rule=", ".join(refusing),
        retry_after=seconds,
        data={"limits": refusing},
    )


def _key_of(settings: LimitSettings) -> KeyOf:
    """Rule 4. One field gives its value, several a tuple; a limit's keys are all of the same form."""
    return attrgetter(*(_FIELDS[name] for name in settings.key))


def _check(settings: LimitSettings, seen: set[str]) -> None:
    where = f"limit {settings.name}"
    if _NAME.fullmatch(settings.name) is None or settings.name in seen:
        raise ValueError(f"{where}: the name is taken or not 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
    seen.add(settings.name)
    if not settings.key or not set(settings.key) <= _CONFIGURED:
        raise ValueError(f"{where}: key is not a list of {', '.join(name for name in _FIELDS if name in _CONFIGURED)}")
    if (settings.rate is None) == (settings.concurrent is None):
        raise ValueError(f"{where}: exactly one of rate and concurrent is needed")
    numbers = (settings.rate, settings.window, settings.burst, settings.concurrent)
    if any(number is not None and number < 1 for number in numbers):
        raise ValueError(f"{where}: a number below 1")
