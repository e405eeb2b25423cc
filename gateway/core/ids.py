"""UUIDv7 (RFC 9562): ids that sort by time. 48 bits of milliseconds, 74 random bits, version and variant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

RANDOM_BYTES: Final = 10  # of whose 20 digits 19 are used: 74 bits and the two of the variant
POOL_IDS: Final = (
    256  # as many are prepared at once: a system call and six slices for each would cost more than the rest
)
_KEPT = int(("fff3" + "f" * 16) * POOL_IDS, 16)
_VARIANT = int(("0008" + "0" * 16) * POOL_IDS, 16)
_GROUPS = re.compile("(...)(....)(............).")


class Ids:
    """Makes ids from a given wall clock and source of randomness (`entropy(n)` gives n bytes). One thread's own."""

    __slots__ = ("_entropy", "_millisecond", "_pool", "_stamp", "_time")

    def __init__(self, time: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._time = time
        self._entropy = entropy
        self._pool: list[tuple[str, str, str]] = []  # what follows the version's digit, in its three groups
        self._millisecond = -1
        self._stamp = ""  # what the millisecond looks like: many ids share one

    def new(self) -> str:
        if not self._pool:
            self._refill()
        millisecond = int(self._time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            text = millisecond.to_bytes(6, "big").hex()
            self._stamp = f"{text[:8]}-{text[8:]}-7"
        return self._stamp + "-".join(self._pool.pop())

    def _refill(self) -> None:
        size = POOL_IDS * RANDOM_BYTES
        number = int.from_bytes(self._entropy(size), "big") & _KEPT | _VARIANT
        self._pool = _GROUPS.findall(number.to_bytes(size, "big").hex())
