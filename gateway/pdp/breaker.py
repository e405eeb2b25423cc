"""A breaker for one engine: while it is known to fail, nobody waits for it. Sans-I/O; time comes in as a number.

1. Closed: every question is asked. `failures` failures in a row open it; one answer between them starts the count anew.
2. Open: nothing is asked for `open_s` seconds, and each question is refused at once.
3. Half-open: behind that one question is asked, the probe. All others are refused until its end is known: an answer
   closes the breaker, a failure opens it for another `open_s`.
4. An end that says nothing of the engine (the caller went away, the question itself was refused) counts as neither, and
   gives the probe's place to the next.
5. What was asked before the last change of state changes nothing any more.
It must never let a question through that it did not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class End(StrEnum):
    """How a question ended, for the breaker."""

    ANSWERED = "answered"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """`open_s` is short: the one probe behind it costs one caller one deadline, and policy is on every path."""

    failures: int = 5
    open_s: float = 1.0


class Breaker:
    """One engine's. Monotonic seconds go into every call."""

    __slots__ = ("_failed", "_period", "_settings", "_state", "_until")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._state = State.CLOSED
        self._failed = 0
        self._until = 0.0
        self._period = 0

    def state(self, now: float) -> State:
        """As a question would find it now."""
        if self._state is State.OPEN and now >= self._until:
            return State.HALF_OPEN
        return self._state

    def admit(self, now: float) -> int | None:
        """What `ended` must be given for this question; None: it is not asked."""
        if self._state is State.CLOSED:  # 1
            return self._period
        if self._state is State.OPEN and now >= self._until:  # 3
            self._turn(State.HALF_OPEN)
            return self._period
        return None  # 2, 3

    def ended(self, admitted: int, end: End, now: float) -> None:
        if admitted != self._period:  # 5
            return
        if end is End.ANSWERED:
            self._failed = 0
            if self._state is State.HALF_OPEN:
                self._turn(State.CLOSED)  # 3
        elif end is End.FAILED:
            self._failed += 1
            if self._state is State.HALF_OPEN or self._failed >= self._settings.failures:
                self._open(now)
        elif self._state is State.HALF_OPEN:  # 4
            self._turn(State.OPEN)
            self._until = now

    def _open(self, now: float) -> None:
        self._turn(State.OPEN)
        self._failed = 0
        self._until = now + self._settings.open_s

    def _turn(self, state: State) -> None:
        self._state = state
        self._period += 1
