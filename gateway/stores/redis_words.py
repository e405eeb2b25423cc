"""How asks are spelled for the scripts in Redis, and what their answers mean.

Rules: 1. Every key stands behind one tag, so that all of an exchange is in one slot of a cluster. 2. A key names what
counts together and nothing else; a long one by its digest. 3. Redis counts time in microseconds: an interval is rounded
up, what comes back is in nanoseconds again. Nothing here does I/O or keeps anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from gateway.core.accounts import Account, Budget, ChargeAsk, Given, PlaceAsk, RateAsk

KEPT: Final = 4096  # names of accounts that are remembered
LONG_KEY = 200  # characters of a key that is kept as it is

LEASE: Final = "lease:"  # what ids of leases begin with; no exchange's does

_MICRO: Final = 1000  # nanoseconds


class Names:
    """The keys behind one prefix, for one node."""

    __slots__ = ("_accounts", "most", "node", "nodes", "opened", "prefix", "state")

    def __init__(self, prefix: str, node: str) -> None:
        self.prefix: Final = "{" + prefix + "}"  # 1
        self.node: Final = node
        self.state: Final = self.prefix + "state"
        self.nodes: Final = self.prefix + "nodes"
        self.most: Final = self.prefix + "most"
        self.opened: Final = f"{self.prefix}open:{node}"
        self._accounts: Final[dict[Account, str]] = {}  # each end of a call names them again

    def rate(self, ask: RateAsk) -> str:
        return self._short(f"rate:{ask.counter}:{ask.key}")

    def place(self, ask: PlaceAsk) -> str:
        return self._short(f"place:{ask.name}:{ask.key}")

    def account(self, account: Account) -> str:
        known = self._accounts.get(account)
        if known is None:
            if len(self._accounts) >= KEPT:
                self._accounts.clear()
            known = self._short(f"account:{account.budget}:{account.period}:{account.key}")
            self._accounts[account] = known
        return known

    def _short(self, text: str) -> str:
        if len(text) > LONG_KEY:
            text = f"{text.split(':', 1)[0]}:{sha256(text.encode()).hexdigest()}"  # 2
        return self.prefix + text


def rate_words(ask: RateAsk) -> tuple[str | int, ...]:
    """kind, interval or window, capacity or most, shadow."""
    shadow = 1 if ask.shadow else 0
    if ask.interval:
        interval = -(-ask.interval // _MICRO)  # 3
        return ("g", interval, interval * (ask.capacity // ask.interval), shadow)
    return ("w", -(-ask.window // _MICRO), ask.most, shadow)


def place_words(ask: PlaceAsk) -> tuple[int, int, int]:
    return (ask.most, 1 if ask.shadow else 0, 1 if ask.held else 0)


def charge_words(ask: ChargeAsk, now: Callable[[], float]) -> tuple[str | int, ...]:
    """amount, most, ends, window, carry, the field of an amount that was set, marks. Callers make up their runs:
    such an account ends now, and is kept for as long as one whose period has ended."""
    budget = ask.budget
    carry = budget.carry if ask.previous is not None else 0
    ends = ask.ends or (int(now()) if "run" in budget.key else 0)
    return (ask.amount, ask.most, ends, budget.window, carry, set_field(budget, ask.account), marks_of(budget))


def grow_words(ask: ChargeAsk) -> tuple[str | int, ...]:
    budget = ask.budget
    return (ask.amount, ask.most, budget.window, set_field(budget, ask.account), marks_of(budget))


def lease_key(account: Account) -> str:
    """The id under which a lease of the account is held."""
    return f"{LEASE}{sha256(f'{account.budget} {account.period} {account.key}'.encode()).hexdigest()}"


def set_field(budget: Budget, account: Account) -> str:
    return f"{budget.name} {account.key}"


def marks_of(budget: Budget) -> str:
    return ",".join(map(str, budget.warn_at)) if budget.warn_at else ""


def given(
    reply: Sequence[int],
    rates: Sequence[RateAsk],
    places: Sequence[PlaceAsk],
    charges: Sequence[ChargeAsk],
) -> Given:
    """The answer of TAKE; without rates and places, that of GROW."""
    at = 1
    found: list[tuple[int, int, int]] = []
    for _ in rates:
        found.append((reply[at], reply[at + 1] * _MICRO, reply[at + 2] * _MICRO))
        at += 3
    free = reply[at : at + len(places)]
    at += len(places)
    left = reply[at : at + len(charges)]
    at += len(charges)
    count = reply[at]
    at += 1
    exceeded: Sequence[str] = ()
    if count:
        names = [ask.name for ask in rates] + [ask.name for ask in places] + [ask.budget.name for ask in charges]
        exceeded = [names[index - 1] for index in reply[at : at + count]]
        at += count
    marks = [(charges[reply[i] - 1].budget.name, reply[i + 1]) for i in range(at, len(reply), 2)]
    return Given(reply[0] == 1, found, free, left, exceeded, marks)


def taken_places(
    reply: Sequence[int], keys: Sequence[str], rates: int, places: Sequence[PlaceAsk], charges: int
) -> list[str]:
    """Of `keys`, of an ask that was given, the places that were taken: not those that are held already, nor a shadow's
    beyond it."""
    count_at = 1 + 3 * rates + len(places) + charges
    over: Sequence[int] = ()
    if reply[count_at]:
        over = reply[count_at + 1 : count_at + 1 + reply[count_at]]
    return [key for at, key in enumerate(keys) if not places[at].held and rates + 1 + at not in over]
