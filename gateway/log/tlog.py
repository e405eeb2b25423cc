"""The log's mathematics: the RFC 6962 tree, its tiles and their paths, inclusion and consistency proofs.

Pure: no file, no clock, no thread, no key. Sources: RFC 6962 section 2.1, RFC 9162 sections 2.1.3 and 2.1.4,
c2sp.org/tlog-tiles. Proofs are made from a reader of tiles; a tile that is too short for its tree is `Malformed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.core.reasons import Malformed

HASH_BYTES = 32
TILE_WIDTH = 256
ENTRY_BYTES = 65_535  # an entry's length is a uint16 in its bundle
EMPTY_ROOT = hashlib.sha256(b"").digest()
ENTRIES = -1  # the "level" of entry bundles

TileReader = Callable[[int, int], bytes]
"""`read(level, n)`: the hashes of one tile, at least as wide as the tree needs."""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes of equally high complete subtrees (leaves are the lowest), the last may be lower."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    sha256 = hashlib.sha256
    while len(level) > 1:
        odd = level.pop() if len(level) & 1 else None
        pairs = iter(level)
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
        if odd is not None:
            level.append(odd)
    return level[0]


def split_hashes(data: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


# Tile coordinates


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """`tile/<L>/<N>[.p/W]`; level ENTRIES gives `tile/entries/<N>[.p/W]`."""
    parts = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        parts.append(f"x{n % 1000:03d}")
    name = "entries" if level == ENTRIES else str(level)
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{name}/{'/'.join(reversed(parts))}{suffix}"


def tile_width(level: int, n: int, size: int) -> int:
    """How many hashes tile `n` of a level has in a tree of `size` leaves: 0 to 256."""
    hashes = size >> (8 * max(level, 0))
    return max(0, min(TILE_WIDTH, hashes - n * TILE_WIDTH))


def bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length as big-endian uint16."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises Malformed where its framing ends in the middle."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise Malformed(f"the bundle ends inside entry {len(entries)}")
        entries.append(data[at + 2 : end])
        at = end
    return entries


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile's place and content."""

    level: int
    n: int
    width: int
    data: bytes

    @property
    def path(self) -> str:
        return tile_path(self.level, self.n, self.width)


class Edge:
    """The right edge of a growing tree: per level the hashes of its unfinished tile. Mutable, owned by one thread."""

    __slots__ = ("levels", "size")

    def __init__(self, size: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        self.size = size
        self.levels: list[list[bytes]] = [list(level) for level in levels] or [[]]

    def append(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Adds leaf hashes; the tiles that they completed, each behind those that it is made of."""
        done: list[Tile] = []
        lowest = self.levels[0]
        at = 0
        while at < len(leaves):
            part = leaves[at : at + TILE_WIDTH - len(lowest)]
            lowest += part
            at += len(part)
            self.size += len(part)
            if len(lowest) == TILE_WIDTH:
                self._complete(done)
        return done

    def _complete(self, done: list[Tile]) -> None:
        """Level 0 is full: takes it off, adds its root to the level above, and so on up."""
        for level in range(len(self.levels) + 1):
            hashes = self.levels[level]
            if len(hashes) < TILE_WIDTH:
                return
            done.append(Tile(level, (self.size >> (8 * (level + 1))) - 1, TILE_WIDTH, b"".join(hashes)))
            if level + 1 == len(self.levels):
                self.levels.append([])
            self.levels[level + 1].append(fold(hashes))
            hashes.clear()

    def partial(self) -> Iterator[Tile]:
        """The unfinished tiles that a checkpoint of this size needs."""
        for level, hashes in enumerate(self.levels):
            if hashes:
                yield Tile(level, self.size >> (8 * (level + 1)), len(hashes), b"".join(hashes))

    def root(self) -> bytes:
        value: bytes | None = None
        for hashes in self.levels:
            found = hashes if value is None else [*hashes, value]
            if found:
                value = _edge_fold(found, value is not None)
        return EMPTY_ROOT if value is None else value


def _edge_fold(hashes: Sequence[bytes], lower_last: bool) -> bytes:
    """`fold` for a level whose last element may be a lower subtree: it always stays rightmost."""
    if not lower_last:
        return fold(hashes)
    *whole, value = hashes
    at = len(whole)
    while at:
        width = at & -at  # the smallest complete subtree on the right
        value = node_hash(fold(whole[at - width : at]), value)
        at -= width
    return value


# Proofs


def _subtree(read: TileReader, start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 6962, for the ranges its recursion makes."""
    width = end - start
    if width & (width - 1):
        middle = start + (1 << (width.bit_length() - 1))
        return node_hash(_subtree(read, start, middle), _subtree(read, middle, end))
    height = width.bit_length() - 1
    level, inside = divmod(height, 8)
    first = start >> (8 * level)
    n, offset = divmod(first, TILE_WIDTH)
    data = read(level, n)[offset * HASH_BYTES : (offset + (1 << inside)) * HASH_BYTES]
    if len(data) != HASH_BYTES << inside:
        raise Malformed(f"{tile_path(level, n)} is shorter than the tree needs")
    return fold(split_hashes(data))


def tree_root(read: TileReader, size: int) -> bytes:
    return _subtree(read, 0, size) if size else EMPTY_ROOT


def inclusion_proof(
    read: TileReader, index: int, size: int, known: dict[tuple[int, int], bytes] | None = None
) -> list[bytes]:
    """From the leaf's sibling up to the root's child. Raises Malformed unless 0 <= index < size.

    `known` keeps what was computed, for who asks for many proofs of one tree.
    """
    if not 0 <= index < size:
        raise Malformed(f"entry {index} is not in a tree of {size}")

    def part(start: int, end: int) -> bytes:
        if known is None:
            return _subtree(read, start, end)
        found = known.get((start, end))
        if found is None:
            found = known[start, end] = _subtree(read, start, end)
        return found

    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < middle:
            proof.append(part(middle, end))
            end = middle
        else:
            proof.append(part(start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(read: TileReader, old: int, size: int) -> list[bytes]:
    """RFC 6962 PROOF(old, D[size]); empty for equal sizes and for old = 0."""
    if not 0 <= old <= size:
        raise Malformed(f"a tree of {size} does not grow from one of {old}")
    if old in (0, size):
        return []
    proof: list[bytes] = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if old <= middle:
            proof.append(_subtree(read, middle, end))
            end = middle
        else:
            proof.append(_subtree(read, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(_subtree(read, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    at, last, value = index, size - 1, leaf
    for item in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            value = node_hash(item, value)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            value = node_hash(value, item)
        at >>= 1
        last >>= 1
    return last == 0 and value == root


def verify_consistency(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """RFC 9162 section 2.1.4.2; everything grows from the empty tree."""
    if not 0 <= old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    before = after = path[0]
    for item in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(item, before), node_hash(item, after)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            after = node_hash(after, item)
        at >>= 1
        last >>= 1
    return last == 0 and before == old_root and after == root
