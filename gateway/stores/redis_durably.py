"""Lets other nodes have the room that a call did not use only when the log has what it came to.

Without this a gateway that is killed right behind a call overspends: Redis was told the true, smaller cost, others
took the rest, and then recovery finds an intent without its outcome and settles all that was reserved. In one log that
cannot happen (who takes the room is durable only behind the outcome); between two logs it does. The rules:
1. `close` gives places back at once, and keeps what was reserved until the log is durable as far as it was
   `SEEN_SECONDS` after the call was closed: by then the outcome was submitted, from a worker too.
2. While the log is down nothing is given back: what it did not take will be `unknown` if the gateway ends now.
3. Nothing here is looked at while nothing waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from typing import Protocol as Port

from gateway.core.accounts import Account, Adjustment, Ask, Balance, Budget, Charge, ChargeAsk, Given
from gateway.core.ledger import Counters

SEEN_SECONDS: Final = 0.01


class Places(Port):
    """Who gives places back on their own (redis_counters.py)."""

    def holds(self, id: str) -> bool: ...

    def leave(self, id: str) -> None:
        """The id's places are free now; what it has reserved stays."""
        ...


class Durably:
    """core.ledger.Counters over those in Redis. `log` says how many records are durable, how many were submitted,
    and whether it takes more. One loop's own."""

    __slots__ = ("_counters", "_fresh", "_log", "_places", "_timer", "_waiting")

    def __init__(self, counters: Counters, places: Places, log: Callable[[], tuple[int, int, bool]]) -> None:
        self._counters: Final = counters
        self._places: Final = places
        self._log: Final = log
        self._fresh: list[tuple[str, Sequence[Charge]]] = []  # closed since the last look
        self._waiting: deque[tuple[int, list[tuple[str, Sequence[Charge]]]]] = deque()  # by how far the log must be
        self._timer: asyncio.TimerHandle | None = None

    def take(self, ask: Ask) -> Given | Awaitable[Given]:
        return self._counters.take(ask)

    def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given | Awaitable[Given]:
        return self._counters.grow(id, charges)

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        if not charges or not self._places.holds(id):
            self._counters.close(id, charges)
            return
        self._places.leave(id)
        self._fresh.append((id, charges))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SEEN_SECONDS, self._look)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await self._counters.balances(accounts)

    async def adjust(self, adjustment: Adjustment) -> None:
        await self._counters.adjust(adjustment)

    async def check(self) -> None:
        await self._counters.check()

    def finish(self) -> None:
        """The log is closed: what it has is given back, what it has not will be recovered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._settle(closed=True)

    @property
    def waiting(self) -> int:
        """Closed calls of which Redis was not told."""
        return len(self._fresh) + sum([len(closed) for _, closed in self._waiting])

    def _look(self) -> None:
        self._timer = None
        self._settle()
        if self._fresh or self._waiting:
            self._timer = asyncio.get_running_loop().call_later(SEEN_SECONDS, self._look)

    def _settle(self, closed: bool = False) -> None:
        """1, 2."""
        durable, submitted, takes = self._log()
        if self._fresh and (takes or closed):
            self._waiting.append((submitted, self._fresh))
            self._fresh = []
        while self._waiting and self._waiting[0][0] <= durable:
            for id, charges in self._waiting.popleft()[1]:
                self._counters.close(id, charges)
