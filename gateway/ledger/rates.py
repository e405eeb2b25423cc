"""The state of rates, one key at a time: GCRA's theoretical arrival times, and the parts of sliding windows.

1. Time comes in, in whole nanoseconds that never go back. 2. Memory is bounded: a key at rest is forgotten, because it
cannot be told from a new one; when `keys_limit` keys are not at rest, a new one is refused as if it were used up.
3. A sliding window counts a call as long as its part could still be within: never more than `most` in any window, and
by up to one part too strict.
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import PARTS, RateAsk, part

_SECOND: Final = 1_000_000_000


class Arrivals:
    """The theoretical arrival time (TAT) of each key of a GCRA rate, in two generations.

    A key's TAT is never more than `capacity` ahead of its last use. A generation that was not written to for so long
    holds only keys at rest, and is dropped whole: no sweep, no timer.
    """

    __slots__ = ("capacity", "gone", "keys_limit", "new", "old", "swept", "turn")

    def __init__(self, capacity: int, keys_limit: int) -> None:
        self.capacity: Final = capacity
        self.keys_limit: Final = keys_limit
        self.new: dict[str, int] = {}
        self.old: dict[str, int] = {}
        self.turn = 0  # when the new generation becomes the old one
        self.swept = -_SECOND
        self.gone = False  # nobody counts here any more

    def ahead(self, ask: RateAsk, now: int) -> int:
        """How far ahead of now the TAT would be with this call: too far when beyond `ask.capacity`."""
        if now >= self.turn:
            self._grow_old(now)
        tat = self.new.get(ask.key, -1)
        if tat < 0:
            tat = self._find(ask.key, now)
        return tat - now + ask.interval if tat > now else ask.interval

    def take(self, key: str, tat: int) -> None:
        self.new[key] = tat

    def rests(self, now: int) -> bool:
        """Whether no key can be told from a new one: none was used since the new generation could have grown old."""
        return now >= self.turn + self.capacity

    def _find(self, key: str, now: int) -> int:
        """Of a key that is not in the new generation."""
        found = self.old.get(key, -1)
        if found < 0:
            if len(self.new) + len(self.old) >= self.keys_limit and not self._room(now):
                return now + self.capacity  # 2
            return 0
        return found

    def _grow_old(self, now: int) -> None:
        self.old = self.new if now < self.turn + self.capacity else {}
        self.new = {}
        self.turn = now + self.capacity

    def _room(self, now: int) -> bool:
        """Forgets what is at rest already; at most once a second, for it looks at every key."""
        if now - self.swept < _SECOND:
            return False
        self.swept = now
        self.new = {key: tat for key, tat in self.new.items() if tat > now}
        self.old = {key: tat for key, tat in self.old.items() if tat > now and key not in self.new}
        return len(self.new) + len(self.old) < self.keys_limit


class Window:
    """The calls of one key by parts, oldest first."""

    __slots__ = ("counts", "parts", "total")

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.counts: list[int] = []
        self.total = 0

    def forget(self, current: int) -> None:
        """What is out of the window by now."""
        gone = 0
        for known in self.parts:
            if known >= current - PARTS:
                break
            self.total -= self.counts[gone]
            gone += 1
        if gone:
            del self.parts[:gone]
            del self.counts[:gone]

    def rests(self, current: int) -> bool:
        """Whether it cannot be told from a new one."""
        return not self.parts or self.parts[-1] < current - PARTS

    def add(self, current: int) -> None:
        if self.parts and self.parts[-1] == current:
            self.counts[-1] += 1
        else:
            self.parts.append(current)
            self.counts.append(1)
        self.total += 1


class Windows:
    """The windows of one sliding rate's keys, the one that was used last at the end: those at rest stand in front."""

    __slots__ = ("keys_limit", "window", "windows")

    def __init__(self, window: int, keys_limit: int) -> None:
        self.window: Final = window
        self.keys_limit: Final = keys_limit
        self.windows: dict[str, Window] = {}

    def find(self, key: str, now: int) -> Window | None:
        """None where there is no room for one more key (2). A new one is not kept before a call is counted in it."""
        current = part(now, self.window)
        found = self.windows.get(key)
        if found is not None:
            found.forget(current)
            return found
        while self.windows:
            first = next(iter(self.windows))
            if not self.windows[first].rests(current):
                break
            del self.windows[first]
        return None if len(self.windows) >= self.keys_limit else Window()

    def take(self, key: str, found: Window, now: int) -> None:
        self.windows.pop(key, None)
        self.windows[key] = found
        found.add(part(now, self.window))

    def rests(self, now: int) -> bool:
        current = part(now, self.window)
        return all(found.rests(current) for found in self.windows.values())

    def out(self, of: int, now: int) -> int:
        """Nanoseconds until a part is out of the window."""
        return -(-(of + PARTS + 1) * self.window // PARTS) - now


def told(rate: RateAsk, ahead: int) -> tuple[int, int, int]:
    """Of a rate whose TAT is so far ahead of now."""
    return (
        max(0, (rate.capacity - ahead) // rate.interval),
        max(0, ahead + rate.interval - rate.capacity),
        max(0, ahead),
    )


def told_window(rate: RateAsk, known: Windows, found: Window | None, now: int) -> tuple[int, int, int]:
    if found is None:
        return 0, rate.window, rate.window
    if not found.parts:
        return rate.most, 0, 0
    left = rate.most - found.total
    return left, 0 if left > 0 else known.out(found.parts[0], now), known.out(found.parts[-1], now)
