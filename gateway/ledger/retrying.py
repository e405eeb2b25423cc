"""How often calls may be sent again: a share of those of the last seconds, counted for each upstream. Sans-I/O.

1. Of the calls that began in the window at most `budget` per mille were sent again in it, or `least` where that is
   more: an upstream that is down gets little more than the calls themselves.
2. Time goes in parts of the window; one is forgotten when it lies behind it, never sooner.
3. Nobody waits as long as the next one: pauses are drawn from half to one and a half of what is configured, which
   doubles with each attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.core.attempts import RetrySettings
from gateway.core.snapshot import Upstream

PARTS: Final = 10


class Share:
    """One upstream's calls and repeats. Monotonic seconds go into every call."""

    __slots__ = ("_calls", "_part", "_repeats", "_settings", "_width")

    def __init__(self, settings: RetrySettings) -> None:
        self._settings: Final = settings
        self._width: Final = settings.window_s / PARTS
        self._part = 0
        self._calls = [0] * (PARTS + 1)
        self._repeats = [0] * (PARTS + 1)

    def called(self, now: float) -> None:
        self._calls[self._at(now)] += 1

    def repeat(self, now: float) -> bool:
        part = self._at(now)
        repeats = sum(self._repeats)
        if repeats >= max(self._settings.least, sum(self._calls) * self._settings.budget // 1000):  # 1
            return False
        self._repeats[part] += 1
        return True

    def _at(self, now: float) -> int:
        at = int(now / self._width)
        if at > self._part:
            for gone in range(max(self._part + 1, at - PARTS), at + 1):  # 2
                self._calls[gone % (PARTS + 1)] = self._repeats[gone % (PARTS + 1)] = 0
            self._part = at
        return self._part % (PARTS + 1)


class Retrying:
    """The `Again` port over all upstreams; outlives snapshots."""

    def __init__(self, monotonic: Callable[[], float], random: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._random = random
        self._shares: dict[str, tuple[RetrySettings, Share]] = {}
        self.repeated: dict[str, int] = {}  # by upstream, since the start
        self.refused: dict[str, int] = {}  # the share was used up

    def adopt(self, upstreams: Iterable[Upstream]) -> None:
        """Those that are configured now; one whose settings are as they were goes on counting."""
        found: dict[str, tuple[RetrySettings, Share]] = {}
        for upstream in upstreams:
            settings = upstream.retries
            if settings is not None:
                known = self._shares.get(upstream.name)
                same = known is not None and known[0] == settings
                found[upstream.name] = known if known is not None and same else (settings, Share(settings))
        self._shares = found

    def called(self, upstream: Upstream) -> None:
        found = self._shares.get(upstream.name)
        if found is not None:
            found[1].called(self._monotonic())

    def allowed(self, upstream: Upstream) -> bool:
        found = self._shares.get(upstream.name)
        name = upstream.name
        if found is None or not found[1].repeat(self._monotonic()):
            self.refused[name] = self.refused.get(name, 0) + 1
            return False
        self.repeated[name] = self.repeated.get(name, 0) + 1
        return True

    def pause(self, upstream: Upstream, attempt: int) -> float:
        settings = upstream.retries or RetrySettings()
        return settings.pause_s * 2.0 ** (attempt - 2) * (0.5 + self._random())  # 3

    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Repeated and refused, of every upstream that has retries or had some."""
        names = {*self._shares, *self.repeated, *self.refused}
        return {name: (self.repeated.get(name, 0), self.refused.get(name, 0)) for name in sorted(names)}
