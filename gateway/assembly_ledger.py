"""From the configuration's limits and budgets to the ledger of a snapshot.

What counts (`counters`) and what ledgers have in common outlives every snapshot, so that a reload forgets no count.
"""

from __future__ import annotations

from gateway import config
from gateway.core.accounts import Budget, amount, scale
from gateway.core.ledger import Counters
from gateway.core.ports import Clock
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.ledger import Asking, Memory
from gateway.ledger.limits import LimitSettings
from gateway.telemetry import Gauge


class Ledgers:
    """Makes the ledger of each snapshot."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self.counters = counters
        self._clock = clock
        self._memory = Memory()

    def build(self, settings: config.Settings) -> Asking:
        """Raises ValueError for what makes no sense."""
        limits = [_limit(found) for found in settings.limits]
        budgets = [budget_of(found) for found in settings.budgets]
        return Asking(limits, budgets, self.counters, self._clock, self._memory)


def budget_gauges(counters: MemoryCounters) -> list[Gauge]:
    """By budget, not by account: there may be as many of these as there are callers."""

    def reserved() -> list[tuple[tuple[str, ...], float]]:
        return [((name,), found / scale(unit)) for name, unit, found, _ in counters.summary()]

    def used() -> list[tuple[tuple[str, ...], float]]:
        return [((name,), fullest) for name, _, _, fullest in counters.summary()]

    return [
        Gauge("tollgate_budget_reserved", "Reserved of all accounts, in the budget's unit.", ("budget",), reserved),
        Gauge("tollgate_budget_used_ratio", "Settled of the fullest account, this period.", ("budget",), used),
    ]


def _limit(found: config.Limit) -> LimitSettings:
    if found.rate is None:
        return LimitSettings(found.name, found.key, concurrent=found.concurrent, shadow=found.shadow)
    return LimitSettings(
        found.name,
        found.key,
        rate=found.rate.count,
        window=found.rate.seconds,
        burst=found.burst,
        sliding=found.window == "sliding",
        shadow=found.shadow,
    )


def budget_of(found: config.Budget) -> Budget:
    return Budget(
        name=found.name,
        key=found.key,
        unit=found.unit,
        amount=amount(found.amount, found.unit),
        period=found.period,
        window=found.window or 0,
        zone=found.zone,
        anchor=found.anchor,
        warn_at=found.warn_at,
        unpriced=found.unpriced,
        carry=found.carry,
    )
