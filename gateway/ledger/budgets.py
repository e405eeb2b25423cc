"""Which accounts an exchange touches, and how much of each it asks for before it is made.

1. A charged call (core/settlement.py) asks for one call, its bytes with the first step of its answer, and the most
tokens and money that it may come to; a stream whose output is seen for the first step of it only. 2. What policy
charges (`Fee`) comes besides, of every budget of its unit, whatever is called; where there is none the call is refused.
It is the price of a call that has no other. 3. A charged call without a price is refused by a budget in usd, or where
that allows it passes and is marked. 4. Tokens are asked of budgets for calls of models only. 5. Keys are the very
values; one that an exchange has not is null, and shared by all that have it not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.core.accounts import UNITS, Account, Budget, ChargeAsk, Worst, key_text, shown
from gateway.core.exchange import Exchange
from gateway.core.reasons import Reason, Refusal
from gateway.core.settlement import OPEN_SOCKET, charged, fee
from gateway.ledger.limits import KEPT_ASKS, as_values, check_key, check_name, key_of
from gateway.ledger.periods import Periods, Span, before

FIRST_BYTES: Final = 16 * 1024  # of an answer, reserved before it is there
STEP_BYTES: Final = 64 * 1024


class Known:
    """An account of the period `span`, where something may be handed over that of the period before, and what was asked
    of it last: most calls ask for the same."""

    __slots__ = ("account", "ask", "previous", "span")

    def __init__(self, account: Account, previous: Account | None, span: Span) -> None:
        self.account: Final = account
        self.previous: Final = previous
        self.span: Final = span
        self.ask: ChargeAsk | None = None


class Accounts:
    """The accounts of one budget. Those of the running period are kept: they are the same for the same key."""

    __slots__ = ("_accounts", "_key_of", "_periods", "_span", "budget")

    def __init__(self, budget: Budget, periods: Periods) -> None:
        self.budget: Final = budget
        self._key_of: Final = key_of(budget.key)
        self._periods: Final = periods
        self._span = Span("", 0, 0)
        self._accounts: dict[Any, Known] = {}

    def ask(self, exchange: Exchange, amount: int, now: float, kept: list[Known], at: int) -> ChargeAsk:
        """`now` is epoch seconds. `kept`, unless it is empty, has at `at` the account that this caller had last."""
        if kept:
            known = kept[at]
            if known.span is not self._periods.at(now):
                known = kept[at] = self.known(exchange, now)
        else:
            known = self.known(exchange, now)
        found = known.ask
        if found is None or found.amount != amount:
            found = ChargeAsk(self.budget, known.account, amount, self.budget.amount, known.span.ends, known.previous)
            known.ask = found
        return found

    def account(self, exchange: Exchange, now: float) -> tuple[Account, Account | None]:
        """The account, and where something may be handed over that of the period before."""
        found = self.known(exchange, now)
        return found.account, found.previous

    def known(self, exchange: Exchange, now: float) -> Known:
        span = self._periods.at(now)
        if span is not self._span or len(self._accounts) >= KEPT_ASKS:
            self._span = span
            self._accounts.clear()
        values = self._key_of(exchange)
        found = self._accounts.get(values)
        if found is None:
            key = key_text(as_values(values))
            previous: Account | None = None
            if self.budget.carry:
                earlier = before(self.budget, span)
                previous = Account(self.budget.name, key, earlier.period) if earlier is not None else None
            found = self._accounts[values] = Known(Account(self.budget.name, key, span.period), previous, span)
        return found


def asked(accounts: list[Accounts], exchange: Exchange, now: float, kept: list[Known]) -> list[ChargeAsk] | Refusal:
    """What this exchange asks of all budgets."""
    call = exchange.call
    counts = charged(call.action)
    if not counts and not exchange.fees and call.action != OPEN_SOCKET:
        return []
    found: list[ChargeAsk] = []
    for at, one in enumerate(accounts):
        unit = one.budget.unit
        more = fee(exchange, unit) if exchange.fees else 0
        if unit == "calls":
            if counts or more:
                found.append(one.ask(exchange, (1 if counts else 0) + more, now, kept, at))
        elif unit == "bytes":
            if counts or more or call.action == OPEN_SOCKET:
                found.append(
                    one.ask(exchange, (0 if more and not counts else first_bytes(exchange)) + more, now, kept, at)
                )
        elif unit == "tokens":
            most = _worst(exchange).tokens if counts and call.action.startswith("llm.") else None  # 4
            if most is not None or more:
                found.append(one.ask(exchange, (most or 0) + more, now, kept, at))
        elif counts or more:
            usd = _worst(exchange).usd if counts else 0
            if usd is None and not more:
                if one.budget.unpriced == "deny":
                    return _unpriced(one.budget, call.resource_id)
                exchange.usage.unpriced = True  # 3
            found.append(one.ask(exchange, (usd or 0) + more, now, kept, at))
    return _uncovered(exchange, found) or found if exchange.fees else found


def seen_bytes(exchange: Exchange) -> int:
    """What went through until now, in both directions."""
    body, usage = exchange.body, exchange.usage
    return (usage.bytes_in if body is None else len(body)) + usage.bytes_out


def first_bytes(exchange: Exchange) -> int:
    body = exchange.body
    return (len(body) if body is not None else exchange.body_bytes or 0) + FIRST_BYTES


def check_budget(budget: Budget, seen: set[str]) -> None:
    """Raises ValueError for settings that make no sense."""
    where = f"budget {budget.name}"
    check_name(where, budget.name, seen)
    check_key(where, budget.key)
    if budget.unit not in UNITS:
        raise ValueError(f"{where}: unit is not one of {', '.join(UNITS)}")
    if (budget.period == "rolling") != (budget.window > 0):
        raise ValueError(f"{where}: a rolling period has a window, and no other has one")
    if budget.carry and budget.period not in ("hour", "day", "month"):
        raise ValueError(f"{where}: carry is for periods that end")


def _worst(exchange: Exchange) -> Worst:
    found = exchange.worst
    if found is None:
        found = exchange.worst = exchange.snapshot.prices.worst(exchange)
    return found


def _unpriced(budget: Budget, resource: str) -> Refusal:
    return Refusal(
        Reason.BUDGET_EXHAUSTED,
        f"There is no price for {resource}, and the budget {budget.name} is in usd",
        rule=f"{budget.name}: no price for {resource}",
        data={"budgets": [{"name": budget.name, "unit": budget.unit}]},
        noted={"budget": {"name": budget.name, "unit": budget.unit}},
    )


def _uncovered(exchange: Exchange, found: Sequence[ChargeAsk]) -> Refusal | None:
    """2: a charge that nobody books would be one that nobody pays."""
    for wanted in exchange.fees:
        if not any(ask.budget.unit == wanted.unit for ask in found):
            said = f"{shown(wanted.amount, wanted.unit)} {wanted.unit}"
            text = f"The policy charges {said}, and there is no budget in {wanted.unit}"
            return Refusal(Reason.DENIED, text, rule="obligation")
    return None
