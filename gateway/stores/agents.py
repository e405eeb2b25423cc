"""Descriptors in SQLite: what agents and tools exist, what was approved of them, and what is blocked.

The rules: 1. The whole store is read at the start and questions are answered from memory. 2. A change counts when it is
on disk (WAL, synchronous FULL), all of it or nothing. 3. A file that is damaged, empty, of another version or has a row
that is not as it was written refuses to open: the gateway does not start, because a pin that is forgotten would be
given anew to whatever is served today. 4. A block is kept apart from what it blocks: only `unblock` lifts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeAlias

from gateway.core.descriptors import Described, Standing
from gateway.stores.sqlite import StoreFailed, answers, connect

VERSION = 1

# `seal` is over the other columns: SQLite keeps no checksum of what is in its pages.
_SCHEMA = f"""
CREATE TABLE descriptors (
    kind TEXT NOT NULL, upstream TEXT NOT NULL, name TEXT NOT NULL, standing TEXT NOT NULL, digest TEXT NOT NULL,
    approved TEXT NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL, document TEXT NOT NULL,
    approved_document TEXT NOT NULL, seen REAL NOT NULL, changed REAL NOT NULL, seal TEXT NOT NULL,
    PRIMARY KEY (kind, upstream, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    kind TEXT NOT NULL, upstream TEXT NOT NULL, name TEXT NOT NULL, why TEXT NOT NULL, "by" TEXT NOT NULL,
    since REAL NOT NULL, seal TEXT NOT NULL,
    PRIMARY KEY (kind, upstream, name)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
_PUT = "INSERT OR REPLACE INTO descriptors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BLOCK = "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)"
_UNBLOCK = "DELETE FROM blocks WHERE kind = ? AND upstream = ? AND name = ?"
_ITEMS = "SELECT * FROM descriptors"
_BLOCKED = "SELECT * FROM blocks"

_ASK = "SELECT seen FROM descriptors LIMIT 1"

Key: TypeAlias = tuple[str, str, str]
Column: TypeAlias = str | float
Statement: TypeAlias = tuple[str, tuple[Column, ...]]
Block: TypeAlias = tuple[str, str, float]  # why, by, since

_log = logging.getLogger("tollgate.stores")


class SqliteRegistry:
    """The ports Registry and Blocks, persisted. Used from one event loop; its thread only writes. `time` gives epoch
    seconds. Raises StoreFailed from its constructor (3) and, `save`, `block` and `unblock`, when nothing was written.
    """

    def __init__(self, path: Path, time: Callable[[], float]) -> None:
        self._path = path
        self._time = time
        self._items: dict[Key, Described] = {}
        self._blocks: dict[Key, Block] = {}
        self._told: list[Callable[[Sequence[Described]], None]] = []
        self._database = _open(path)
        try:
            self._load()
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._database.close()
            raise StoreFailed(_refusal(path, str(error))) from error
        self._executor = ThreadPoolExecutor(1, "tollgate-agents")
        self._broken = False  # the last write failed

    def find(self, kind: str, upstream: str, name: str) -> Described | None:
        key = (kind, upstream, name)
        item, block = self._items.get(key), self._blocks.get(key)
        return item if block is None else _overlaid(key, item, block)

    def items(self, kind: str | None = None, upstream: str | None = None) -> Sequence[Described]:
        keys = sorted({*self._items, *self._blocks})
        wanted = [key for key in keys if kind in (None, key[0]) and upstream in (None, key[1])]
        return [item for key in wanted if (item := self.find(*key)) is not None]

    async def save(self, items: Sequence[Described]) -> None:
        kept = {_key(item): self._below(item) for item in items}
        await self._write([(_PUT, _row(item)) for item in kept.values()], lambda: self._items.update(kept), list(kept))

    def subscribe(self, told: Callable[[Sequence[Described]], None]) -> None:
        self._told.append(told)

    async def block(self, kind: str, upstream: str, name: str, why: str, by: str) -> None:
        key, block = (kind, upstream, name), (why, by, self._time())
        columns: tuple[Column, ...] = (*key, *block)
        await self._write([(_BLOCK, (*columns, _seal(columns)))], lambda: self._blocks.update({key: block}), [key])

    async def unblock(self, kind: str, upstream: str, name: str) -> None:
        key = (kind, upstream, name)
        await self._write([(_UNBLOCK, key)], lambda: self._blocks.pop(key, None), [key])

    def blocked(self, kind: str) -> frozenset[tuple[str, str]]:
        return frozenset(key[1:] for key in self._blocks if key[0] == kind)

    async def check(self) -> None:
        """The port Checked."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._check)

    def close(self) -> None:
        """Waits for what is being written and closes the file."""
        self._executor.shutdown(wait=True)
        self._database.close()

    def _below(self, item: Described) -> Described:
        """What is stored: a block lies over it and is no part of it (4)."""
        if item.standing is not Standing.BLOCKED:
            return item
        before = self._items.get(_key(item))
        return replace(item, standing=before.standing if before is not None else Standing.UNVERIFIED)

    async def _write(self, statements: Sequence[Statement], apply: Callable[[], object], keys: Sequence[Key]) -> None:
        """2: what is on disk is in memory too, also when whoever asked for it is gone meanwhile."""
        written = asyncio.get_running_loop().run_in_executor(self._executor, self._commit, statements)

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                apply()
                self._tell(keys)

        written.add_done_callback(done)
        await asyncio.shield(written)

    def _tell(self, keys: Sequence[Key]) -> None:
        changed = [self.find(*key) or Described(*key, Standing.UNVERIFIED) for key in keys]
        for told in self._told:
            told(changed)

    def _commit(self, statements: Sequence[Statement]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
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
        items: dict[Key, Described] = {}
        blocks: dict[Key, Block] = {}
        for row in self._database.execute(_ITEMS):
            item = _item(row)
            items[_key(item)] = item
        for row in self._database.execute(_BLOCKED):
            kind, upstream, name, why, by, since, seal = row
            if seal != _seal(row[:-1]):
                raise ValueError(f"the block of {kind} {upstream} {name} is not as it was written")
            blocks[kind, upstream, name] = (why, by, since)
        self._items, self._blocks = items, blocks


def _open(path: Path) -> sqlite3.Connection:
    """3, as far as SQLite can tell. A new store is made beside its place and moved there whole, so that an empty file
    is never one that was being made."""
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_size == 0:
            raise StoreFailed(_refusal(path, "it is empty"))
        database = connect(path, "", durable=True)
        try:
            problems = [str(row[0]) for row in database.execute("PRAGMA quick_check(1)") if row[0] != "ok"]
            [[version]] = database.execute("PRAGMA user_version")
            if version != VERSION:
                problems.append(f"it has version {version}, this program knows {VERSION}")
        except sqlite3.Error as error:
            problems = [str(error)]
        if problems:
            database.close()
            raise StoreFailed(_refusal(path, problems[0]))
    except OSError as error:
        raise StoreFailed(f"{path} cannot be opened: {error}") from error
    except StoreFailed as error:
        if "move it away" in str(error):
            raise
        raise StoreFailed(_refusal(path, str(error))) from error
    return database


def _make(path: Path) -> None:
    made = path.with_name(path.name + ".new")
    for left in (made, made.with_name(made.name + "-wal"), made.with_name(made.name + "-shm")):
        left.unlink(missing_ok=True)
    connect(made, _SCHEMA, durable=True).close()  # which writes the WAL back into the file
    os.replace(made, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refusal(path: Path, why: str) -> str:
    return (
        f"the store of approved descriptors {path} cannot be trusted: {why}; restore it from a backup, or move it away "
        "to begin without approvals and blocks"
    )


def _key(item: Described) -> Key:
    return item.kind, item.upstream, item.name


def _overlaid(key: Key, item: Described | None, block: Block) -> Described:
    why, by, since = block
    if item is None:
        return Described(*key, Standing.BLOCKED, by=by, why=why, changed=since)
    return replace(item, standing=Standing.BLOCKED, why=why)


def _row(item: Described) -> tuple[Column, ...]:
    """In the order of the class, which is that of the table."""
    columns: tuple[Column, ...] = (
        *_key(item), str(item.standing), item.digest, item.approved, item.by, item.why,
        json.dumps(item.document), json.dumps(item.approved_document), float(item.seen), float(item.changed),
    )  # fmt: skip
    return (*columns, _seal(columns))


def _item(row: Sequence[Column]) -> Described:
    """Raises ValueError for a row that is not as it was written (3)."""
    *columns, seal = row
    found = dict(zip((field.name for field in fields(Described)), columns, strict=True))
    if seal != _seal(columns):
        raise ValueError(f"{found['kind']} {found['upstream']}/{found['name']} is not as it was written")
    for name in ("document", "approved_document"):
        found[name] = json.loads(str(found[name]))
    found["standing"] = Standing(str(found["standing"]))
    return Described(**found)  # type: ignore[arg-type]  # the columns have their types from STRICT


def _seal(columns: Sequence[Column]) -> str:
    return hashlib.sha256(json.dumps(list(columns)).encode()).hexdigest()
