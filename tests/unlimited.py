"""A ledger of a snapshot without limits and budgets, for exchanges that only other parts look at."""

from __future__ import annotations

from typing import Any

from gateway.ledger.counters import MemoryCounters
from gateway.ledger.ledger import Asking, Memory


def unlimited() -> Asking:
    clock: Any = None
    counters: Any = MemoryCounters(clock)
    return Asking((), (), counters, clock, Memory())
