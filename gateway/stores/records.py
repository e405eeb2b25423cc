"""The index over the log's records in SQLite: finds by exchange, subject, action, kind, effect, reason and time.

The log is the truth and this file may be deleted at any time: at its start it catches up from the last seq it has, and
begins anew when it belongs to another log. The rule: it is never on the hot path. The sequencer's thread only hands
entries over (`committed`); a thread of its own writes them every two seconds or when somebody asks, in portions
(portions.py). Entries are not kept twice: a page is read from the log by seq. Comparison is SQLite's BINARY.
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
from itertools import islice
from pathlib import Path

import orjson

from gateway.core.canonical import Json
from gateway.core.query import PAGE_MOST, Entries, QueryFailed, RecordPage, RecordQuery
from gateway.stores.portions import PORTION, POSITION, SCHEMA, PortionWriter
from gateway.stores.search import Search
from gateway.stores.sqlite import StoreFailed, answers, connect

FLUSH_SECONDS = 2.0
STEP_SECONDS = 0.05
PENDING_BYTES = 4 * 1024 * 1024  # more is flushed before its time
DROP_BYTES = 64 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
_ASK = "SELECT count FROM portions LIMIT 1"
RECENT = 8192  # entries kept in memory: the log's files may be a checkpoint behind its commits
ASK_SECONDS = 2.0  # how long a question may wait for the index, and how long it may search

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
        self._worker = threading.Thread(target=self._run, name="tollgate-index", daemon=True)
        self._databases: list[sqlite3.Connection] = []
        self._portions: PortionWriter

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        self._databases = [self._open(), connect(self._path, "", durable=False)]
        self._portions = PortionWriter(self._databases[0])
        self._worker.start()

    @property
    def _reader(self) -> sqlite3.Connection:
        return self._databases[1]

    def committed(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """The sequencer's listener: (seq, entry) in order, after their commit. Costs an append."""
        with self._changed:
            self._pending.extend(entries)
            self._pending_bytes += sum([len(entry) for _, entry in entries])
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

    async def check(self) -> None:
        """The port Checked."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._check)

    def close(self) -> None:
        """Stops the thread after what it is writing, and closes the file."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()
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
        """Up to the first seq that does not follow the one before: what is missing is read from the log."""
        portion: list[tuple[int, bytes]] = []
        for item in entries:
            if item[0] != self._next + len(portion):
                break
            portion.append(item)
            if len(portion) == PORTION:
                self._add(portion)
                portion = []
                if self._stopping:
                    return
        if portion:
            self._add(portion)

    def _add(self, portion: list[tuple[int, bytes]]) -> None:
        self._portions.add(portion)
        self._next = portion[-1][0] + 1
        self._head = max(self._head, self._next)

    def _open(self) -> sqlite3.Connection:
        """The index of this log: one of another log, or a broken one, is begun anew."""
        try:
            database = connect(self._path, SCHEMA, durable=False)
            found: tuple[int, bytes] | None = database.execute(POSITION).fetchone()
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
        return connect(self._path, SCHEMA, durable=False)

    # Questions, in the executor's thread.

    def _check(self) -> None:
        if self._failed:
            raise StoreFailed(f"{self._path} cannot be written: {self._failed}")
        answers(self._reader, self._path, _ASK, write=False)

    def _find(self, query: RecordQuery) -> RecordPage:
        self._fresh()
        limit = max(1, min(query.limit, PAGE_MOST))
        try:
            deadline = time.monotonic() + ASK_SECONDS
            self._reader.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            seqs = list(islice(Search(query, self._reader, self._records, deadline).seqs(), limit + 1))
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time") from None
            raise QueryFailed(f"the index cannot be read: {error}") from None
        except sqlite3.Error as broken:
            raise QueryFailed(f"the index cannot be read: {broken}") from None
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

    def _records(self, seqs: Sequence[int]) -> Iterable[dict[str, Json]]:
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
