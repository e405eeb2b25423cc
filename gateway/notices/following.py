"""Where a reader of the log stands: it goes on where it stopped, if that is still a place in this very log.

The rule: a place is a seq and the digest of the entry there. Where the log has another entry the place is of another
log, and the reader begins anew; never does it guess.
"""

from __future__ import annotations

import hashlib
import logging

from gateway.core.notices import Place
from gateway.core.query import Entries

_log = logging.getLogger("tollgate.notices")


class NotReadable(Exception):
    """The log does not show yet what it is said to have; it will."""


def behind(seq: int, entry: bytes) -> Place:
    """The place of who took this entry."""
    return Place(seq, hashlib.sha256(entry).digest())


def standing(entries: Entries, found: Place | None, begin: int) -> Place:
    """`found` if it is of this log, else right before `begin`. Raises NotReadable."""
    if found is not None:
        if found.seq < 0:
            return found
        if [behind(*item) for item in entries.read(found.seq, found.seq + 1)] == [found]:
            return found
        _log.warning("the place at record %d is of another log: what is told begins anew", found.seq)
    if begin <= 0:
        return Place(-1, b"")
    before = [behind(*item) for item in entries.read(begin - 1, begin)]
    if not before:
        raise NotReadable(f"record {begin - 1} cannot be read yet")
    return before[0]
