"""Who administers budgets meets who counts them: the budgets in force, their running periods, acts that are told of.

The rule: an act is in the log before anybody counts it (control/budgets.py), so whoever counts may be told of it late
and twice, and counts it once. What could not be told is told again each second; a gateway that died in between finds it
in its log, from which its counters are filled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields

from gateway import config
from gateway.core.accounts import Account, Adjustment, Balance, Budget, CountersUnavailable
from gateway.core.canonical import Json
from gateway.core.ledger import Counters
from gateway.core.ports import Clock
from gateway.core.snapshot import Snapshot
from gateway.core.usage import Running
from gateway.ledger.periods import running

_UNITS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}

_log = logging.getLogger("tollgate")


class RunningAccounts:
    """The AccountDesk port (core/usage.py)."""

    def __init__(
        self,
        settings: Callable[[], config.Settings],
        snapshot: Callable[[], Snapshot],
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._counters = counters
        self._clock = clock
        self._untold: list[Adjustment] = []

    @property
    def budgets(self) -> Sequence[Budget]:
        return self._snapshot().ledger.budgets

    @property
    def limits(self) -> list[dict[str, Json]]:
        return [_limit(limit) for limit in self._settings().limits]

    @property
    def shared(self) -> bool:
        return self._settings().stores.counters != "memory"

    def running(self, budget: Budget) -> Running:
        span = running(budget, self._clock.time())
        return Running(span.period, span.begins, span.ends)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await self._counters.balances(accounts)

    async def adjust(self, adjustment: Adjustment) -> bool:
        try:
            await self._counters.adjust(adjustment)
        except CountersUnavailable as away:
            _log.error("an adjustment of %s is told of later: %s", adjustment.account, away)
            self._untold.append(adjustment)
            return False
        return True

    async def retell(self) -> None:
        """Each second: what could not be told."""
        waiting, self._untold = self._untold, []
        for adjustment in waiting:
            await self.adjust(adjustment)


def _limit(limit: config.Limit) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for field in fields(limit):
        value = getattr(limit, field.name)
        if value is None:
            continue
        if isinstance(value, config.Rate):
            unit = _UNITS.get(value.seconds, f"{value.seconds} s")
            found[field.name] = f"{value.count}/{unit}"
        else:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found
