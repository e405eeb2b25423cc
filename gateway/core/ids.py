"""UUIDv7 (RFC 9562): ids that sort by time. 48 bits of milliseconds, 74 random bits, version and variant."""

from __future__ import annotations

import os
from collections.abc import Callable


class Ids:
    """Makes ids from a given wall clock and source of randomness (`entropy(n)` gives n bytes)."""

    __slots__ = ("_entropy", "_time")

    def __init__(self, time: Callable[[], float], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._time = time
        self._entropy = entropy

    def new(self) -> str:
        random = int.from_bytes(self._entropy(10))
        number = (int(self._time() * 1000) & 0xFFFFFFFFFFFF) << 80
        number |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & 0x3FFFFFFFFFFFFFFF
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
