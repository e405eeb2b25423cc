"""Handles in SQLite: sessions and tasks that survive a restart.

The rule: `bind` returns when the binding is on disk (WAL, synchronous FULL), because the handle is shown to its owner
right after; questions are answered from memory, so a request never waits for the disk. Writes are group-committed by
one thread: at once when idle, together while a commit is under way. SQL is spelled out here; comparison is SQLite's
BINARY, so `Alice`, `alice` and `alice ` are three subjects.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from gateway.core.exchange import Handle
from gateway.core.ports import Clock
from gateway.core.reasons import StoreFailed
from gateway.stores.memory import Bounds, HandleTable, Key

__all__ = ["SqliteHandles", "StoreFailed", "answers", "connect"]

BUSY_SECONDS = 1.0  # nobody else should hold the file: a request waits for whoever does no longer than this

_SCHEMA = """
CREATE TABLE IF NOT EXISTS handles (
    kind TEXT NOT NULL, id TEXT NOT NULL, route TEXT NOT NULL, upstream TEXT NOT NULL,
    subject TEXT NOT NULL, used REAL NOT NULL,
    PRIMARY KEY (kind, id, route, upstream)
) STRICT, WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO handles (kind, id, route, upstream, subject, used) VALUES (?, ?, ?, ?, ?, ?)"
_TOUCH = "UPDATE handles SET used = ? WHERE kind = ? AND id = ? AND route = ? AND upstream = ?"
_DROP = "DELETE FROM handles WHERE kind = ? AND id = ? AND route = ? AND upstream = ?"
_LOAD = "SELECT kind, id, route, upstream, subject, used FROM handles ORDER BY used"
_ASK = "SELECT used FROM handles LIMIT 1"
_TOUCH_SECONDS = 3600.0  # a use is written down at most hourly: age is counted in days

Change: TypeAlias = tuple[str, tuple[str | float, ...]]

_log = logging.getLogger("tollgate.stores")


def connect(path: Path, schema: str, *, durable: bool) -> sqlite3.Connection:
    """An open WAL database, readable by its owner only; `durable`: a commit is on disk. Raises StoreFailed."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
        database.executescript(schema)
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"{path} cannot be opened: {error}") from error
    return database


def answers(database: sqlite3.Connection, path: Path, question: str, *, write: bool) -> None:
    """Asks the store something; `write`: lets it write what it holds already, where the last write failed. Raises
    StoreFailed."""
    try:
        database.execute(question).fetchone()
        if write:
            [[version]] = database.execute("PRAGMA user_version")
            database.execute(f"PRAGMA user_version = {int(version)}")
    except sqlite3.Error as error:
        raise StoreFailed(f"{path} does not answer: {error}") from error


class SqliteHandles:
    """The Handles port, persisted. Used from one event loop; the thread only writes."""

    def __init__(self, path: Path, clock: Clock, bounds: Bounds = Bounds()) -> None:  # noqa: B008 (frozen)
        self._path = path
        self._clock = clock
        self._table = HandleTable(bounds)
        self._database = connect(path, _SCHEMA, durable=True)
        self._executor = ThreadPoolExecutor(1, "tollgate-handles")
        self._pending: list[Change] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._writing = False
        self._broken = False  # the last write failed
        self._load()

    async def bind(self, handle: Handle, *, route: str, subject: str, upstream: str) -> None:
        key, now = (handle.kind, handle.id, route, upstream), self._clock.time()
        dropped = self._table.put(key, subject, now)
        changes: list[Change] = [(_PUT, (*key, subject, now)), *((_DROP, old) for old in dropped)]
        try:
            await self._durable(changes)
        except StoreFailed:
            self._table.drop(key)
            raise

    async def owner(self, handle: Handle, *, route: str, upstream: str) -> str | None:
        key, now = (handle.kind, handle.id, route, upstream), self._clock.time()
        owner = self._table.get(key, now)
        if owner is not None:
            before = self._table.touch(key, now)
            if now // _TOUCH_SECONDS != before // _TOUCH_SECONDS:
                self._pending.append((_TOUCH, (now, *key)))
                self._commit()
        return owner

    async def forget(self, handle: Handle, *, route: str, upstream: str) -> None:
        key = self._table.drop((handle.kind, handle.id, route, upstream))
        await self._durable([(_DROP, key)])

    async def check(self) -> None:
        """The port Checked."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._check)

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self._executor.shutdown(wait=True)
        if self._pending:
            self._write(self._pending)
        self._database.close()

    async def _durable(self, changes: list[Change]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.extend(changes)
        self._waiting.append(waiter)
        self._commit()
        await waiter

    def _commit(self) -> None:
        """Starts a commit of everything pending unless one is under way: its end starts the next."""
        if self._writing or not self._pending:
            return
        batch, waiting = self._pending, self._waiting
        self._pending, self._waiting, self._writing = [], [], True
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)

        def done(written: asyncio.Future[None]) -> None:
            self._writing = False
            failed = asyncio.CancelledError() if written.cancelled() else written.exception()
            for waiter in waiting:
                if waiter.done():
                    continue  # its exchange was cancelled; the binding is written all the same
                if failed is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(failed)
            self._commit()

        future.add_done_callback(done)

    def _write(self, batch: list[Change]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in batch:
                    self._database.execute(statement, values)
                self._database.execute("COMMIT")
                self._broken = False
            except sqlite3.Error:
                self._database.rollback()
                raise
        except sqlite3.Error as error:
            self._broken = True
            _log.error("%s cannot be written: %s", self._path, error)
            raise StoreFailed(f"{self._path} cannot be written: {error}") from error

    def _check(self) -> None:
        answers(self._database, self._path, _ASK, write=self._broken)
        self._broken = False

    def _load(self) -> None:
        now = self._clock.time()
        try:
            rows: list[tuple[str, str, str, str, str, float]] = self._database.execute(_LOAD).fetchall()
        except sqlite3.Error as error:
            self._database.close()
            raise StoreFailed(
                f"{self._path} cannot be read: {error}; move it away to start without the sessions it holds"
            ) from error
        dropped: list[Key] = []
        for kind, ident, route, upstream, subject, used in rows:
            dropped += self._table.put((kind, ident, route, upstream), subject, min(used, now))
        self._pending += [(_DROP, key) for key in dropped]
