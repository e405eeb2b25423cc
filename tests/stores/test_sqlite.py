"""What only the SQLite store of handles promises: it survives, it is durable, it says what is wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.exchange import Handle
from gateway.stores.memory import Bounds
from gateway.stores.sqlite import SqliteHandles, StoreFailed

SESSION = Handle("mcp-session", "s-1")
PLACE = {"route": "weather", "upstream": "weather"}


class MovedClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def test_handles_survive_a_restart_with_their_owner_age_and_bounds(tmp_path: Path) -> None:
    clock = MovedClock()
    first = SqliteHandles(tmp_path / "handles.db", clock)

    async def before() -> None:
        await first.bind(SESSION, subject="a", **PLACE)
        await first.bind(Handle("mcp-session", "gone"), subject="a", **PLACE)
        await first.forget(Handle("mcp-session", "gone"), **PLACE)
        clock.now += 86400
        await first.bind(Handle("mcp-session", "young"), subject="b", **PLACE)

    asyncio.run(before())
    first.close()
    second = SqliteHandles(tmp_path / "handles.db", clock, Bounds(age_seconds=80_000.0))

    async def after() -> list[str | None]:
        return [await second.owner(Handle("mcp-session", name), **PLACE) for name in ("s-1", "gone", "young")]

    assert asyncio.run(after()) == [None, None, "b"]
    second.close()
    third = SqliteHandles(tmp_path / "handles.db", clock)

    async def last() -> str | None:
        return await third.owner(SESSION, **PLACE)

    assert asyncio.run(last()) is None, "what was too old at a start was deleted, not hidden"
    third.close()


def test_a_use_makes_a_handle_younger_across_a_restart(tmp_path: Path) -> None:
    clock = MovedClock()
    first = SqliteHandles(tmp_path / "handles.db", clock)

    async def before() -> None:
        await first.bind(SESSION, subject="a", **PLACE)
        clock.now += 50_000
        assert await first.owner(SESSION, **PLACE) == "a"

    asyncio.run(before())
    first.close()
    clock.now += 50_000
    second = SqliteHandles(tmp_path / "handles.db", clock, Bounds(age_seconds=80_000.0))

    async def after() -> str | None:
        return await second.owner(SESSION, **PLACE)

    assert asyncio.run(after()) == "a"
    second.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.core.exchange import Handle
from gateway.stores.sqlite import SqliteHandles

class Clock:
    def time(self): return 1_800_000_000.0
    def monotonic(self): return 0.0

async def main():
    store = SqliteHandles(Path(sys.argv[1]), Clock())
    for number in range(20):
        await store.bind(Handle("mcp-session", f"s-{number}"), subject="a", route="r", upstream="u")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_binding_that_was_acknowledged_is_there_after_sigkill(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "handles.db")], timeout=60, check=False)
    assert done.returncode == -9
    store = SqliteHandles(tmp_path / "handles.db", MovedClock())

    async def owners() -> list[str | None]:
        return [await store.owner(Handle("mcp-session", f"s-{n}"), route="r", upstream="u") for n in range(20)]

    assert asyncio.run(owners()) == ["a"] * 20
    store.close()


def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    SqliteHandles(tmp_path / "handles.db", MovedClock()).close()
    assert os.stat(tmp_path / "handles.db").st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "handles.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreFailed, match=r"handles\.db cannot be opened"):
        SqliteHandles(tmp_path / "handles.db", MovedClock())


def test_a_binding_that_cannot_be_written_is_an_error_and_is_not_known(tmp_path: Path) -> None:
    store = SqliteHandles(tmp_path / "handles.db", MovedClock())
    other = sqlite3.connect(tmp_path / "handles.db")
    other.execute("DROP TABLE handles")
    other.close()

    async def story() -> None:
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.bind(SESSION, subject="a", **PLACE)
        assert await store.owner(SESSION, **PLACE) is None

    asyncio.run(story())
    store.close()
