"""A breaker: while something is known to fail, nobody waits for it. Sans-I/O; time comes in as a number.

1. Closed: every call is let through. `failures` failures in a row open it; one answer between them starts the count
   anew. So does a share of failed or of slow calls among the last `window_s` seconds', once there were `calls` of them.
2. Open: nothing is let through for a while, and each call is refused at once. The while is `open_s`; twice that when
   the last one brought nothing (a probe failed, or it opened again sooner than it had been left alone for), up to
   `open_most_s`; less a random part of up to `jitter` of it, so that many gateways do not come back at once.
3. Half-open: behind that `half_open` calls are let through, the probes. All others are refused until their end is
   known: when all of them were answered it closes; one that fails or is slow opens it again.
4. An end that says nothing of it (the caller went away, the call itself was refused) counts as neither, and gives the
   probe's place to the next.
5. What was let through before the last change of state changes nothing any more.
6. Held open or held closed by somebody it stays so whatever happens, until it is let go; then it is closed and has
   counted nothing.
It must never let a call through that it did not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from typing import Protocol as Port

if TYPE_CHECKING:
    from gateway.core.exchange import Exchange
    from gateway.core.reasons import Refusal

PARTS: Final = 10  # of the window: what happened longer ago than it is forgotten a part at a time


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class End(StrEnum):
    """How a call ended, for the breaker."""

    ANSWERED = "answered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Hold(StrEnum):
    """What somebody wants of it; `auto`: nothing."""

    OPEN = "open"
    CLOSE = "close"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Seconds, and shares per mille; a share of 0 is not looked at, `open_most_s` 0 is `open_s`. `per_tool` is for
    whoever keeps breakers: one for each tool of an upstream."""

    failures: int = 5
    open_s: float = 1.0
    open_most_s: float = 0.0
    jitter: float = 0.0
    half_open: int = 1
    window_s: float = 30.0
    calls: int = 20
    rate: int = 0
    slow_s: float = 0.0
    slow_rate: int = 0
    per_tool: bool = False


class Breaker:
    """One of them. Monotonic seconds go into every call; `random` gives numbers from 0 to 1; `turned` is told the state
    it came from, the new one, and why."""

    __slots__ = (
        "_alone", "_answered", "_calls", "_calm_since", "_failed", "_failures", "_held", "_level", "_part", "_period",
        "_probes", "_random", "_rates", "_settings", "_slow", "_state", "_turned", "_until", "_width", "why",
    )  # fmt: skip

    def __init__(
        self,
        settings: BreakerSettings,
        random: Callable[[], float] | None = None,
        turned: Callable[[State, State, str], None] | None = None,
    ) -> None:
        self._settings: Final = settings
        self._random: Final = random
        self._turned: Final = turned
        self._rates: Final = settings.rate > 0 or settings.slow_rate > 0
        self._width: Final = settings.window_s / PARTS
        self._state = State.CLOSED
        self._held = Hold.AUTO
        self._failed = 0  # in a row
        self._until = 0.0
        self._period = 0
        self._probes = 0  # under way
        self._answered = 0  # of the probes
        self._level = 0  # how often in a row leaving it alone brought nothing
        self._alone = 0.0  # how long it was left alone last
        self._calm_since = -math.inf  # when it closed
        self._part = 0
        self._calls = [0] * PARTS
        self._failures = [0] * PARTS
        self._slow = [0] * PARTS
        self.why = ""  # it is in this state

    @property
    def held(self) -> Hold:
        return self._held

    @property
    def calm(self) -> bool:
        """Whether it cannot be told from a new one by what it lets through."""
        return self._state is State.CLOSED and self._failed == 0 and self._held is Hold.AUTO

    def state(self, now: float) -> State:
        """As a call would find it now."""
        if self._state is State.OPEN and self._held is Hold.AUTO and now >= self._until:
            return State.HALF_OPEN
        return self._state

    def wait(self, now: float) -> float:
        """Seconds until a call may be let through; 0 where that is now or nobody knows."""
        if self._state is State.OPEN and self._held is Hold.AUTO:
            return max(0.0, self._until - now)
        return 0.0

    def admit(self, now: float) -> int | None:
        """What `ended` must be given for this call; None: it is not let through."""
        if self._state is State.CLOSED:  # 1
            return self._period
        if self._held is not Hold.AUTO:  # 6
            return None
        if self._state is State.OPEN:
            if now < self._until:  # 2
                return None
            self._turn(State.HALF_OPEN, "it was left alone for long enough")
        if self._probes + self._answered >= self._settings.half_open:  # 3
            return None
        self._probes += 1
        return self._period

    def probing(self, admitted: int) -> bool:
        """Whether that call is a probe whose end is waited for."""
        return self._state is State.HALF_OPEN and admitted == self._period

    def ended(self, admitted: int, end: End, now: float, slow: bool = False) -> None:
        if admitted != self._period:  # 5
            return
        if self._state is State.HALF_OPEN:
            self._probed(end, now, slow)
        elif end is not End.UNKNOWN and self._held is Hold.AUTO:
            self._count(end, now, slow)

    def hold(self, wanted: Hold, again: bool = False) -> None:
        """Opens or closes it until it is let go with AUTO. `again`: it was held so before, which is told to nobody."""
        if wanted is self._held:
            return
        self._held = wanted
        self._level = 0
        self._calm_since = -math.inf
        self._forget()
        state = State.OPEN if wanted is Hold.OPEN else State.CLOSED
        why = "let go by an administrator" if wanted is Hold.AUTO else f"held {state} by an administrator"
        self._turn(state, why, quiet=again)  # 6

    def _probed(self, end: End, now: float, slow: bool) -> None:
        self._probes -= 1
        if end is End.UNKNOWN:  # 4
            return
        if end is End.FAILED:
            self._open(now, "the probe failed", again=True)
        elif slow and self._settings.slow_rate:
            self._open(now, f"the probe took longer than {self._settings.slow_s:g} s", again=True)
        else:
            self._answered += 1
            if self._answered >= self._settings.half_open:
                self._calm_since = now
                self._forget()
                self._turn(State.CLOSED, "it answers again")

    def _count(self, end: End, now: float, slow: bool) -> None:
        failed = end is End.FAILED
        self._failed = self._failed + 1 if failed else 0
        settings = self._settings
        why = ""
        if self._rates:
            why = self._share(failed, slow, now)
        if self._failed >= settings.failures:
            why = f"{self._failed} failures in a row"
        if why:
            self._open(now, why, again=now - self._calm_since < self._alone)

    def _share(self, failed: bool, slow: bool, now: float) -> str:
        """Counts into the window; why it opens now, "" if it does not."""
        at = int(now / self._width)
        if at > self._part:
            for gone in range(max(self._part + 1, at - PARTS + 1), at + 1):
                self._calls[gone % PARTS] = self._failures[gone % PARTS] = self._slow[gone % PARTS] = 0
            self._part = at
        part = self._part % PARTS
        self._calls[part] += 1
        if failed:
            self._failures[part] += 1
        elif slow:
            self._slow[part] += 1
        settings = self._settings
        calls = sum(self._calls)
        if calls < settings.calls or not (failed or slow):
            return ""
        wrong = sum(self._failures)
        if settings.rate and wrong * 1000 >= settings.rate * calls:
            return f"{wrong} of {calls} calls failed within {settings.window_s:g} s"
        late = sum(self._slow)
        if settings.slow_rate and late * 1000 >= settings.slow_rate * calls:
            return f"{late} of {calls} calls within {settings.window_s:g} s took longer than {settings.slow_s:g} s"
        return ""

    def _open(self, now: float, why: str, again: bool) -> None:
        settings = self._settings
        self._level = min(self._level + 1, 32) if again else 0
        alone = min(settings.open_s * 2.0**self._level, max(settings.open_s, settings.open_most_s))
        if self._random is not None:
            alone -= alone * settings.jitter * self._random()
        self._alone = alone
        self._until = now + alone  # 2
        self._forget()
        self._turn(State.OPEN, why)

    def _forget(self) -> None:
        self._failed = 0
        for part in range(PARTS):
            self._calls[part] = self._failures[part] = self._slow[part] = 0

    def _turn(self, state: State, why: str, quiet: bool = False) -> None:
        before, self._state = self._state, state
        self._period += 1
        self._probes = 0
        self._answered = 0
        self.why = why
        if self._turned is not None and not quiet and before is not state:
            self._turned(before, state, why)


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of state of a breaker; `tool` is "" for one of a whole upstream."""

    upstream: str
    tool: str
    before: State
    after: State
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a breaker stands. `wait` is seconds until a call may be let through, 0 where none is refused."""

    upstream: str
    tool: str
    state: State
    held: Hold
    why: str
    wait: float


class Trial(Port):
    """What an exchange holds of a breaker: its call was let through, and how it ends counts."""

    @property
    def probing(self) -> bool:
        """Whether it is a probe whose end is waited for."""
        ...

    def arrived(self) -> None:
        """The head of an answer is here: who waits for a probe need not wait for the end of a long stream."""
        ...

    def release(self) -> None: ...


class Breaking(Port):
    """The breakers of all upstreams (ledger/breakers.py)."""

    def admit(self, exchange: Exchange) -> Refusal | None:
        """Puts a Trial on the exchange, where its upstream has a breaker and that lets it through."""
        ...
