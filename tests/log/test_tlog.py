"""The tree against RFC 6962 as it is written, and the examples of c2sp.org/tlog-tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed
from gateway.log import tlog
from gateway.log.tlog import ENTRIES, Edge, leaf_hash, tile_path, tile_width

# Leaves and roots of the reference implementation of RFC 6962, for trees of 1 to 8 leaves.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes(range(0x60, 0x70))
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(i).encode()) for i in range(count)]


def tree(hashes: Sequence[bytes]) -> tuple[Edge, tlog.TileReader]:
    """An edge grown leaf by leaf, and a reader of all its tiles."""
    edge, tiles = Edge(), {}
    for value in hashes:
        for tile in edge.append([value]):
            tiles[tile.level, tile.n] = tile.data
    for tile in edge.partial():
        tiles[tile.level, tile.n] = tile.data
    return edge, lambda level, n: tiles[level, n]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_reference(size: int) -> None:
    edge, _ = tree([leaf_hash(item) for item in LEAVES[:size]])
    assert edge.root().hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Edge().root() == mth([])


@given(st.integers(0, 1300))
def test_an_edge_has_the_root_that_the_rfc_defines(size: int) -> None:
    hashes = leaves(size)
    edge, read = tree(hashes)
    assert edge.root() == mth(hashes)
    assert tlog.tree_root(read, size) == mth(hashes)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_536 + 300, 70_000])
def test_trees_of_three_levels_have_the_root_that_the_rfc_defines(size: int) -> None:
    hashes = leaves(size)
    edge, read = tree(hashes)
    assert edge.root() == mth(hashes) == tlog.tree_root(read, size)
    for index in (0, 255, 256, 65_000, size - 1):
        proof = tlog.inclusion_proof(read, index, size)
        assert tlog.verify_inclusion(hashes[index], index, size, proof, edge.root())


def test_an_edge_can_be_taken_up_where_it_was_left() -> None:
    hashes = leaves(700)
    first, _ = tree(hashes[:300])
    second = Edge(first.size, first.levels)
    for value in hashes[300:]:
        second.append([value])
    assert second.root() == mth(hashes)


@given(st.lists(st.integers(0, 600), max_size=6))
def test_leaves_make_the_same_tiles_in_whatever_portions_they_come(portions: list[int]) -> None:
    hashes = leaves(sum(portions))
    at_once, one_by_one, portioned = Edge(), Edge(), Edge()
    wanted = at_once.append(hashes)
    singly = [tile for value in hashes for tile in one_by_one.append([value])]
    found, at = [], 0
    for count in portions:
        found += portioned.append(hashes[at : at + count])
        at += count
    assert found == singly == wanted
    assert portioned.levels == one_by_one.levels == at_once.levels
    assert portioned.root() == mth(hashes)


def test_the_tiles_are_those_of_the_specification() -> None:
    """The example of a tree of 70,000 in c2sp.org/tlog-tiles."""
    edge, full = Edge(), []
    for value in leaves(70_000):
        full += edge.append([value])
    assert sum(tile.level == 0 for tile in full) == 273
    assert [(tile.level, tile.n) for tile in full if tile.level] == [(1, 0)]
    assert [(tile.level, tile.n, tile.width) for tile in edge.partial()] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert [tile_width(level, n, 70_000) for level, n in ((0, 272), (0, 273), (1, 0), (1, 1), (2, 0), (3, 0))] == [
        256,
        112,
        256,
        17,
        1,
        0,
    ]


def test_tile_paths_are_those_of_the_specification() -> None:
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path(ENTRIES, 0, 17) == "tile/entries/000.p/17"
    assert tile_path(2, 999) == "tile/2/999"
    assert tile_path(1, 1000, 1) == "tile/1/x001/000.p/1"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 64, 65, 255, 256, 257, 300])
def test_every_inclusion_proof_verifies_and_no_changed_one_does(size: int) -> None:
    hashes = leaves(size)
    root = mth(hashes)
    _, read = tree(hashes)
    known: dict[tuple[int, int], bytes] = {}
    for index in range(size):
        proof = tlog.inclusion_proof(read, index, size, known)
        assert tlog.verify_inclusion(hashes[index], index, size, proof, root)
        assert not tlog.verify_inclusion(hashes[index - 1], index, size, proof, root) or size == 1
        assert not tlog.verify_inclusion(hashes[index], index, size, [*proof, root], root)
        assert not tlog.verify_inclusion(hashes[index], index + size, size, proof, root)
        if proof:
            assert not tlog.verify_inclusion(hashes[index], index, size, proof[:-1], root)
            broken = [bytes(32), *proof[1:]]
            assert not tlog.verify_inclusion(hashes[index], index, size, broken, root)


def test_every_consistency_proof_verifies_and_no_changed_one_does() -> None:
    hashes = leaves(70)
    roots = [mth(hashes[:size]) for size in range(71)]
    for size in range(71):
        _, read = tree(hashes[:size])
        for old in range(size + 1):
            proof = tlog.consistency_proof(read, old, size)
            assert tlog.verify_consistency(old, size, proof, roots[old], roots[size]), (old, size)
            assert not tlog.verify_consistency(old, size, proof, bytes(32), roots[size])
            assert not tlog.verify_consistency(old, size, [*proof, bytes(32)], roots[old], roots[size])
            if proof:
                assert not tlog.verify_consistency(old, size, proof[:-1], roots[old], roots[size])
                assert not tlog.verify_consistency(old, size, proof, roots[old], bytes(32))


def test_a_shrunken_tree_is_not_consistent() -> None:
    roots = [mth(leaves(size)) for size in (5, 3)]
    assert not tlog.verify_consistency(5, 3, [], roots[0], roots[1])


def test_a_tile_that_is_too_short_is_malformed() -> None:
    _, read = tree(leaves(300))
    with pytest.raises(Malformed, match="shorter"):
        tlog.inclusion_proof(lambda level, n: read(level, n)[:-32], 299, 300)


def test_an_entry_outside_the_tree_has_no_proof() -> None:
    _, read = tree(leaves(3))
    for index in (-1, 3):
        with pytest.raises(Malformed):
            tlog.inclusion_proof(read, index, 3)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_come_back_as_they_went_in(entries: list[bytes]) -> None:
    assert tlog.unbundle(tlog.bundle(entries)) == entries


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5))
def test_a_bundle_cut_anywhere_inside_an_entry_is_malformed(entries: list[bytes]) -> None:
    data = tlog.bundle(entries)
    borders = {0}
    for entry in entries:
        borders.add(max(borders) + 2 + len(entry))
    for cut in set(range(len(data))) - borders:
        with pytest.raises(Malformed):
            tlog.unbundle(data[:cut])
    assert all(len(tlog.unbundle(data[:a])) < len(tlog.unbundle(data[:b])) for a, b in pairwise(sorted(borders)))
