"""UUIDv7 (RFC 9562): ids that sort by time. 48 bits of milliseconds, 74 random bits, version and variant."""

from __future__ import annotations

import os
from collections.abc import Callable

RANDOM_DIGITS = 20  # hexadecimal, of which 19 are used: 74 bits and the two of the variant
POOL_IDS = 256  # randomness is fetched for so many at once: a system call for each would cost more than the rest
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Ids:
    """Makes ids from a given wall clock and source of randomness (`entropy(n)` gives n bytes). One thread's own."""

    __slots__ = ("_at", "_entropy", "_millisecond", "_pool", "_stamp", "_time")

    def __init__(self, time: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._time = time
        self._entropy = entropy
        self._pool = ""
        self._at = 0
        self._millisecond = -1
        self._stamp = ""  # what the millisecond looks like: many ids share one

    def new(self) -> str:
        at = self._at
        if at >= len(self._pool):
            self._pool, at = self._entropy(POOL_IDS * RANDOM_DIGITS // 2).hex(), 0
        self._at = at + RANDOM_DIGITS
        millisecond = int(self._time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            text = millisecond.to_bytes(6, "big").hex()
            self._stamp = f"{text[:8]}-{text[8:]}-7"
        pool = self._pool
        variant = _VARIANT[pool[at + 3]]
        return f"{self._stamp}{pool[at : at + 3]}-{variant}{pool[at + 4 : at + 7]}-{pool[at + 7 : at + 19]}"
