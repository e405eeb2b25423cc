"""Bundles in SQLite: their bytes, which of them is active, and the highest number that was ever accepted.

The rules: 1. What is accepted or activated is on disk when the call returns (WAL, synchronous FULL), all of it or
nothing. 2. A number never goes down, and nothing here forgets one: neither a restart nor a rollback. 3. The bytes are
those of their digest, checked when they are read; a state that is not as it was written (`seal`) refuses. 4. At most
`KEPT` bundles of a name are kept, the oldest goes; the active one and the one before it stay.
Its calls block, for milliseconds: whoever calls from an event loop uses a thread. SQL is spelled out here.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.core.bundles import CONFIGURED, BundleEvent, BundleMoved, BundleState, KeptBundle
from gateway.core.canonical import digest as digest_of
from gateway.core.reasons import StoreFailed
from gateway.stores.sqlite import connect

VERSION = 1
KEPT = 50
EVENTS = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bundles (
    name TEXT NOT NULL, digest TEXT NOT NULL, revision TEXT NOT NULL, number INTEGER NOT NULL, signer TEXT NOT NULL,
    not_before REAL, expires REAL, size_bytes INTEGER NOT NULL, pushed REAL NOT NULL, "by" TEXT NOT NULL,
    PRIMARY KEY (name, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, tarball BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (
    name TEXT PRIMARY KEY, active TEXT NOT NULL, previous TEXT, highest INTEGER NOT NULL, latest REAL NOT NULL,
    since REAL NOT NULL, seal TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, act TEXT NOT NULL, digest TEXT NOT NULL, number INTEGER NOT NULL,
    "by" TEXT NOT NULL, time REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_of ON events (name, id);
"""
_PUT = "INSERT OR IGNORE INTO bundles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BLOB = "INSERT OR IGNORE INTO blobs VALUES (?, ?)"
_STATE = "SELECT active, previous, highest, latest, since, seal FROM states WHERE name = ?"
_SET = "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?, ?)"
_EVENT = 'INSERT INTO events (name, act, digest, number, "by", time) VALUES (?, ?, ?, ?, ?, ?)'
_FORGET_EVENTS = "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?"
_FIND = "SELECT * FROM bundles WHERE name = ? AND digest = ?"
_OF_NAME = "SELECT * FROM bundles WHERE name = ? ORDER BY number DESC, pushed DESC"
_ALL = "SELECT * FROM bundles ORDER BY name, number DESC, pushed DESC"
_OLD = """
SELECT digest FROM bundles WHERE name = ? AND digest NOT IN (?, ?) ORDER BY number DESC, pushed DESC LIMIT -1 OFFSET ?
"""
_DROP = "DELETE FROM bundles WHERE name = ? AND digest = ?"
_DROP_BLOBS = "DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM bundles)"
_TARBALL = "SELECT tarball FROM blobs WHERE digest = ?"
_NAMES = "SELECT name FROM states UNION SELECT name FROM bundles ORDER BY 1"
_HISTORY = 'SELECT name, act, digest, number, "by", time FROM events WHERE name = ? ORDER BY id DESC LIMIT ?'


class SqliteBundles:
    """The port BundleStore. Raises StoreFailed, from its constructor too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database = connect(path, _SCHEMA, durable=True)
        with self._reading():
            [[version]] = self._database.execute("PRAGMA user_version")
            if version not in (0, VERSION):
                raise StoreFailed(f"{path} has version {version}, this program knows {VERSION}: use the newer program")
            self._database.execute(f"PRAGMA user_version = {VERSION}")

    def accept(self, bundle: KeptBundle, tarball: bytes, act: str = "push") -> None:
        with self._writing():
            state = self._state(bundle.name)
            self._database.execute(_PUT, _row(bundle))
            self._database.execute(_BLOB, (bundle.digest, tarball))
            self._write(bundle.name, _counted(state, bundle.number, bundle.pushed))
            self._event(BundleEvent(bundle.name, act, bundle.digest, bundle.number, bundle.by, bundle.pushed))
            for (old,) in self._database.execute(
                _OLD, (bundle.name, state.active, state.previous or "", KEPT)
            ).fetchall():
                self._database.execute(_DROP, (bundle.name, old))  # 4
            self._database.execute(_DROP_BLOBS)

    def activate(self, name: str, digest: str, *, expected: str, act: str, by: str, time: float) -> None:
        with self._writing():
            state = self._state(name)
            if state.active != expected:
                raise BundleMoved(state.active)
            found = self._found(name, digest)
            if found is None and digest != CONFIGURED:
                raise StoreFailed(f"{self._path}: {name} has no bundle {digest}")
            previous = None if act == "rollback" else state.active
            self._write(name, BundleState(digest, previous, state.highest, max(state.latest, time), time))
            self._event(BundleEvent(name, act, digest, found.number if found else -1, by, time))

    def state(self, name: str) -> BundleState:
        with self._reading():
            return self._state(name)

    def found(self, name: str, digest: str) -> KeptBundle | None:
        with self._reading():
            return self._found(name, digest)

    def tarball(self, digest: str) -> bytes | None:
        with self._reading():
            row = self._database.execute(_TARBALL, (digest,)).fetchone()
        if row is None:
            return None
        found = bytes(row[0])
        if digest_of(found) != digest:
            raise StoreFailed(f"{self._path}: the bundle {digest} is damaged; push it again")  # 3
        return found

    def kept(self, name: str | None = None) -> Sequence[KeptBundle]:
        with self._reading():
            rows = self._database.execute(_ALL) if name is None else self._database.execute(_OF_NAME, (name,))
            return [KeptBundle(*row) for row in rows]

    def names(self) -> Sequence[str]:
        with self._reading():
            return [str(name) for (name,) in self._database.execute(_NAMES)]

    def history(self, name: str, limit: int = 100) -> Sequence[BundleEvent]:
        with self._reading():
            return [BundleEvent(*row) for row in self._database.execute(_HISTORY, (name, limit))]

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _state(self, name: str) -> BundleState:
        row = self._database.execute(_STATE, (name,)).fetchone()
        if row is None:
            return BundleState()
        *columns, seal = row
        if seal != _seal(name, columns):
            raise StoreFailed(f"{self._path}: the state of {name} is not as it was written; restore it from a backup")
        return BundleState(*columns)

    def _found(self, name: str, digest: str) -> KeptBundle | None:
        row = self._database.execute(_FIND, (name, digest)).fetchone()
        return KeptBundle(*row) if row is not None else None

    def _write(self, name: str, state: BundleState) -> None:
        columns = (state.active, state.previous, state.highest, state.latest, state.since)
        self._database.execute(_SET, (name, *columns, _seal(name, columns)))

    def _event(self, event: BundleEvent) -> None:
        self._database.execute(_EVENT, (event.name, event.act, event.digest, event.number, event.by, event.time))
        self._database.execute(_FORGET_EVENTS, (EVENTS,))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreFailed(f"{self._path} does not answer: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """1."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.rollback()
                    raise
            except sqlite3.Error as error:
                raise StoreFailed(f"{self._path} cannot be written: {error}") from error


def _counted(state: BundleState, number: int, time: float) -> BundleState:
    """2."""
    highest = max(state.highest, number)
    return BundleState(state.active, state.previous, highest, max(state.latest, time), state.since)


def _row(bundle: KeptBundle) -> tuple[str | int | float | None, ...]:
    return (
        bundle.name, bundle.digest, bundle.revision, bundle.number, bundle.signer, bundle.not_before, bundle.expires,
        bundle.size_bytes, bundle.pushed, bundle.by,
    )  # fmt: skip


def _seal(name: str, columns: Sequence[object]) -> str:
    """SQLite keeps no checksum of what is in its pages."""
    return hashlib.sha256(json.dumps([name, *columns]).encode()).hexdigest()
