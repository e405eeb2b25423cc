"""Where the log may die: named points between two effects on the disk, at which a test kills the process.

Whoever writes calls its `crash_point` with the name there; in a gateway that serves it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

CrashPoint = Callable[[str], None]
"""Told where the program stands between two effects; a test dies there."""

CRASH_POINTS = (
    "blob.before_write",
    "blob.after_write",
    "journal.before_write",
    "journal.after_sync",
    "commit.after_wake",
    "tile.before_write",
    "tile.after_write",
    "tile.after_sync",
    "checkpoint.before_write",
    "checkpoint.after_write",
    "checkpoint.after_sync",
    "journal.before_recycle",
    "recovery.before_close",
    "recovery.after_close",
)
"""Every place where a test may kill the process; each lies between two effects on the disk."""
