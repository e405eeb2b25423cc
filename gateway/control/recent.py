"""What of the last exchanges no record says: how long the decision took, and the first byte. An Observer.

The rule: it keeps a few numbers per exchange, at most `KEPT` of them, nothing of what was asked, and never an exchange
itself, whose snapshot would stay with it. What is older is known from the records alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.core.exchange import Exchange

KEPT: Final = 2048


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds. `decision` 0.0: the decision was kept from before; None: there was none."""

    decision: float | None
    first_byte: float | None


class Recent:
    def __init__(self) -> None:
        self._last: deque[tuple[str, float | None, float | None]] = deque(maxlen=KEPT)

    def finished(self, exchange: Exchange) -> None:
        decision = exchange.decision
        self._last.append((exchange.id, decision.ms if decision is not None else None, exchange.first_byte_ms))

    def times(self, exchange: str) -> Times | None:
        """Looks through all of them: for people."""
        return next((Times(item[1], item[2]) for item in self._last if item[0] == exchange), None)
