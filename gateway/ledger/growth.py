"""How the reservation of an answer grows while it flows.

1. What was seen so far must fit in what is reserved; near its end a step more is asked for, of all accounts that the
step costs, all or nothing. 2. Where the step cannot be had, what is left is taken: a stream ends at its limit and not a
step before it. 3. Only when what was seen does not fit any more it must end. Whoever is asked may have been asked
before: what others gave back counts.
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import MOST, STEP_TOKENS, Charge, ChargeAsk, Given, Worst
from gateway.core.exchange import Exchange
from gateway.core.settlement import fee
from gateway.ledger.budgets import STEP_BYTES


class Growth:
    """One step of one exchange: what it came to so far, and what is wanted of each of its accounts."""

    __slots__ = ("_bytes", "_exchange", "_less", "_output", "_used", "_wanted", "_worst", "asks")

    def __init__(self, exchange: Exchange, output: int, bytes: int) -> None:
        self._exchange: Final = exchange
        self._output: Final = output
        self._bytes: Final = bytes
        worst, so_far = exchange.worst, exchange.worst
        if worst is not None and worst.stepwise:
            prices = exchange.snapshot.prices
            worst, so_far = prices.worst(exchange, output), prices.worst(exchange, output - STEP_TOKENS)
        self._worst: Final = worst
        self._used: Final = [_amount(exchange, charge, so_far, bytes) for charge in exchange.charges]
        self._wanted: Final = [_amount(exchange, charge, worst, bytes + STEP_BYTES) for charge in exchange.charges]
        self._less = False
        self.asks = self._asks(None)

    @property
    def exceeded(self) -> Charge | None:
        """3: of which account something that was seen does not fit."""
        for used, charge in zip(self._used, self._exchange.charges, strict=True):
            if used > charge.reserved:
                return charge
        return None

    def taken(self, given: Given) -> bool:
        """Whether it was given; then it stands in the charges, and there is room for a step."""
        if not given.ok:
            return False
        exchange = self._exchange
        marks = list(given.marks)
        for ask in self.asks:
            for charge in exchange.charges:
                if charge.account is ask.account:
                    charge.reserved += ask.amount
                    charge.marks += tuple([mark for name, mark in marks if name == ask.budget.name])
        exchange.worst, exchange.last_step = self._worst, self._less
        make_room(exchange, self._output, self._bytes)
        if self._less:  # it is not a whole step: each piece is looked at
            exchange.room_tokens = min(exchange.room_tokens, self._output)
        return True

    def less(self, given: Given) -> list[ChargeAsk]:
        """2: of the accounts what they have left, where that is enough for what was seen; else nothing."""
        left = {ask.budget.name: max(0, found) for ask, found in zip(self.asks, given.charges, strict=True)}
        asks = self._asks(left)
        more = {ask.budget.name: ask.amount for ask in asks}
        for used, charge in zip(self._used, self._exchange.charges, strict=True):
            if used > charge.reserved + more.get(charge.budget.name, 0):
                return []
        self.asks, self._less = asks, True
        return asks

    def _asks(self, left: dict[str, int] | None) -> list[ChargeAsk]:
        found: list[ChargeAsk] = []
        for wanted, charge in zip(self._wanted, self._exchange.charges, strict=True):
            more = wanted - charge.reserved
            if left is not None:
                more = min(more, left.get(charge.budget.name, 0))
            if more > 0:
                found.append(ChargeAsk(charge.budget, charge.account, more, charge.budget.amount, 0))
        return found


def make_room(exchange: Exchange, output: int, bytes: int) -> None:
    """Until how much of the answer nothing need be asked: so that a piece of it costs two comparisons."""
    worst = exchange.worst
    tokens, room = MOST, MOST
    for charge in exchange.charges:
        if charge.budget.unit == "bytes":
            reserved = charge.reserved - fee(exchange, "bytes")
            room = min(room, reserved - min(STEP_BYTES, reserved - bytes) // 2)
        elif charge.budget.unit != "calls" and worst is not None and worst.stepwise:
            tokens = output + STEP_TOKENS // 2
    exchange.room_tokens, exchange.room_bytes = tokens, room


def _amount(exchange: Exchange, charge: Charge, worst: Worst | None, bytes: int) -> int:
    """What this account is to hold; what cannot grow holds what it has."""
    unit = charge.budget.unit
    if unit == "bytes":
        return bytes + fee(exchange, unit)
    if unit == "calls" or worst is None or not worst.stepwise:
        return charge.reserved
    return ((worst.usd or 0) if unit == "usd" else worst.tokens) + fee(exchange, unit)
