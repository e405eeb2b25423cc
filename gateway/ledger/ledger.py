"""All limits and budgets of one snapshot: one ask for each exchange, what it is told, and how its account is closed.

1. An exchange asks once, for everything; on refusal nothing stays taken. 2. A budget's refusal goes before a rate's: to
try again later would not help. 3. Who cannot be asked has not said yes: the call is refused. 4. Who is cancelled while
it waits gives back what it may have been given. 5. Where nothing is configured nothing is done.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from typing import Final

from gateway.core.accounts import Ask, Budget, Charge, ChargeAsk, CountersUnavailable, Given, shown
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange, Header
from gateway.core.ledger import Counters
from gateway.core.ports import Clock
from gateway.core.reasons import Reason, Refusal
from gateway.core.settlement import settled
from gateway.ledger.budgets import Accounts, asked, check_budget, seen_bytes
from gateway.ledger.callers import Caller, Wording, Words, standing_of, words
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.growth import Growth, make_room
from gateway.ledger.known import Known as Heard
from gateway.ledger.limits import KEPT_ASKS, POLICY_RATES, LimitSettings, Places, PolicyRates, Rate, check_limit, steady
from gateway.ledger.periods import Periods

CONCURRENT_RETRY_SECONDS: Final = 1  # nobody knows when a place comes back
_SECOND: Final = 1_000_000_000
_TOO_MANY_RATES: Final = (
    f"The policy asks for more than {POLICY_RATES} different rates: a rate is not to be made up per call"
)


class Memory:
    """What the ledgers of all snapshots have in common beside the counters."""

    __slots__ = ("known", "periods", "rates")

    def __init__(self) -> None:
        self.rates: Final = PolicyRates()
        self.periods: Final[dict[tuple[str, str, int], Periods]] = {}  # which never go back
        self.known: Final = Heard()

    def of(self, budget: Budget) -> Periods:
        when = (budget.period, budget.zone, budget.anchor)
        found = self.periods.get(when)
        if found is None:
            found = self.periods[when] = Periods(budget)
        return found


class Asking:
    """The Ledger port (core/ledger.py). Raises ValueError for settings that make no sense."""

    __slots__ = (
        "_accounts", "_callers", "_clock", "_counters", "_here", "_memory", "_places", "_policy", "_rates", "_said",
        "_steady", "_wording", "budgets",
    )  # fmt: skip

    def __init__(
        self,
        limits: Sequence[LimitSettings],
        budgets: Sequence[Budget],
        counters: Counters,
        clock: Clock,
        memory: Memory,
    ) -> None:
        seen: set[str] = set()
        for one in limits:
            check_limit(one, seen)
        for budget in budgets:
            check_budget(budget, seen)
        self.budgets: Final = tuple(budgets)
        self._clock: Final = clock
        self._counters: Final = counters
        self._memory: Final = memory
        self._here: Final = counters if isinstance(counters, MemoryCounters) else None
        self._rates: Final = [Rate(one, one.rate) for one in limits if one.rate is not None]
        self._places: Final = [Places(one, one.concurrent) for one in limits if one.concurrent is not None]
        self._accounts: Final = [Accounts(budget, memory.of(budget)) for budget in budgets]
        keys = [one.key for one in limits] + [budget.key for budget in budgets]
        self._wording: Final = Wording(self._rates, self._places)
        self._steady: Final = all(map(steady, keys))
        self._callers: Final[dict[int, Caller]] = {}  # by what the principal and the route are, which are held
        told = [rate.policy for rate in self._rates if not rate.shadow]
        told += [places.policy for places in self._places if not places.shadow]
        self._policy: Final = ", ".join(told)
        self._said: Final[Header] = (b"ratelimit-policy", self._policy.encode())

    def take(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        rates, policy = self._rates, self._said
        if exchange.rates:
            more = self._memory.rates.asked_for(exchange.rates, int(self._clock.monotonic() * _SECOND))
            if more is None:
                return Refusal(Reason.DENIED, _TOO_MANY_RATES, rule="obligation")
            rates = rates + more
            told = [*([self._policy] if self._policy else []), *[rate.policy for rate in more]]
            policy = (b"ratelimit-policy", ", ".join(told).encode())
        elif not rates and not self._places and not self._accounts and not exchange.fees:
            return None  # 5
        now = self._clock.time() if self._accounts else 0.0
        plain = self._steady and not exchange.rates and not exchange.held
        caller = self._caller(exchange, now) if plain else None
        charges: list[ChargeAsk] = []
        if self._accounts or exchange.fees:
            found = asked(self._accounts, exchange, now, caller.accounts if caller is not None else [])
            if isinstance(found, Refusal):
                return found
            charges = found
        if caller is not None:
            if self._again(exchange, caller, charges):
                return None
            ask = Ask(exchange.id, caller.rates, caller.places, charges)
        else:
            places = [places.ask(exchange) for places in self._places]
            ask = Ask(exchange.id, [rate.ask(exchange) for rate in rates], places, charges)
        if self._here is not None:
            given = self._here.take(ask)
            if caller is not None and given.ok:
                caller.ordinary = self._here.ordinary(ask)
            return self._told(exchange, ask, given, caller, rates, policy)
        try:
            asked_elsewhere = self._counters.take(ask)
        except CountersUnavailable as error:
            return _unavailable(error)
        if isinstance(asked_elsewhere, Given):
            return self._told(exchange, ask, asked_elsewhere, caller, rates, policy)
        return self._told_later(exchange, ask, asked_elsewhere, caller, rates, policy)

    def grow(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        if not exchange.charges:
            return None
        reader = exchange.reader
        output = reader.seen() if reader is not None and exchange.worst is not None else 0
        bytes = seen_bytes(exchange)
        if output < exchange.room_tokens and bytes < exchange.room_bytes:
            return None
        growth = Growth(exchange, output, bytes)
        if not growth.asks or (exchange.last_step and growth.exceeded is None):
            return _exhausted(growth)
        exchange.last_step = True
        try:
            given = self._counters.grow(exchange.id, growth.asks)
            if not isinstance(given, Given):
                return self._grown_later(exchange, growth, given)
            if not growth.taken(given) and growth.less(given):
                again = self._counters.grow(exchange.id, growth.asks)
                if isinstance(again, Given):
                    growth.taken(again)
        except CountersUnavailable as error:
            return _unavailable(error) if growth.exceeded is not None else None
        return _exhausted(growth)

    def settle(self, exchange: Exchange) -> None:
        try:
            for charge in exchange.charges:
                charge.settled = settled(exchange, charge)
        finally:
            exchange.places.clear()
            if self._here is not None:
                self._here.close(exchange.id, exchange.charges)
            else:
                self._counters.close(exchange.id, exchange.charges)

    def remaining(self, exchange: Exchange, call: Call) -> dict[str, Json]:
        found: dict[str, Json] = {}
        if not self._accounts:
            return found
        now = self._clock.time()
        for one in self._accounts:
            account, _ = one.account(exchange, now)
            unit = one.budget.unit
            if self._here is not None:
                left, at = self._here.balance(one.budget, account).left, now
            else:
                heard = self._memory.known.left(account)
                if heard is None:
                    continue
                left, at = heard
            found[one.budget.name] = {"remaining": shown(left, unit), "unit": unit, "as_of": _time(at)}
        return found

    def _caller(self, exchange: Exchange, now: float) -> Caller:
        principal, route = exchange.principal, exchange.route
        which = id(principal) ^ id(route) << 1
        found = self._callers.get(which)
        if (
            found is None
            or found.principal is not principal
            or found.route is not route
            or found.upstream is not exchange.upstream
        ):
            if len(self._callers) >= KEPT_ASKS:
                self._callers.clear()
            found = self._callers[which] = Caller(
                exchange,
                [rate.ask(exchange) for rate in self._rates],
                [places.ask(exchange) for places in self._places],
                [accounts.known(exchange, now) for accounts in self._accounts],
            )
        return found

    async def _told_later(
        self,
        exchange: Exchange,
        ask: Ask,
        given: Awaitable[Given],
        caller: Caller | None,
        rates: list[Rate],
        policy: Header,
    ) -> Refusal | None:
        try:
            return self._told(exchange, ask, await given, caller, rates, policy)
        except CountersUnavailable as error:
            return _unavailable(error)
        except asyncio.CancelledError:
            self._counters.close(ask.id, [_nothing(charge) for charge in ask.charges])  # 4
            raise

    async def _grown_later(self, exchange: Exchange, growth: Growth, given: Awaitable[Given]) -> Refusal | None:
        try:
            found = await given
            if not growth.taken(found) and growth.less(found):
                again = self._counters.grow(exchange.id, growth.asks)
                growth.taken(again if isinstance(again, Given) else await again)
        except CountersUnavailable as error:
            return _unavailable(error) if growth.exceeded is not None else None
        return _exhausted(growth)

    def _told(
        self, exchange: Exchange, ask: Ask, given: Given, caller: Caller | None, rates: list[Rate], policy: Header
    ) -> Refusal | None:
        if rates or self._places:
            self._tell(exchange, ask, given, caller, rates, policy)
        if ask.charges and self._here is None:
            self._memory.known.note(ask.charges, given.charges, self._clock.time())
        if not given.ok:
            return _budget_refusal(exchange, ask, given) or _rate_refusal(ask, given)
        _hold(exchange, ask.charges, given.marks)
        return None

    def _again(self, exchange: Exchange, caller: Caller, charges: list[ChargeAsk]) -> bool:
        """Whether what the caller was given last could be taken again as it was."""
        here, ordinary = self._here, caller.ordinary
        if here is None or ordinary is None or not here.take_again(exchange.id, ordinary, charges):
            return False
        if self._rates or self._places:
            exchange.places.extend(caller.places)
            self._said_to(exchange, self._wording.again(ordinary), self._said)
        _hold(exchange, charges, ())
        return True

    def _tell(
        self, exchange: Exchange, ask: Ask, given: Given, caller: Caller | None, rates: list[Rate], policy: Header
    ) -> None:
        """The caller what its limits are, the record how they stand; and which places the exchange is in."""
        standing, exceeded = standing_of(given), given.exceeded
        if caller is not None and not exceeded:
            found = self._wording.of(standing)
        else:
            found = words(rates, self._places, standing, exceeded)
        self._said_to(exchange, found, policy)
        if exceeded:
            exchange.shadowed += tuple([rate.name for rate in rates if rate.shadow and rate.name in exceeded])
            exchange.shadowed += tuple([one.name for one in self._places if one.shadow and one.name in exceeded])
        if given.ok:
            for place in ask.places:
                if not place.held and place.name not in exceeded:
                    exchange.places.append(place)

    @staticmethod
    def _said_to(exchange: Exchange, found: Words, policy: Header) -> None:
        exchange.limits_said = found.facts
        header = found.header
        if header is not None:
            exchange.limit_headers.append(policy)
            exchange.limit_headers.append(header)


def _hold(exchange: Exchange, charges: list[ChargeAsk], marks: Sequence[tuple[str, int]]) -> None:
    """What was reserved stands on the exchange."""
    stepwise = exchange.worst is not None and exchange.worst.stepwise
    for charge in charges:
        stepwise = stepwise or charge.budget.unit == "bytes"
        held = Charge(charge.budget, charge.account, charge.amount)
        if marks:
            held.marks = tuple([mark for name, mark in marks if name == charge.budget.name])
        exchange.charges.append(held)
    if stepwise:  # else it has all the room there is
        make_room(exchange, 0, seen_bytes(exchange))


def _budget_refusal(exchange: Exchange, ask: Ask, given: Given) -> Refusal | None:
    facts: list[dict[str, object]] = []
    told: list[str] = []
    first: ChargeAsk | None = None
    for at, charge in enumerate(ask.charges):
        name, unit = charge.budget.name, charge.budget.unit
        if name not in given.exceeded:
            continue
        first = first or charge
        left = shown(given.charges[at], unit)
        fact: dict[str, object] = {"name": name, "unit": unit, "remaining": left}
        text = f"The budget {name} has {left} {unit} left, and this call may come to {shown(charge.amount, unit)}"
        if charge.ends:
            fact["renews"] = _time(charge.ends)
            text += f"; it is renewed at {_time(charge.ends)}"
        facts.append(fact)
        told.append(text)
    if first is None:
        return None
    if exchange.worst is not None and exchange.worst.assumed:
        told.append("The call does not say how many tokens it wants at most; one that does asks for less")
    return Refusal(
        Reason.BUDGET_EXHAUSTED,
        ". ".join(told),
        rule=", ".join([str(fact["name"]) for fact in facts]),
        data={"budgets": facts},
        noted={"budget": _noted(first)},
    )


def _rate_refusal(ask: Ask, given: Given) -> Refusal:
    wait, refusing = 0, []
    for at, rate in enumerate(ask.rates):
        if rate.name in given.exceeded and not rate.shadow:
            wait = max(wait, given.rates[at][1])
            refusing.append(rate.name)
    for place in ask.places:
        if place.name in given.exceeded and not place.shadow:
            wait = max(wait, CONCURRENT_RETRY_SECONDS * _SECOND)
            refusing.append(place.name)
    seconds = -(-wait // _SECOND)
    return Refusal(
        Reason.RATE_LIMITED,
        f"Too many calls: try again in {seconds} s",
        rule=", ".join(refusing),
        retry_after=seconds,
        data={"limits": refusing},
    )


def _exhausted(growth: Growth) -> Refusal | None:
    """What came last of an answer does not fit."""
    charge = growth.exceeded
    if charge is None:
        return None
    name = charge.budget.name
    return Refusal(
        Reason.BUDGET_EXHAUSTED,
        f"The budget {name} is used up: the answer ends here",
        rule=name,
        data={"budgets": [{"name": name, "unit": charge.budget.unit}]},
        noted={"budget": _noted(charge)},
    )


def _noted(charge: Charge | ChargeAsk) -> dict[str, Json]:
    """Which account refused, for the record."""
    account = charge.account
    found: dict[str, Json] = {"key": json.loads(account.key), "name": account.budget, "unit": charge.budget.unit}
    if account.period:
        found["period"] = account.period
    return found


def _nothing(charge: ChargeAsk) -> Charge:
    found = Charge(charge.budget, charge.account, charge.amount)
    found.settled = 0
    return found


def _time(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def _unavailable(error: CountersUnavailable) -> Refusal:
    """3."""
    return Refusal(
        Reason.OVERLOADED,
        "How limits and budgets stand cannot be told now; nothing was forwarded",
        rule="counters",
        retry_after=1,
        noted={"why": str(error)},
    )
