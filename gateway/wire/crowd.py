"""Who is turned away when there is too much to do: before the pipeline, by the class of the route.

1. Each class may fill a share of the places that the front has for exchanges: sheddable calls the smallest, critical
ones all of them. What fills up last is what the others may not take.
2. A loop that is late has more to do than it can: sheddable calls are turned away first, normal ones when it is much
later, critical ones never for that.
3. Both bounds stand on the route, worked out when the snapshot was built; a route without any costs two comparisons.
4. Lateness is measured while somebody is inside, by a timer that runs again and again; it falls by half at each look.
Whoever is turned away is told when to come again, and not everybody the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.core.ports import Clock
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route

LOOK_SECONDS: Final = 0.05
AGAIN_MOST: Final = 4  # seconds after which who was turned away may come again: 1 to this many


class Crowd:
    """`inside`: exchanges that are open. `late`: by how many seconds the loop is. One loop's own."""

    __slots__ = ("_clock", "_due", "_timer", "inside", "late", "shed")

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.inside = 0
        self.late = 0.0
        self.shed = 0  # how many were turned away

    def enter(self, route: Route) -> Refusal | None:
        """Counts who comes in; a refusal for who is turned away, who is not counted."""
        if route.lateness > 0.0 and self._timer is None:
            self._look_later()
        if route.places and self.inside >= route.places:
            return self._refusal(route)
        if route.lateness > 0.0 and self.late > route.lateness:
            return self._refusal(route)
        self.inside += 1
        return None

    def leave(self) -> None:
        self.inside -= 1

    def look(self) -> None:
        """Measures (4)."""
        self._timer = None
        now = self._clock.monotonic()
        self.late = max(now - self._due, self.late / 2)
        if self.inside:
            self._look_later()
        else:
            self.late = 0.0

    def _look_later(self) -> None:
        self._due = self._clock.monotonic() + LOOK_SECONDS
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self.look)

    def _refusal(self, route: Route) -> Refusal:
        self.shed += 1
        text = "The gateway has more to do than it can; calls of this class are turned away first"
        again = 1 + self.shed % AGAIN_MOST
        return Refusal(Reason.OVERLOADED, text, rule=f"shed:{route.priority}", retry_after=again)
