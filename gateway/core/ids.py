"""UUIDv7 (RFC 9562): ids that sort by time. 48 bits of milliseconds, 74 random bits, version and variant."""

from __future__ import annotations

import os
from collections.abc import Callable

RANDOM_BYTES = 10
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
POOL_IDS = 256  # randomness is fetched for so many at once: a system call for each would cost more than the rest


class Ids:
    """Makes ids from a given wall clock and source of randomness (`entropy(n)` gives n bytes). One thread's own."""

    __slots__ = ("_at", "_entropy", "_pool", "_time")

    def __init__(self, time: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._time = time
        self._entropy = entropy
        self._pool = b""
        self._at = 0

    def new(self) -> str:
        at = self._at
        if at >= len(self._pool):
            self._pool, at = self._entropy(POOL_IDS * RANDOM_BYTES), 0
        self._at = at + RANDOM_BYTES
        text = (
            ((int(self._time() * 1000) << 80) | int.from_bytes(self._pool[at : at + RANDOM_BYTES])).to_bytes(16).hex()
        )
        return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"
