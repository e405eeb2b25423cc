"""What counts once: nonces and proof ids, remembered for as long as each could be presented again.

1. A value counts once for its owner (a key's thumbprint), whoever sends it and over whichever connection. 2. Nothing is
forgotten before its time: where the memory is full, or one owner has used up its share of it, the answer is no. Only
values that came under a right signature get in, so a stranger cannot fill it. 3. Time is monotonic: a turned clock
makes nothing fresh again. 4. What was made before this memory began may have been used before it: it does not count.
The memory is this process's, or that of the process that owns it for several workers; a second gateway has its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from enum import StrEnum
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Protocol as Port

from gateway.core.ports import Clock
from gateway.core.posting import ONCE, Post, PostGone, PostRefused

LIMIT = 262_144  # values at the same time, about 40 MB: 4,000 proofs in a second for a minute
SHARE = 65_536  # of them, one owner's
SPAN_SECONDS = 16.0  # values are forgotten by the span
FORGOTTEN_AT_ONCE = 8
CLOCKS_SECONDS = 1.0  # dates are whole seconds: what was made in the first one is not what was made before


class Use(StrEnum):
    FRESH = "fresh"
    AGAIN = "again"
    EARLY = "early"
    FULL = "full"


class Memory(Port):
    """What `Replays` does, here or in another process."""

    def use(self, owner: str, value: str, made: float, until: float) -> Use | Awaitable[Use]: ...


class RemoteReplays:
    """The memory of the process that owns it, asked by a worker: what counted at one counts at none again. Who cannot
    be asked remembers nothing more: the answer is no."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def use(self, owner: str, value: str, made: float, until: float) -> Use:
        try:
            return Use((await self._post.ask(ONCE, json.dumps([owner, value, made, until]).encode())).decode())
        except (PostGone, PostRefused):
            return Use.FULL


def serve_replays(replays: Replays, post: Post) -> None:
    """The owner's side, one worker's."""
    post.asked(ONCE, lambda said: replays.use(*json.loads(said)).encode())


class Replays:
    __slots__ = ("_began", "_clock", "_limit", "_order", "_owners", "_seen", "_share", "_spans")

    def __init__(self, clock: Clock, limit: int = LIMIT, share: int = SHARE) -> None:
        self._clock = clock
        self._began = clock.time()
        self._limit = limit
        self._share = share
        self._seen: set[bytes] = set()
        self._owners: dict[str, int] = {}
        self._spans: dict[int, list[tuple[bytes, str]]] = {}  # by the span in which their time ends
        self._order: list[int] = []  # a heap of the spans' numbers

    def __len__(self) -> int:
        return len(self._seen)

    def use(self, owner: str, value: str, made: float, until: float) -> Use:
        """`made` is when its maker says it was made, `until` when it could be presented for the last time: both epoch
        seconds."""
        if made < self._began - CLOCKS_SECONDS:
            return Use.EARLY  # 4
        now = self._clock.monotonic()
        self._forget(int(now // SPAN_SECONDS))
        mark = blake2b(f"{len(owner)}:{owner}{value}".encode(), digest_size=16).digest()
        if mark in self._seen:
            return Use.AGAIN  # 1
        if len(self._seen) >= self._limit or self._owners.get(owner, 0) >= self._share:
            return Use.FULL  # 2
        self._seen.add(mark)
        self._owners[owner] = self._owners.get(owner, 0) + 1
        span = int((now + max(until - self._clock.time(), 0.0)) // SPAN_SECONDS)
        if span not in self._spans:
            self._spans[span] = []
            heappush(self._order, span)
        self._spans[span].append((mark, owner))
        return Use.FRESH

    def _forget(self, span: int) -> None:
        """A few of those whose span is over: each use makes room for more than itself, and none pays for all."""
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._order or self._order[0] >= span:
                return
            marks = self._spans[self._order[0]]
            if not marks:
                del self._spans[heappop(self._order)]
                continue
            mark, owner = marks.pop()
            self._seen.discard(mark)
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]
