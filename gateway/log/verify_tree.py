"""Finds what was changed in a log directory: compares entries, tiles and the signed root, from both sides.

Own code path: imports nothing that writes the log. The idea: every hash of the tree exists up to three times, in a
tile's file, as the root of the tile below, and as the root over the entries below. The signed root decides.
1. The unfinished tiles of the right edge, in whichever of their versions hash to the signed root, are right; one more
   version takes each hash as most of the others have it.
2. What is right says what the root of each tile below must be; the version that has it is right, all others are named.
3. A leaf hash that is right names each entry that does not hash to it.
One changed file is named exactly. Where several versions were changed at once, the range that they cover is named.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.canonical import Json
from gateway.log.verify_read import (
    WIDTH,
    Growing,
    edge_root,
    leaf,
    mth,
    place,
    read_entries,
    read_hashes,
)

Hashes = Sequence[bytes | None] | None
Visit = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where`: checkpoint, tile, entry, record, blob, journal, origin, growth or export.

    `first` and `last` are the seqs that it concerns, both included.
    """

    where: str
    text: str
    path: str = ""
    first: int | None = None
    last: int | None = None

    def record(self) -> dict[str, Json]:
        found: dict[str, Json] = {"where": self.where, "text": self.text}
        if self.path:
            found["path"] = self.path
        if self.first is not None:
            found["first"] = self.first
            found["last"] = self.last
        return found

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(slots=True)
class _Level:
    """Of one level, per tile: the root of its file's hashes, and the root over the entries below it."""

    files: list[bytes | None] = field(default_factory=list)
    entries: list[bytes | None] = field(default_factory=list)


class TreeCheck:
    """One pass over a log directory whose checkpoint says (size, root)."""

    def __init__(self, directory: Path, size: int, root: bytes) -> None:
        self._directory = directory
        self._size = size
        self._root = root
        self._levels: list[_Level] = []
        self._edge: list[list[Hashes]] = []  # per level the versions of its unfinished tile, the file's first
        self.problems: list[Problem] = []

    def run(self, visit: Visit, growth: tuple[int, Growing] | None) -> bytes | None:
        """Calls `visit(seq, entry)` for all entries in order; the root at `growth`'s size, where one is asked for."""
        grown = self._read_leaves(visit, growth)
        self._read_tiles()
        edge = self._right_edge()
        if edge is None:
            self._unknown(len(self._levels) - 1, 0, self._size)
            return grown
        for level, hashes in enumerate(edge):
            first = (self._size >> (8 * (level + 1))) * WIDTH
            for index, value in enumerate(hashes, first):
                if level:
                    self._descend(level - 1, index, value)
        self._check_unfinished(edge)
        return grown

    # Reading, bottom up

    def _read_leaves(self, visit: Visit, growth: tuple[int, Growing] | None) -> bytes | None:
        level = _Level()
        grown: bytes | None = None
        edge: list[Hashes] = [(), ()]
        for n in range(-(-self._size // WIDTH)):
            width = min(WIDTH, self._size - n * WIDTH)
            stored = read_hashes(self._directory, 0, n, width)[1]
            _, entries, whole = read_entries(self._directory, n, width)
            hashes = [leaf(entry) for entry in entries or ()]
            complete = hashes if whole else None
            for seq, (entry, value) in enumerate(zip(entries or (), hashes, strict=True), n * WIDTH):
                visit(seq, entry)
                if growth is not None and seq < growth[0]:
                    growth[1].add(value)
            if width == WIDTH:
                level.files.append(mth(stored) if stored is not None else None)
                level.entries.append(mth(complete) if complete is not None else None)
            else:
                edge = [stored, complete]
        if growth is not None:
            grown = growth[1].root()
        self._levels.append(level)
        self._edge.append(edge)
        return grown

    def _read_tiles(self) -> None:
        while (hashes := self._size >> (8 * len(self._levels))) > 0:
            number = len(self._levels)
            below, level = self._levels[-1], _Level()
            edge: list[Hashes] = [(), (), ()]
            for n in range(-(-hashes // WIDTH)):
                width = min(WIDTH, hashes - n * WIDTH)
                stored = read_hashes(self._directory, number, n, width)[1]
                part = slice(n * WIDTH, n * WIDTH + width)
                if width == WIDTH:
                    level.files.append(_root(stored))
                    level.entries.append(_root(below.entries[part]))
                else:
                    edge = [stored, below.files[part], below.entries[part]]
            self._levels.append(level)
            self._edge.append(edge)

    # Judging, top down

    def _right_edge(self) -> list[Sequence[bytes]] | None:
        """Rule 1."""
        choices = [[_known(version) for version in _versions(versions)] for versions in self._edge]
        picks = itertools.product(*(range(len(versions)) for versions in choices))
        for pick in sorted(picks, key=lambda pick: (sum(map(bool, pick)), pick)):  # the files as they are come first
            edge = [versions[index] for versions, index in zip(choices, pick, strict=True)]
            whole: list[Sequence[bytes]] = [hashes for hashes in edge if hashes is not None]
            if len(whole) == len(edge) and edge_root(whole) == self._root:
                return whole
        return None

    def _check_unfinished(self, edge: Sequence[Sequence[bytes]]) -> None:
        for level, right in enumerate(edge):
            n = self._size >> (8 * (level + 1))
            if right:
                stored = read_hashes(self._directory, level, n, len(right))
                self._compare_tile(level, n, stored, right)
                if level == 0:
                    self._compare_entries(n, right)

    def _descend(self, level: int, n: int, right: bytes) -> None:
        """Rule 2 for tile `n` of a level, whose root must be `right`."""
        found = self._levels[level]
        if level == 0 and found.files[n] == right == found.entries[n]:
            return
        if level == 0:
            versions: list[Hashes] = [self._hashes(0, n), self._leaves(n)]
        else:
            below = self._levels[level - 1]
            part = slice(n * WIDTH, (n + 1) * WIDTH)
            versions = _versions([self._hashes(level, n), below.files[part], below.entries[part]])
        for version in versions:
            known = _known(version)
            if known is not None and mth(known) == right:
                self._compare_tile(level, n, read_hashes(self._directory, level, n, WIDTH), known)
                if level == 0:
                    self._compare_entries(n, known)
                else:
                    for index, value in enumerate(known, n * WIDTH):
                        self._descend(level - 1, index, value)
                return
        self._unknown(level, n, self._size)

    def _compare_tile(self, level: int, n: int, stored: tuple[str, list[bytes] | None], right: Sequence[bytes]) -> None:
        path, hashes = stored
        span = 256**level
        if hashes is None:
            first, last = n * WIDTH * span, (n * WIDTH + len(right)) * span - 1
            self._add("tile", f"{path} is missing or not {len(right)} hashes long", path, first, last)
            return
        for first, last in _runs([i for i, value in enumerate(right) if hashes[i] != value]):
            seqs = (n * WIDTH + first) * span, (n * WIDTH + last + 1) * span - 1
            text = f"{path} was changed at hashes {first} to {last}, which cover entries {seqs[0]} to {seqs[1]}"
            self._add("tile", text, path, *seqs)

    def _compare_entries(self, n: int, right: Sequence[bytes]) -> None:
        """Rule 3."""
        path, entries, whole = read_entries(self._directory, n, len(right))
        start = n * WIDTH
        if entries is None:
            self._add("entry", f"{path} is missing", path, start, start + len(right) - 1)
            return
        wrong = [i for i, value in enumerate(right) if i >= len(entries) or leaf(entries[i]) != value]
        if not whole:
            first = start + (wrong[0] if wrong else len(right) - 1)
            self._add("entry", f"{path} cannot be told apart into entries from entry {first} on", path, first, first)
            return
        for i in wrong:
            self._add("entry", f"entry {start + i} was changed ({path})", path, start + i, start + i)

    def _unknown(self, level: int, n: int, size: int) -> None:
        span = WIDTH * 256**level
        first, last = n * span, min((n + 1) * span, size) - 1
        path = place(str(level), n)
        text = f"entries {first} to {last}: neither {path} nor what lies below it hashes to what was signed"
        self._add("tile", text, path, first, last)

    def _add(self, where: str, text: str, path: str, first: int, last: int) -> None:
        self.problems.append(Problem(where, text, path, first, last))

    def _hashes(self, level: int, n: int) -> list[bytes] | None:
        return read_hashes(self._directory, level, n, WIDTH)[1]

    def _leaves(self, n: int) -> list[bytes] | None:
        _, entries, whole = read_entries(self._directory, n, WIDTH)
        return [leaf(entry) for entry in entries] if entries is not None and whole else None


def _versions(versions: list[Hashes]) -> list[Hashes]:
    """With the consensus, where there are three to agree."""
    if len(versions) < 3:
        return versions
    width = max(len(version or ()) for version in versions)
    full = [version if version is not None else (None,) * width for version in versions]
    votes = [Counter(value for value in values if value is not None) for values in zip(*full, strict=False)]
    return [*versions, [vote.most_common(1)[0][0] if vote else None for vote in votes]]


def _known(version: Hashes) -> list[bytes] | None:
    """The hashes, if none of them is missing."""
    if version is None:
        return None
    known = [value for value in version if value is not None]
    return known if len(known) == len(version) else None


def _root(version: Hashes) -> bytes | None:
    known = _known(version)
    return mth(known) if known is not None else None


def _runs(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive numbers as (first, last)."""
    for _, group in itertools.groupby(enumerate(indexes), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        yield numbers[0], numbers[-1]
