"""How many examples a property is asked: all in `make test`, a fifth in the fast suite.

They are other ones in each run: the fast suite sees many of them over a day, the whole suite many at once.
"""

from __future__ import annotations

import os

LEAST = 25


def examples(many: int) -> int:
    return max(LEAST, many // 5) if os.environ.get("TOLLGATE_TESTS") == "fast" else many
