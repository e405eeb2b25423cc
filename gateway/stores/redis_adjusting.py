"""What administrators ask of the counters in Redis: how accounts stand, and what is changed of them by hand.

The rule: an adjustment counts once, at once in this node's memory and in Redis as soon as it is there; only what is
taken off a rolling account has to be asked. Never on the hot path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from typing import Protocol as Port

from gateway.core.accounts import Account, Adjustment, Balance, Budget, CountersUnavailable
from gateway.core.ports import Clock
from gateway.stores import redis_scripts_node as scripts
from gateway.stores.redis_session import named
from gateway.stores.redis_truth import Truth
from gateway.stores.redis_wire import Word
from gateway.stores.redis_words import Names, marks_of, set_field

_BALANCES: Final = named(scripts.BALANCES)
_FORGIVE: Final = named(scripts.FORGIVE)
_UNMARK: Final = named(scripts.UNMARK)


class Counting(Port):
    """Whose accounts they are (redis_counters.py)."""

    @property
    def names(self) -> Names: ...

    @property
    def truth(self) -> Truth: ...

    @property
    def connected(self) -> bool: ...

    def now(self) -> float: ...

    async def ask(self, sha: str, keys: Sequence[Word], argv: Sequence[Word]) -> object: ...

    async def reply(self, *words: Word) -> object: ...

    async def tell(self) -> None: ...


async def balances_of(counters: Counting, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
    """Raises CountersUnavailable."""
    if not accounts:
        return []
    keys: list[Word] = [counters.names.most]
    argv: list[Word] = []
    for budget, account in accounts:
        keys.append(counters.names.account(account))
        argv += (budget.amount, budget.window, set_field(budget, account))
    found = await counters.reply("EVALSHA", _BALANCES, len(keys), *keys, *argv)
    if not isinstance(found, list) or len(found) != 4 * len(accounts):
        raise CountersUnavailable("Redis answered something else than balances")
    return [Balance(account, budget.unit, *found[4 * i : 4 * i + 4]) for i, (budget, account) in enumerate(accounts)]


async def adjust(counters: Counting, adjustment: Adjustment, clock: Clock) -> None:
    """Raises CountersUnavailable."""
    truth, budget, account = counters.truth, adjustment.budget, adjustment.account
    if adjustment.id in truth.seen:
        return
    own = truth.own(account, budget, int(counters.now()))
    if adjustment.forgiven:
        if own.window:
            await _forgive(counters, own.parts, account, own.window, adjustment.forgiven)
        else:
            own.parts[0] = own.parts.get(0, 0) - adjustment.forgiven
    truth.seen.add(adjustment.id)
    if adjustment.granted and adjustment.until:
        own.timed.append((adjustment.granted, adjustment.until))
    else:
        own.granted += adjustment.granted
    if adjustment.most is not None or adjustment.unset:
        truth.set_most(set_field(budget, account), adjustment.most, clock.time())
    truth.dirty.add(account)
    if counters.connected:
        await counters.tell()
        keys = (counters.names.most, counters.names.account(account))
        words = (budget.amount, budget.window, set_field(budget, account), marks_of(budget))
        await counters.reply("EVALSHA", _UNMARK, 2, *keys, *words)


async def _forgive(counters: Counting, parts: dict[int, int], account: Account, window: int, amount: int) -> None:
    found = await counters.ask(_FORGIVE, (counters.names.state, counters.names.account(account)), (amount, window))
    if not isinstance(found, list):
        raise CountersUnavailable("Redis did not forgive")
    for at, some in zip(found[::2], found[1::2], strict=True):
        parts[at] = parts.get(at, 0) - some
