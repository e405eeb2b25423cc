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
        self._left: dict[str, tuple[int, float]] = {}

    def note(self, asks: Sequence[ChargeAsk], left: Sequence[int], now: float) -> None:
        for ask, found in zip(asks, left, strict=True):
            name = _name(ask.account)
            self._left.pop(name, None)
            self._left[name] = (found, now)
        while len(self._left) > KEPT:
            del self._left[next(iter(self._left))]

    def left(self, account: Account) -> tuple[int, float] | None:
        return self._left.get(_name(account))


def _name(account: Account) -> str:
    return f"{account.budget} {account.period} {account.key}"
