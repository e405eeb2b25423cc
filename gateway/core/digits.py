"""Integers that no double can hold, kept as what they were. In a file of its own: the compiled build (setup.py) makes
native classes, and those cannot extend a built-in type.
"""

from __future__ import annotations


class BigDigits(str):
    """An integer beyond 2^53-1, as its digits, until it is known whether its place tolerates one."""

    __slots__ = ()
