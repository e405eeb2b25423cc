"""The arithmetic of loops: how much there may be of a value, and which loops may run around each other.

The rule: sizes and nests only grow where parts meet, and stop growing where they are too many anyway, so that whoever
walks a policy ends. Nothing here knows the syntax tree (bounds.py reads it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

NESTING = 3  # roles x names of an upstream x patterns is what a table of grants needs


class Size(IntEnum):
    """How much there may be of a value, and who decides: the policy's text, its data, the caller a little (who asks,
    for what), one member of something the caller sends, or all of it."""

    FIXED = 0
    DATA = 1
    CALLER = 2
    PART = 3
    OPEN = 4

    @property
    def member(self) -> Size:
        return Size.PART if self is Size.OPEN else self


class Nest(NamedTuple):
    """Loops that nest in each other, by what they loop over. `search`: how deep in open loops a builtin looks through
    an open value, counting itself; 0 where none does. Counts stop where they are too many anyway."""

    small: int = 0
    open: int = 0
    search: int = 0

    def around(self, inner: Nest) -> Nest:
        search = max(self.search, inner.search + self.open if inner.search else 0)
        return Nest(min(self.small + inner.small, NESTING + 1), min(self.open + inner.open, 2), min(search, 2))

    @property
    def bounded(self) -> bool:
        if self.open == 0:
            return self.small <= NESTING
        return self.open == 1 and self.small == 0 and self.search <= 1


@dataclass(frozen=True, slots=True)
class Loops:
    """The nests that may occur, one beside the other."""

    nests: frozenset[Nest] = frozenset({Nest()})

    def around(self, inner: Loops) -> Loops:
        return Loops(frozenset(one.around(other) for one in self.nests for other in inner.nests))

    def beside(self, other: Loops) -> Loops:
        return Loops(self.nests | other.nests)

    @property
    def bounded(self) -> bool:
        return all(nest.bounded for nest in self.nests)

    @property
    def size(self) -> Size:
        """How many members something has that these loops made."""
        if any(nest.open for nest in self.nests):
            return Size.OPEN
        return Size.CALLER if any(nest.small for nest in self.nests) else Size.FIXED


def over(size: Size) -> Loops:
    """One loop over something of that size."""
    if size >= Size.PART:
        return Loops(frozenset({Nest(open=1)}))
    return Loops(frozenset({Nest(small=1)})) if size else Loops()


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of an expression or body: the size of its value and the loops that run to get it."""

    size: Size
    loops: Loops = Loops()

    def also(self, other: Shape) -> Shape:
        return Shape(max(self.size, other.size), self.loops.beside(other.loops))


FIXED = Shape(Size.FIXED)


def nested(going_on: list[Loops], within: list[tuple[int, Loops]]) -> Loops:
    """All loops that go on around each other, and around each one within a statement but the loop it is made for."""
    total = Loops()
    for loops in going_on:
        total = total.around(loops)
    found = total
    for own, inner in within:
        outer = Loops()
        for index, loops in enumerate(going_on):
            outer = outer if index == own else outer.around(loops)
        found = found.beside(outer.around(inner))
    return found
