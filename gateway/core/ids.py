"""UUIDv7 (RFC 9562): ids that sort by time. 48 bits of milliseconds, 74 random bits, version and variant."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

POOL_IDS: Final = 256  # as many are prepared at once: a system call and the bits for each would cost more than the rest
_MIDDLE_BYTES: Final = 4 * POOL_IDS
_KEPT: Final = int("0fff3fff" * POOL_IDS, 16)
_SET: Final = int("70008000" * POOL_IDS, 16)  # version and variant


class Ids:
    """Makes ids from a given wall clock and source of randomness (`entropy(n)` gives n bytes). One thread's own."""

    __slots__ = ("_entropy", "_left", "_middles", "_millisecond", "_stamp", "_tails", "_time")

    def __init__(self, time: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._time = time
        self._entropy = entropy
        self._left = 0
        self._middles = ""  # of ten characters: `7xxx-yxxx-`
        self._tails = ""  # of twelve
        self._millisecond = -1
        self._stamp = ""  # what the millisecond looks like: many ids share one

    def new(self) -> str:
        if not self._left:
            self._refill()
        self._left = left = self._left - 1
        millisecond = int(self._time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            text = millisecond.to_bytes(6, "big").hex()
            self._stamp = f"{text[:8]}-{text[8:]}-"
        middle, tail = left * 10, left * 12
        return f"{self._stamp}{self._middles[middle : middle + 10]}{self._tails[tail : tail + 12]}"

    def _refill(self) -> None:
        middles = int.from_bytes(self._entropy(_MIDDLE_BYTES), "big") & _KEPT | _SET
        self._middles = middles.to_bytes(_MIDDLE_BYTES, "big").hex("-", 2) + "-"
        self._tails = self._entropy(6 * POOL_IDS).hex()
        self._left = POOL_IDS
