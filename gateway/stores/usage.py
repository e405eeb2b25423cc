"""The book of usage in SQLite: settled sums of accounts, what was used by whom of what on which day, adjustments.

1. The log is the truth and this file may be deleted at any time: at its start the book catches up from where it ends,
   and begins anew when it belongs to another log. 2. Every entry counts once: sums and position are one transaction.
3. It is never on the hot path: the sequencer's thread only hands entries over (`committed`), a thread of its own adds
   them up (settlements.py) every second or when somebody asks. 4. An answer has everything that the log had when the
   question came, or there is none: counters are filled from it (`standing`), and unknown is no.
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
from pathlib import Path
from typing import TypeAlias, TypeVar

from gateway.core.accounts import Budget, Standing, Tally
from gateway.core.ports import Clock
from gateway.core.query import Entries, QueryFailed
from gateway.core.usage import Adjusted, UsagePage, UsageQuery
from gateway.stores.settlements import Sums, size_of
from gateway.stores.sqlite import StoreFailed, answers, connect
from gateway.stores.usage_questions import Questions
from gateway.stores.usage_sums import LAYOUT, POSITION, SCHEMA, SumsWriter

FLUSH_SECONDS = 1.0
STEP_SECONDS = 0.05
RETRY_SECONDS = 2.0  # after sums could not be written
PENDING = 4096  # entries; more are taken before their time
PENDING_BYTES = 64 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
BATCH = 32_768  # entries added up in one transaction
BATCH_BYTES = 32 * 1024 * 1024  # or fewer
CHUNK = 512  # entries between which the event loop is let in
ASK_SECONDS = 5.0  # how long a question may wait for the book
FILL_SECONDS = 900.0  # how long counters that are to be filled may wait for it: a long log is read first
_PAUSE_SECONDS = 0.001
_ASK = "SELECT layout FROM position LIMIT 1"

Entry: TypeAlias = "tuple[int, bytes]"
_Found = TypeVar("_Found")

_log = logging.getLogger("tollgate.stores")


class UsageBook:
    """The ports Totals and Usages. `committed` comes from any one thread, also before `start`; questions from the
    event loop. `submitted` counts the records that the log was given: a question waits until those before it are
    here."""

    def __init__(self, path: Path, entries: Entries, clock: Clock, submitted: Callable[[], int] = lambda: 0) -> None:
        self._path = path
        self._entries = entries
        self._clock = clock
        self._submitted = submitted
        self._changed = threading.Condition()
        self._pending: list[Entry] = []
        self._pending_from = 0  # the seq of its first
        self._pending_bytes = 0
        self._head = 0  # the seq behind the newest that was committed, as far as this book was told
        self._next = 0  # the seq that is counted next
        self._first = True  # nothing was read from the log yet
        self._wanted = 0  # somebody waits until everything before this seq is here
        self._stopping = False
        self._failed = ""
        self.unreadable = 0  # entries of a shape that the gateway does not write
        self._executor = ThreadPoolExecutor(1, "tollgate-usage-asked")
        self._worker = threading.Thread(target=self._run, name="tollgate-usage", daemon=True)
        self._databases: list[sqlite3.Connection] = []
        self._writes: SumsWriter
        self._questions: Questions

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        self._databases = [self._open(), connect(self._path, "", durable=False)]
        self._writes = SumsWriter(self._databases[0])
        self._questions = Questions(self._databases[1])
        self._worker.start()

    def committed(self, entries: list[Entry]) -> None:
        """The sequencer's listener: (seq, entry) in order, after their commit. Costs an append."""
        if not entries:
            return
        first, head = entries[0][0], entries[-1][0] + 1
        with self._changed:
            self._head = head
            if first != self._pending_from + len(self._pending) or self._pending_bytes > PENDING_BYTES:
                self._pending, self._pending_from, self._pending_bytes = [], first, 0
            if head - first == len(entries):
                self._pending += entries
                self._pending_bytes += size_of(entries)
            else:  # a hole: all of them are read from the log
                self._pending, self._pending_from, self._pending_bytes = [], head, 0
            if self._due():
                self._changed.notify_all()

    @property
    def behind(self) -> int:
        return max(0, max(self._head, self._submitted()) - self._next)

    async def standing(self, wanted: Sequence[tuple[Budget, str]]) -> Standing:
        """The port Totals. Raises StoreFailed."""
        now = self._clock.time()
        try:
            return await self._asked(FILL_SECONDS, lambda: self._questions.standing(wanted, now))
        except QueryFailed as error:
            raise StoreFailed(str(error)) from None

    async def usage(self, query: UsageQuery) -> UsagePage:
        return await self._asked(ASK_SECONDS, lambda: self._questions.usage(query))

    async def keys(self, budget: Budget, period: str, *, find: str, after: str, limit: int) -> list[str]:
        return await self._asked(ASK_SECONDS, lambda: self._questions.keys(budget, period, find, after, limit))

    async def tally(self, budget: Budget, period: str, key: str) -> Tally:
        now = self._clock.time()
        return await self._asked(ASK_SECONDS, lambda: self._questions.tally(budget, period, key, now))

    async def adjusted(self, budget: Budget, key: str, limit: int) -> list[Adjusted]:
        return await self._asked(ASK_SECONDS, lambda: self._questions.adjusted(budget, key, limit))

    async def check(self) -> None:
        """The port Checked."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._check)

    def close(self) -> None:
        """Counts what waits, stops the thread and closes the file."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()
        self._executor.shutdown(wait=True)
        for database in self._databases:
            database.close()

    # The book's own thread.

    def _run(self) -> None:
        waiting = 0.0  # the first round catches up at once
        stopping = False
        while not stopping:
            with self._changed:
                self._changed.wait_for(self._due, timeout=waiting)
                stopping = self._stopping
                first, batch = self._pending_from, self._pending
                self._pending_from, self._pending, self._pending_bytes = first + len(batch), [], 0
            before = self._next
            try:
                self._catch_up(first, batch)
                self._failed, waiting = "", FLUSH_SECONDS
            except Exception as error:  # noqa: BLE001 (background loop: the log keeps what this could not write)
                self._failed, waiting = f"{type(error).__name__}: {error}", RETRY_SECONDS
                _log.error("the book of usage %s cannot be written: %s", self._path, error)
            with self._changed:
                self._changed.notify_all()
                if self._next == before and self._due() and not stopping:
                    self._changed.wait(STEP_SECONDS)  # asked for what the log does not show yet

    def _due(self) -> bool:
        asked = self._wanted > self._next and (bool(self._pending) or self._head > self._next)
        return self._stopping or asked or len(self._pending) >= PENDING

    def _catch_up(self, first: int, batch: list[Entry]) -> None:
        """Counts `batch` behind what the log has up to it. No seq is skipped: what the log does not show yet waits."""
        stop = first if batch else None
        if self._first or self._next < (self._head if stop is None else stop):
            self._read_log(stop)
            self._first = False
        skip = self._next - first
        if batch and skip >= 0:
            self._count(batch[skip:])

    def _read_log(self, stop: int | None) -> None:
        """Counts what the log shows, up to `stop`."""
        taken: list[Entry] = []
        size = 0
        for item in self._entries.read(self._next, stop):
            taken.append(item)
            size += len(item[1])
            if len(taken) == BATCH or size > BATCH_BYTES:
                self._count(taken)
                taken, size = [], 0
                if self._stopping:
                    return
        self._count(taken)

    def _count(self, entries: list[Entry]) -> None:
        """2. Raises sqlite3.Error: nothing of them was counted."""
        if not entries:
            return
        sums = Sums()
        for at in range(0, len(entries), CHUNK):
            sums.take(entries[at : at + CHUNK])
            if self._wanted <= self._next:  # nobody waits
                time.sleep(_PAUSE_SECONDS)
        sums.finish()
        self._writes.add(sums, *entries[-1])
        if sums.unreadable:
            self.unreadable += len(sums.unreadable)
            _log.error("records that the book of usage cannot read: %s", sums.unreadable[:10])
        with self._changed:
            self._next = entries[-1][0] + 1
            self._head = max(self._head, self._next)

    def _open(self) -> sqlite3.Connection:
        """The book of this log: one of another log or layout, or a broken one, is begun anew."""
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
        self._next = self._head = seq + 1
        return database

    def _anew(self, why: str) -> sqlite3.Connection:
        _log.warning("the book of usage is begun anew: %s", why)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return connect(self._path, SCHEMA, durable=False)

    # Questions, in the executor's thread.

    async def _asked(self, seconds: float, question: Callable[[], _Found]) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, seconds, question)

    def _answer(self, seconds: float, question: Callable[[], _Found]) -> _Found:
        """4. Raises QueryFailed."""
        with self._changed:
            target = max(self._head, self._submitted())
            if self._next < target or self._first:
                self._wanted = max(self._wanted, target)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._here(target) or bool(self._failed), timeout=seconds)
            if not self._here(target):
                why = self._failed or f"it is {target - self._next} records behind; ask again in a while"
                raise QueryFailed(f"the book of usage cannot answer: {why}")
        try:
            return question()
        except sqlite3.Error as broken:
            raise QueryFailed(f"the book of usage cannot be read: {broken}") from None

    def _here(self, target: int) -> bool:
        return self._next >= target and not self._first

    def _check(self) -> None:
        if self._failed:
            raise StoreFailed(f"{self._path} cannot be written: {self._failed}")
        answers(self._databases[1], self._path, _ASK, write=False)
