"""How much was left of accounts when that was last heard of: for policies that read it, never to decide a budget by.

Bounded: the account that was heard of longest ago is forgotten. Where the counters are in this process they are looked
at themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.accounts import Account, ChargeAsk

KEPT: Final = 10_000


class Known:
    """Amounts left, with the epoch seconds of when that was so."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[Account, tuple[int, float]] = {}

    def note(self, asks: Sequence[ChargeAsk], left: Sequence[int], now: float) -> None:
        for at, ask in enumerate(asks):
            account = ask.account
            if account in self._left:
                del self._left[account]
            self._left[account] = (left[at], now)
        while len(self._left) > KEPT:
            del self._left[next(iter(self._left))]

    def left(self, account: Account) -> tuple[int, float] | None:
        return self._left.get(account)
