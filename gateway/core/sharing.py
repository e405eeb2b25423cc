"""A stable share of many names: the same name is always in it or always out of it, wherever it is asked.

The rule: who is in a share stays in it while the share grows, so that a roll-out from 10 to 20 per cent takes nobody's
revision away again. Another salt draws another share. It is no secret and no protection: whoever knows the salt can
tell who is in.
"""

from __future__ import annotations

import hashlib
from typing import Final

_WHOLE: Final = 1 << 64


def place_of(name: str, salt: str) -> float:
    """Where a name stands, from 0 up to but without 1, spread evenly over all names."""
    hashed = hashlib.sha256(f"{len(salt)}:{salt}{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(hashed[:8]) / _WHOLE


def among(name: str, salt: str, share: float) -> bool:
    """Whether it is in the share of that size: 0 is nobody, 1 is everybody."""
    return share >= 1 or place_of(name, salt) < share
