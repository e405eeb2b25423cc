"""Bundles kept: bytes by digest, what is active, and a highest number that nothing brings down."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.core.bundles import CONFIGURED, BundleMoved, KeptBundle
from gateway.core.canonical import digest
from gateway.core.reasons import StoreFailed
from gateway.stores.bundles import KEPT, SqliteBundles


def kept(number: int, name: str = "tollgate", pushed: float = 1000.0) -> tuple[KeptBundle, bytes]:
    tarball = f"{name} {number}".encode()
    made = KeptBundle(name, digest(tarball), f"r{number}", number, "authors", None, 2e9, len(tarball), pushed, "admin")
    return made, tarball


def opened(tmp_path: Path) -> SqliteBundles:
    return SqliteBundles(tmp_path / "bundles.sqlite")


def move(store: SqliteBundles, wanted: str, expected: str, act: str = "activate", time: float = 1001.0) -> None:
    store.activate("tollgate", wanted, expected=expected, act=act, by="admin", time=time)


def test_what_was_accepted_and_activated_is_there_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = kept(1), kept(2)
    for made in (first, second, second):
        store.accept(*made)
    move(store, first[0].digest, CONFIGURED)
    move(store, second[0].digest, first[0].digest, time=1002.0)
    before = store.state("tollgate")
    store.close()
    store = opened(tmp_path)
    assert store.state("tollgate") == before
    assert (before.active, before.previous) == (second[0].digest, first[0].digest)
    assert (before.highest, before.since) == (2, 1002.0)
    assert store.tarball(first[0].digest) == first[1]
    assert [item.number for item in store.kept("tollgate")] == [2, 1]
    assert [event.act for event in store.history("tollgate")] == ["activate", "activate", "push", "push", "push"]
    store.close()


def test_only_who_knows_what_is_active_replaces_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = kept(1), kept(2)
    store.accept(*first)
    store.accept(*second)
    move(store, first[0].digest, CONFIGURED)
    with pytest.raises(BundleMoved) as moved:
        move(store, second[0].digest, CONFIGURED)
    assert str(moved.value) == first[0].digest
    assert store.state("tollgate").active == first[0].digest
    with pytest.raises(StoreFailed):
        move(store, "sha256:none", first[0].digest)
    store.close()


def test_a_rollback_leaves_the_highest_number_and_nothing_before_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = kept(1), kept(2)
    for made in (first, second):
        store.accept(*made)
    move(store, first[0].digest, CONFIGURED)
    move(store, second[0].digest, first[0].digest)
    move(store, first[0].digest, second[0].digest, "rollback")
    state = store.state("tollgate")
    assert (state.active, state.previous, state.highest) == (first[0].digest, None, 2)
    move(store, CONFIGURED, first[0].digest, "rollback")
    assert store.state("tollgate").active == CONFIGURED
    assert store.state("tollgate").highest == 2
    store.close()


def test_the_active_bundle_and_the_one_before_outlive_all_later_pushes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = kept(1), kept(2)
    for made in (first, second):
        store.accept(*made)
    move(store, first[0].digest, CONFIGURED)
    move(store, second[0].digest, first[0].digest)
    for number in range(3, KEPT + 10):
        store.accept(*kept(number))
    found = store.kept("tollgate")
    assert len(found) <= KEPT + 2
    assert {1, 2, KEPT + 9} <= {item.number for item in found}
    assert store.tarball(first[0].digest) == first[1]
    assert store.tarball(kept(3)[0].digest) is None
    store.close()


def test_names_do_not_mix(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.accept(*kept(5))
    store.accept(*kept(1, "fleet"))
    assert store.state("fleet").highest == 1
    assert store.state("tollgate").highest == 5
    assert store.state("Tollgate").highest == -1
    assert store.names() == ["fleet", "tollgate"]
    assert {item.name for item in store.kept()} == {"fleet", "tollgate"}
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE states SET highest = 0",
        "UPDATE states SET latest = 0",
        "UPDATE states SET active = ''",
        "UPDATE states SET name = 'tollgate' WHERE name = 'fleet'",
    ],
)
def test_a_state_that_is_not_as_it_was_written_is_not_believed(tmp_path: Path, damage: str) -> None:
    store = opened(tmp_path)
    made = kept(5)
    if "fleet" in damage:
        store.accept(*kept(1, "fleet"))
    else:
        store.accept(*made)
        move(store, made[0].digest, CONFIGURED)
    store.close()
    with sqlite3.connect(tmp_path / "bundles.sqlite") as database:
        database.execute(damage)
    database.close()
    store = opened(tmp_path)
    with pytest.raises(StoreFailed, match="not as it was written"):
        store.state("tollgate")
    store.close()


def test_bytes_that_are_not_those_of_their_digest_are_not_given_out(tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = kept(1)
    store.accept(*made)
    store._database.execute("UPDATE blobs SET tarball = x'00'")
    with pytest.raises(StoreFailed, match="damaged"):
        store.tarball(made[0].digest)
    store.close()


def test_a_file_of_a_later_program_or_none_at_all_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "bundles.sqlite") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(StoreFailed, match="version 9"):
        opened(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "bundles.sqlite").write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(StoreFailed):
        SqliteBundles(tmp_path / "x" / "bundles.sqlite")
