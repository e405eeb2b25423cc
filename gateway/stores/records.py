"""The index over the log's records in SQLite: finds by exchange, subject, action, kind, effect, reason and time.

The log is the truth and this file may be deleted at any time: at its start it catches up from where it ends, and begins
anew when it belongs to another log. The rule: it is never on the hot path, and no record costs it more than a look at a
few of its bytes. The sequencer's thread only hands entries over (`committed`); a thread of its own takes them every
second or when somebody asks, and writes a row for each full portion (portions.py). What fills none yet is kept in
memory and searched there; what the index points at is read from the log. Comparison is exact, byte by byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from gateway.core.query import PAGE_MOST, Entries, QueryFailed, RecordPage, RecordQuery
from gateway.stores.facets import PortionReader
from gateway.stores.portions import LAYOUT, PORTION, POSITION, SCHEMA, PortionWriter
from gateway.stores.search import Search
from gateway.stores.sqlite import StoreFailed, answers, connect

FLUSH_SECONDS = 1.0
STEP_SECONDS = 0.05
RETRY_SECONDS = 2.0  # after a row could not be written
PENDING = 8 * PORTION  # entries; more are taken before their time
DROP_BYTES = 128 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
GROUP = 16  # portions written in one transaction
GROUP_BYTES = 8 * 1024 * 1024  # or fewer
ENTRY_BYTES = 65_535  # the most that one has
KEPT = 32  # indexed portions kept in memory: the log's files may be a checkpoint behind its commits
KEPT_BYTES = 16 * 1024 * 1024  # or fewer
ASK_SECONDS = 2.0  # how long a question may wait for the index, and how long it may search
_ASK = "SELECT first FROM portions LIMIT 1"
_PAUSE_SECONDS = 0.001  # between portions, to let the event loop in; less would end before the loop woke

Entry: TypeAlias = "tuple[int, bytes]"

_log = logging.getLogger("tollgate.stores")


class RecordIndex:
    """The Records port. `committed` comes from any one thread, also before `start`; `find` from the event loop.

    `submitted` counts the records that the log was given: a question waits until those before it are here. Nothing is
    opened before `start`, so that the index can be the log's listener and read from it.
    """

    def __init__(self, path: Path, entries: Entries, submitted: Callable[[], int] = lambda: 0) -> None:
        self._path = path
        self._entries = entries
        self._submitted = submitted
        self._changed = threading.Condition()
        self._pending: list[Entry] = []
        self._pending_from = 0  # the seq of its first
        self._head = 0  # the seq behind the newest that was committed, as far as this index was told
        self._indexed = 0  # the seq behind the last portion that has its row
        self._tail: list[Entry] = []  # the entries from there on
        self._kept: dict[int, tuple[list[Entry], int]] = {}  # portions by number, with their bytes; newest last
        self._kept_bytes = 0
        self._first = True  # nothing was read from the log yet
        self._wanted = 0  # somebody waits until everything before this seq is here
        self._stopping = False
        self._failed = ""
        self._executor = ThreadPoolExecutor(1, "tollgate-records")
        self._worker = threading.Thread(target=self._run, name="tollgate-index", daemon=True)
        self._databases: list[sqlite3.Connection] = []
        self._reads = PortionReader()
        self._writes: PortionWriter

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        self._databases = [self._open(), connect(self._path, "", durable=False)]
        self._writes = PortionWriter(self._databases[0])
        self._worker.start()

    @property
    def _reader(self) -> sqlite3.Connection:
        return self._databases[1]

    @property
    def _next(self) -> int:
        """The seq that is taken next."""
        return self._indexed + len(self._tail)

    def committed(self, entries: list[Entry]) -> None:
        """The sequencer's listener: (seq, entry) in order, after their commit. Costs an append."""
        if not entries:
            return
        first, head = entries[0][0], entries[-1][0] + 1
        with self._changed:
            self._head = head
            if first != self._pending_from + len(self._pending) or self._flooded():
                self._pending, self._pending_from = [], first
            if head - first == len(entries):
                self._pending += entries
            else:  # a hole: all of them are read from the log
                self._pending, self._pending_from = [], head
            if self._due():
                self._changed.notify_all()

    def _flooded(self) -> bool:
        """Whether what waits is too much to be kept. Nobody counts bytes before there can be so many."""
        return len(self._pending) * ENTRY_BYTES > DROP_BYTES and _size(self._pending) > DROP_BYTES

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
                first, batch = self._pending_from, self._pending
                self._pending_from, self._pending = first + len(batch), []
            before = self._next
            try:
                self._catch_up(first, batch)
                self._failed, waiting = "", FLUSH_SECONDS
            except Exception as error:  # noqa: BLE001 (background loop: the log keeps what this could not write)
                self._failed, waiting = f"{type(error).__name__}: {error}", RETRY_SECONDS
                _log.error("the index of records %s cannot be written: %s", self._path, error)
            with self._changed:
                self._changed.notify_all()
                if self._next == before and self._due():
                    self._changed.wait(STEP_SECONDS)  # asked for what the log does not show yet

    def _due(self) -> bool:
        asked = self._wanted > self._next and (bool(self._pending) or self._head > self._next)
        return self._stopping or asked or len(self._pending) >= PENDING

    def _catch_up(self, first: int, batch: list[Entry]) -> None:
        """Takes `batch` behind what the log has up to it. No seq is skipped: what the log does not show yet waits."""
        stop = first if batch else None
        if len(self._tail) >= GROUP * PORTION:
            self._index()  # what failed before
        if self._first or self._next < (self._head if stop is None else stop):
            self._read_log(stop)
            self._first = False
        skip = self._next - first
        if skip >= 0:
            for at in range(skip, len(batch), PORTION):
                if self._stopping:
                    return
                self._append(batch[at : at + PORTION])
                if len(self._tail) >= GROUP * PORTION:
                    self._index()
        if len(self._tail) >= PORTION:
            self._index()

    def _read_log(self, stop: int | None) -> None:
        """Takes what the log shows, up to `stop`."""
        taken: list[Entry] = []
        size = 0
        for item in self._entries.read(self._next, stop):
            taken.append(item)
            size += len(item[1])
            if len(taken) == PORTION:
                self._append(taken)
                taken = []
                if len(self._tail) >= GROUP * PORTION or size > GROUP_BYTES:
                    self._index()
                    size = 0
                if self._stopping:
                    return
        self._append(taken)

    def _append(self, entries: list[Entry]) -> None:
        with self._changed:
            self._tail.extend(entries)
            self._head = max(self._head, self._next)

    def _index(self) -> None:
        """Writes the rows of all full portions. If that fails they stay in the tail, and nothing more is taken once
        that has a group of them: what comes then is read from the log later."""
        start, tail = self._indexed, self._tail
        end = len(tail) - len(tail) % PORTION
        bundles = [tail[at : at + PORTION] for at in range(0, end, PORTION)]
        portions = []
        for bundle in bundles:
            portions.append(self._reads.read(bundle))
            time.sleep(_PAUSE_SECONDS)
        self._writes.add(start // PORTION, portions, *tail[end - 1])
        with self._changed:
            self._indexed, self._tail = start + end, tail[end:]
            for at, (bundle, portion) in enumerate(zip(bundles, portions, strict=True), start // PORTION):
                self._keep(at, bundle, portion.size)

    def _keep(self, n: int, bundle: list[Entry], size: int) -> None:
        self._kept[n] = bundle, size
        self._kept_bytes += size
        while len(self._kept) > KEPT or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= self._kept.pop(next(iter(self._kept)))[1]

    def _open(self) -> sqlite3.Connection:
        """The index of this log: one of another log or layout, or a broken one, is begun anew."""
        try:
            database = connect(self._path, SCHEMA, durable=False)
        except StoreFailed as error:
            return self._anew(str(error))
        try:
            found: tuple[int, int, bytes] | None = database.execute(POSITION).fetchone()
        except sqlite3.DatabaseError as wrong:
            database.close()
            return self._anew(str(wrong))
        if found is None:
            return database
        layout, seq, digest = found
        read = self._entries.read(seq, seq + 1) if layout == LAYOUT else ()
        if [hashlib.sha256(entry).digest() for _, entry in read] != [digest]:
            database.close()
            return self._anew(f"{self._path} is of another log or version")
        self._indexed = self._head = seq + 1
        return database

    def _anew(self, why: str) -> sqlite3.Connection:
        _log.warning("the index of records is begun anew: %s", why)
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
        with self._changed:
            start, tail = self._indexed, list(self._tail)
        try:
            deadline = time.monotonic() + ASK_SECONDS
            self._reader.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            search = Search(query, self._reader, PORTION, self._bundle, deadline)
            found = list(islice(search.records(start, tail), limit + 1))
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time") from None
            raise QueryFailed(f"the index cannot be read: {error}") from None
        except sqlite3.Error as broken:
            raise QueryFailed(f"the index cannot be read: {broken}") from None
        more = len(found) > limit
        found = found[:limit]
        return RecordPage(tuple(record for _, record in found), found[-1][0] if more else None)

    def _fresh(self) -> None:
        """Waits until what was committed before the question is here, within bounds: a page may be behind."""
        with self._changed:
            target = max(self._head, self._submitted())
            if self._next < target and not self._failed:
                self._wanted = max(self._wanted, target)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._next >= target or bool(self._failed), timeout=ASK_SECONDS)

    def _bundle(self, n: int) -> Sequence[Entry]:
        """The entries of an indexed portion, from memory or the log."""
        with self._changed:
            kept = self._kept.get(n)
        if kept is not None:
            return kept[0]
        start = n * PORTION
        bundle = list(self._entries.read(start, start + PORTION))
        if len(bundle) != PORTION:
            missing = start + len(bundle)
            raise QueryFailed(f"record {missing} is in the index but not in the log; restart to build the index anew")
        return bundle


def _size(entries: list[Entry]) -> int:
    size = 0
    for _, entry in entries:
        size += len(entry)
    return size
