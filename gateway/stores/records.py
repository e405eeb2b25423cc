"""The index over the log's records in SQLite: finds by exchange, subject, action, kind, effect, reason and time.

The log is the truth and this file may be deleted at any time: at its start it catches up from the last seq it has, and
begins anew when it belongs to another log. The rule: it is never on the hot path. The sequencer's thread only hands
entries over (`committed`); a thread of its own writes them twice a second or when somebody asks. Entries are not kept
twice: a page is read from the log by seq. SQL is spelled out here; comparison is SQLite's BINARY.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import orjson

from gateway.core.canonical import Json
from gateway.core.query import PAGE_MOST, Entries, QueryFailed, RecordPage, RecordQuery
from gateway.stores.sqlite import StoreFailed, connect

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, exchange TEXT, kind TEXT NOT NULL, time TEXT NOT NULL,
    subject TEXT, action TEXT, route TEXT, effect TEXT, reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS by_exchange ON records (exchange);
CREATE INDEX IF NOT EXISTS by_time ON records (time);
CREATE INDEX IF NOT EXISTS by_subject ON records (subject, seq);
CREATE INDEX IF NOT EXISTS by_action ON records (action, seq);
CREATE INDEX IF NOT EXISTS rare_kinds ON records (kind, seq) WHERE kind NOT IN ('intent', 'outcome');
CREATE INDEX IF NOT EXISTS denied ON records (seq) WHERE effect = 'deny';
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER, digest BLOB) STRICT;
"""
_INSERT = (
    "INSERT INTO records (seq, exchange, kind, time, subject, action, route, effect, reason)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SET_POSITION = "INSERT OR REPLACE INTO position (one, seq, digest) VALUES (1, ?, ?)"
_POSITION = "SELECT seq, digest FROM position"
_FIRST_SINCE = "SELECT seq FROM records WHERE time >= ? ORDER BY time LIMIT 1"
_LAST_UNTIL = "SELECT seq FROM records WHERE time <= ? ORDER BY time DESC LIMIT 1"
_COLUMNS = ("exchange", "subject", "action", "route", "kind", "effect", "reason")

FLUSH_SECONDS = 0.5
STEP_SECONDS = 0.05
PENDING_BYTES = 4 * 1024 * 1024  # more is flushed before its time
DROP_BYTES = 64 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
BATCH = 2048
RECENT = 8192  # entries kept in memory: the log's files may be a checkpoint behind its commits
ASK_SECONDS = 2.0  # how long a question may wait for the index, and how long it may search
TIME_SLACK = 20_000  # records: how far seq order and time order may differ (a record is timed before it is sequenced)

Row: TypeAlias = tuple[int, str | None, str, str, str | None, str | None, str | None, str | None, str | None]

_log = logging.getLogger("tollgate.stores")


class RecordIndex:
    """The Records port. `committed` comes from any one thread, also before `start`; `find` from the event loop.

    `submitted` counts the records that the log was given: a question waits until those before it are indexed. Nothing
    is opened before `start`, so that the index can be the log's listener and read from it.
    """

    def __init__(self, path: Path, entries: Entries, submitted: Callable[[], int] = lambda: 0) -> None:
        self._path = path
        self._entries = entries
        self._submitted = submitted
        self._changed = threading.Condition()
        self._pending: list[tuple[int, bytes]] = []
        self._pending_bytes = 0
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)
        self._head = 0  # the seq behind the newest that was committed, as far as this index was told
        self._next = 0  # the seq that is indexed next
        self._first = True  # nothing was read from the log yet
        self._wanted = 0  # somebody waits until everything before this seq is indexed
        self._stopping = False
        self._failed = ""
        self._executor = ThreadPoolExecutor(1, "tollgate-records")
        self._thread = threading.Thread(target=self._run, name="tollgate-index", daemon=True)
        self._databases: list[sqlite3.Connection] = []

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        self._databases = [self._open(), connect(self._path, "", durable=False)]
        self._thread.start()

    @property
    def _writer(self) -> sqlite3.Connection:
        return self._databases[0]

    @property
    def _reader(self) -> sqlite3.Connection:
        return self._databases[1]

    def committed(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """The sequencer's listener: (seq, entry) in order, after their commit. Costs an append."""
        with self._changed:
            self._pending.extend(entries)
            self._pending_bytes += sum(len(entry) for _, entry in entries)
            self._recent.extend(entries)
            if entries:
                self._head = entries[-1][0] + 1
            if self._pending_bytes > DROP_BYTES:
                self._pending, self._pending_bytes = [], 0
            if self._due():
                self._changed.notify_all()

    @property
    def behind(self) -> int:
        return max(0, max(self._head, self._submitted()) - self._next)

    async def find(self, query: RecordQuery) -> RecordPage:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._find, query)

    def close(self) -> None:
        """Stops the thread after what it is writing, and closes the file."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._executor.shutdown(wait=True)
        for database in self._databases:
            database.close()

    # The index's own thread.

    def _run(self) -> None:
        waiting = 0.0  # the first round catches up at once
        while True:
            with self._changed:
                self._changed.wait_for(self._due, timeout=waiting)
                if self._stopping:
                    return
                batch, self._pending, self._pending_bytes = self._pending, [], 0
            before = self._next
            try:
                self._catch_up(batch)
                self._failed, waiting = "", FLUSH_SECONDS
            except Exception as error:  # noqa: BLE001 (background loop: the log keeps what this could not write)
                self._failed, waiting = f"{type(error).__name__}: {error}", 2.0
                _log.error("the index of records %s cannot be written: %s", self._path, error)
            with self._changed:
                self._changed.notify_all()
                if self._next == before and self._due():
                    self._changed.wait(STEP_SECONDS)  # asked for what the log does not show yet

    def _due(self) -> bool:
        asked = self._wanted > self._next and (bool(self._pending) or self._head > self._next)
        return self._stopping or asked or self._pending_bytes > PENDING_BYTES

    def _catch_up(self, batch: list[tuple[int, bytes]]) -> None:
        """Indexes `batch` behind what the log has up to it. No seq is skipped: what the log does not show yet waits."""
        stop = batch[0][0] if batch else None
        if self._first or (self._next < self._head if stop is None else self._next < stop):
            self._add_all(self._entries.read(self._next, stop))
            self._first = False
        if batch and self._next >= batch[0][0]:
            self._add_all(item for item in batch if item[0] >= self._next)

    def _add_all(self, entries: Iterable[tuple[int, bytes]]) -> None:
        chunk: list[tuple[int, bytes]] = []
        for item in entries:
            chunk.append(item)
            if len(chunk) == BATCH:
                self._add(chunk)
                chunk = []
                if self._stopping:
                    return
        if chunk:
            self._add(chunk)

    def _add(self, chunk: list[tuple[int, bytes]]) -> None:
        rows = [_row(seq, entry) for seq, entry in chunk]
        last, entry = chunk[-1]
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            self._writer.executemany(_INSERT, rows)
            self._writer.execute(_SET_POSITION, (last, hashlib.sha256(entry).digest()))
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            self._writer.rollback()
            raise
        self._next = last + 1
        self._head = max(self._head, self._next)

    def _open(self) -> sqlite3.Connection:
        """The index of this log: one of another log, or a broken one, is begun anew."""
        try:
            database = connect(self._path, _SCHEMA, durable=False)
            found: tuple[int, bytes] | None = database.execute(_POSITION).fetchone()
        except (StoreFailed, sqlite3.DatabaseError) as error:
            _log.warning("the index of records is begun anew: %s", error)
            return self._anew()
        if found is None:
            return database
        seq, digest = found
        if [hashlib.sha256(entry).digest() for _, entry in self._entries.read(seq, seq + 1)] != [digest]:
            _log.warning("the index of records is begun anew: %s belongs to another log", self._path)
            database.close()
            return self._anew()
        self._next = self._head = seq + 1
        return database

    def _anew(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return connect(self._path, _SCHEMA, durable=False)

    # Questions, in the executor's thread.

    def _find(self, query: RecordQuery) -> RecordPage:
        self._fresh()
        limit = max(1, min(query.limit, PAGE_MOST))
        try:
            deadline = time.monotonic() + ASK_SECONDS
            self._reader.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            statement, values = _statement(query, self._reader, limit)
            seqs: list[int] = [seq for (seq,) in self._reader.execute(statement, values)]
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time") from None
            raise QueryFailed(f"the index cannot be read: {error}") from None
        except sqlite3.Error as error:
            raise QueryFailed(f"the index cannot be read: {error}") from None
        more = len(seqs) > limit
        seqs = seqs[:limit]
        return RecordPage(tuple(self._records(seqs)), seqs[-1] if more else None)

    def _fresh(self) -> None:
        """Waits until what was committed before the question is indexed, within bounds: a page may be behind."""
        with self._changed:
            target = max(self._head, self._submitted())
            if self._next < target and not self._failed:
                self._wanted = max(self._wanted, target)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._next >= target or bool(self._failed), timeout=ASK_SECONDS)

    def _records(self, seqs: list[int]) -> Iterable[dict[str, Json]]:
        """The records of `seqs` (newest first) from memory or the log, neighbours in one reading."""
        with self._changed:
            known = dict(self._recent)
        missing = sorted(seq for seq in seqs if seq not in known)
        for start, stop in _runs(missing):
            known.update(self._entries.read(start, stop))
        for seq in seqs:
            if seq not in known:
                raise QueryFailed(f"record {seq} is in the index but not in the log; restart to build the index anew")
            yield orjson.loads(known[seq])


def _row(seq: int, entry: bytes) -> Row:
    record = orjson.loads(entry)
    subject, decision, refusal = record.get("subject"), record.get("decision"), record.get("refusal")
    return (
        seq,
        record.get("exchange"),
        record["kind"],
        record["time"],
        subject.get("id") if subject else None,
        record.get("action"),
        record.get("route"),
        decision.get("effect") if decision else None,
        refusal.get("reason") if refusal else None,
    )


def _statement(query: RecordQuery, reader: sqlite3.Connection, limit: int) -> tuple[str, list[str | int]]:
    """Fixed fragments chosen by which members are given; every value is bound."""
    terms: list[str] = []
    values: list[str | int] = []
    for column in _COLUMNS:
        value: str | None = getattr(query, column)
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    if query.kind is not None and query.kind not in ("intent", "outcome"):
        terms.append("kind NOT IN ('intent', 'outcome')")
    if query.effect == "deny":
        terms.append("effect = 'deny'")
    for text, term, edge, bound, slack in (
        (query.since, "time >= ?", _FIRST_SINCE, "seq >= ?", -TIME_SLACK),
        (query.until, "time <= ?", _LAST_UNTIL, "seq <= ?", TIME_SLACK),
    ):
        if text is not None:
            found = reader.execute(edge, (text,)).fetchone()
            terms += [term, bound] if found else ["0"]
            values += [text, found[0] + slack] if found else []
    if query.before is not None:
        terms.append("seq < ?")
        values.append(query.before)
    where = f"WHERE {' AND '.join(terms)} " if terms else ""
    return f"SELECT seq FROM records {where}ORDER BY seq DESC LIMIT ?", [*values, limit + 1]


def _runs(seqs: list[int]) -> Iterable[tuple[int, int]]:
    """Neighbouring seqs as (start, stop): up to 64 unwanted entries between two are read along with them."""
    start = stop = -1
    for seq in seqs:
        if start >= 0 and seq - stop > 64:
            yield start, stop
            start = -1
        if start < 0:
            start = seq
        stop = seq + 1
    if start >= 0:
        yield start, stop
