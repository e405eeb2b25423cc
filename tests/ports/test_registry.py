"""The contract of the ports Registry and Blocks, and that a damaged store is never read as an empty one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.descriptors import Described, Standing
from gateway.stores.agents import SqliteRegistry
from gateway.stores.sqlite import StoreFailed

TOOL = Described(
    "tool", "weather", "get_forecast", Standing.VERIFIED, "sha256:aa", "sha256:aa", "admin", "",
    {"name": "get_forecast"}, {"name": "get_forecast", "n": 2**70, "odd": "\ud800"}, 10.5, 11.25,
)  # fmt: skip
AGENT = Described("agent", "concierge", "concierge", Standing.UNVERIFIED)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[[], SqliteRegistry]]:
    """Opens the same file each time it is called, as a start of the program does."""
    opened: list[SqliteRegistry] = []

    def again() -> SqliteRegistry:
        while opened:
            opened.pop().close()
        opened.append(SqliteRegistry(tmp_path / "descriptors.sqlite", lambda: 1000.0))
        return opened[-1]

    yield again
    while opened:
        opened.pop().close()


def test_what_was_saved_is_found_also_after_a_restart(store: Callable[[], SqliteRegistry]) -> None:
    first = store()
    asyncio.run(first.save([TOOL, AGENT]))
    assert first.find("tool", "weather", "get_forecast") == TOOL
    again = store()
    assert again.find("tool", "weather", "get_forecast") == TOOL
    assert again.find("tool", "weather", "other") is None
    assert list(again.items()) == [AGENT, TOOL]
    assert list(again.items("tool")) == [TOOL]
    assert list(again.items(upstream="concierge")) == [AGENT]


def test_a_later_save_of_the_same_item_replaces_it(store: Callable[[], SqliteRegistry]) -> None:
    registry = store()
    asyncio.run(registry.save([TOOL]))
    asyncio.run(registry.save([replace(TOOL, standing=Standing.QUARANTINED, why="changed")]))
    [found] = store().items()
    assert (found.standing, found.why) == (Standing.QUARANTINED, "changed")


def test_names_are_compared_byte_by_byte(store: Callable[[], SqliteRegistry]) -> None:
    asyncio.run(store().save([replace(TOOL, name=name) for name in ("a", "A", "a ", "ä", "a\u0308")]))
    assert len(store().items()) == 5


def test_a_block_outlives_what_is_saved_and_gives_back_what_was_there(store: Callable[[], SqliteRegistry]) -> None:
    registry = store()
    asyncio.run(registry.save([TOOL]))
    asyncio.run(registry.block("tool", "weather", "get_forecast", "leaks", "admin"))
    asyncio.run(registry.save([replace(TOOL, digest="sha256:bb")]))
    blocked = store().find("tool", "weather", "get_forecast")
    assert blocked is not None
    assert (blocked.standing, blocked.why, blocked.digest) == (Standing.BLOCKED, "leaks", "sha256:bb")
    registry = store()
    asyncio.run(registry.save([blocked]))  # read, changed and written back by somebody
    assert registry.blocked("tool") == {("weather", "get_forecast")}
    asyncio.run(registry.unblock("tool", "weather", "get_forecast"))
    after = store().find("tool", "weather", "get_forecast")
    assert after is not None
    assert after.standing is Standing.VERIFIED
    assert store().blocked("tool") == frozenset()


def test_what_nobody_has_seen_can_be_blocked(store: Callable[[], SqliteRegistry]) -> None:
    asyncio.run(store().block("caller", "", "agent:idp/planner", "stolen", "admin"))
    [found] = store().items("caller")
    assert (found.name, found.standing, found.why, found.by, found.changed) == (
        "agent:idp/planner", Standing.BLOCKED, "stolen", "admin", 1000.0,
    )  # fmt: skip


def test_whoever_subscribed_is_told_of_each_change_once_it_can_be_found(store: Callable[[], SqliteRegistry]) -> None:
    registry = store()
    told: list[tuple[str, Standing, bool]] = []

    def listen(items: object) -> None:
        assert isinstance(items, list)
        for item in items:
            told.append((item.name, item.standing, registry.find(item.kind, item.upstream, item.name) is not None))

    registry.subscribe(listen)
    asyncio.run(registry.save([TOOL]))
    asyncio.run(registry.block("tool", "weather", "get_forecast", "", "admin"))
    asyncio.run(registry.unblock("tool", "weather", "get_forecast"))
    asyncio.run(registry.block("caller", "", "key:ci", "", "admin"))
    asyncio.run(registry.unblock("caller", "", "key:ci"))
    assert told == [
        ("get_forecast", Standing.VERIFIED, True),
        ("get_forecast", Standing.BLOCKED, True),
        ("get_forecast", Standing.VERIFIED, True),
        ("key:ci", Standing.BLOCKED, True),
        ("key:ci", Standing.UNVERIFIED, False),
    ]


def test_nothing_counts_that_could_not_be_written(store: Callable[[], SqliteRegistry], tmp_path: Path) -> None:
    registry = store()
    asyncio.run(registry.save([AGENT]))
    lock = sqlite3.connect(tmp_path / "descriptors.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    registry._database.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(StoreFailed, match="cannot be written"):
        asyncio.run(registry.save([replace(AGENT, standing=Standing.VERIFIED), TOOL]))
    with pytest.raises(StoreFailed):
        asyncio.run(registry.block("agent", "concierge", "concierge", "", "admin"))
    assert list(registry.items()) == [AGENT]
    lock.execute("ROLLBACK")
    lock.close()
    assert list(store().items()) == [AGENT]


def test_a_change_whose_asker_went_away_is_in_memory_as_on_disk(store: Callable[[], SqliteRegistry]) -> None:
    registry = store()

    async def story() -> None:
        told = asyncio.Event()
        registry.subscribe(lambda items: told.set())
        asked = asyncio.create_task(registry.block("agent", "weather", "weather", "", "admin"))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
        await asyncio.wait_for(told.wait(), 10)
        assert registry.blocked("agent") == {("weather", "weather")}

    asyncio.run(story())
    assert store().blocked("agent") == {("weather", "weather")}


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)


def _torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flipped(path: Path) -> None:
    """One digit of a pin: nothing SQLite could notice."""
    data = path.read_bytes()
    assert data.count(b"sha256:aa") >= 2
    path.write_bytes(data.replace(b"sha256:aa", b"sha256:ab"))


def _unpinned(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE descriptors SET standing = 'verified', digest = approved")
    database.close()


def _unblocked(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE blocks SET name = 'other'")
    database.close()


def _another_version(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def _without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE blocks")
    database.close()


@pytest.mark.parametrize(
    "damage", [_empty, _garbage, _torn, _flipped, _unpinned, _unblocked, _another_version, _without_a_table]
)
def test_a_damaged_store_does_not_open(
    store: Callable[[], SqliteRegistry], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    registry = store()
    asyncio.run(registry.save([replace(TOOL, name=f"tool-{n}", digest="sha256:aa0") for n in range(50)]))
    asyncio.run(registry.block("agent", "weather", "weather", "", "admin"))
    registry.close()
    damage(tmp_path / "descriptors.sqlite")
    with pytest.raises(StoreFailed, match=r"cannot be trusted: .*move it away"):
        SqliteRegistry(tmp_path / "descriptors.sqlite", lambda: 0.0)


def test_the_store_is_readable_by_its_owner_only(store: Callable[[], SqliteRegistry], tmp_path: Path) -> None:
    store()
    assert (tmp_path / "descriptors.sqlite").stat().st_mode & 0o077 == 0
