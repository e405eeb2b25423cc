"""How a file in SQLite follows the signed log: what the index of records and the book of usage have in common.

1. The log is the truth and the file may be deleted at any time: at its start it catches up from where it ends, and
   begins anew when it belongs to another log. 2. No seq is skipped: what was not handed over, was too much to wait in
   memory, or could not be written is read from the log, and what the log does not show yet waits. 3. It is never on the
   hot path: the sequencer's thread only hands entries over (`committed`); a thread of its own has them taken every
   second or when somebody asks. 4. Who asks waits for what the log had when the question came, within bounds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from gateway.core.query import Entries
from gateway.stores.sqlite import StoreFailed, answers, connect

FLUSH_SECONDS = 1.0
STEP_SECONDS = 0.05
RETRY_SECONDS = 2.0  # after something could not be written

POSITION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
"""
_POSITION: Final = "SELECT layout, seq, digest FROM position"
_SET_POSITION: Final = "INSERT OR REPLACE INTO position (one, layout, seq, digest) VALUES (1, ?, ?, ?)"

Entry: TypeAlias = "tuple[int, bytes]"
_Found = TypeVar("_Found")

_log = logging.getLogger("tollgate.stores")


@dataclass(frozen=True, slots=True)
class Follower:
    """What follows, and how much of it at once. Entries and their bytes."""

    name: str  # as messages say it
    thread: str
    asked: str  # the name of the thread for questions
    schema: str  # of its own, beside POSITION_TABLE
    layout: int
    alive: str  # a question that its file answers when all is well
    pending: int  # more are taken before their time
    pending_bytes: int  # more is let go and read again from the log: the disk is stuck
    batch: int  # read from the log before they are taken
    batch_bytes: int  # or fewer
    takes_last: bool  # what waits when it is closed


class Following:
    """`committed` comes from any one thread, also before `open`; `ask` and `check` from the event loop.

    `submitted` counts the records that the log was given. In the thread of its own a round calls `ready`, where there
    is one, and then `take` with the next entries, the last time of a round maybe with none; `take` calls `reached` for
    what is there. What they raise fails the round, and another is tried later.
    """

    def __init__(
        self,
        path: Path,
        follower: Follower,
        entries: Entries,
        submitted: Callable[[], int],
        take: Callable[[list[Entry]], None],
        ready: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._follower = follower
        self._entries = entries
        self._submitted = submitted
        self._take = take
        self._ready = ready
        self._changed = threading.Condition()
        self._pending: list[Entry] = []
        self._pending_from = 0  # the seq of its first
        self._pending_bytes = 0
        self._head = 0  # the seq behind the newest that was committed, as far as this was told
        self.next = 0  # the seq that is taken next
        self._first = True  # nothing was read from the log yet
        self._wanted = 0  # somebody waits until everything before this seq is here
        self.stopping = False
        self.failed = ""
        self._executor = ThreadPoolExecutor(1, follower.asked)
        self._worker = threading.Thread(target=self._run, name=follower.thread, daemon=True)
        self._databases: list[sqlite3.Connection] = []

    def open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """The file, to be written by `take` and to be read by questions. Raises StoreFailed."""
        self._databases = [self._open(), connect(self._path, "", durable=False)]
        return self._databases[0], self._databases[1]

    def start(self) -> None:
        """Begins to catch up with the log, in the background."""
        self._worker.start()

    def committed(self, entries: list[Entry]) -> None:
        """The sequencer's listener: (seq, entry) in order, after their commit. Costs an append."""
        if not entries:
            return
        first, head = entries[0][0], entries[-1][0] + 1
        with self._changed:
            self._head = head
            flooded = self._pending_bytes > self._follower.pending_bytes
            if first != self._pending_from + len(self._pending) or flooded:
                self._pending, self._pending_from, self._pending_bytes = [], first, 0
            if head - first == len(entries):
                self._pending += entries
                self._pending_bytes += _size(entries)
            else:  # a hole: all of them are read from the log
                self._pending, self._pending_from, self._pending_bytes = [], head, 0
            if self._due():
                self._changed.notify_all()

    @property
    def behind(self) -> int:
        return max(0, max(self._head, self._submitted()) - self.next)

    @property
    def hurried(self) -> bool:
        """Somebody waits."""
        return self._wanted > self.next

    def reached(self, seq: int) -> None:
        """Everything before `seq` is here."""
        with self._changed:
            self.next = seq
            self._head = max(self._head, seq)

    async def ask(self, question: Callable[[], _Found]) -> _Found:
        """Asks in the thread for questions, one after another."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, question)

    def wait(self, seconds: float) -> str:
        """4, no longer than until a round fails. Why it is not here, or nothing. Not for the event loop's thread."""
        with self._changed:
            target = max(self._head, self._submitted())
            if not self._here(target):
                self._wanted = max(self._wanted, target)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._here(target) or bool(self.failed), timeout=seconds)
            if self._here(target):
                return ""
            return self.failed or f"it is {target - self.next} records behind; ask again in a while"

    async def check(self) -> None:
        """The port Checked."""
        await self.ask(self._check)

    def close(self) -> None:
        """Stops the thread after what it is taking, and closes the file."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()
        self._executor.shutdown(wait=True)
        for database in self._databases:
            database.close()

    # Its own thread.

    def _run(self) -> None:
        waiting = 0.0  # the first round catches up at once
        stopping = False
        while not stopping:
            with self._changed:
                self._changed.wait_for(self._due, timeout=waiting)
                stopping = self.stopping
                if stopping and not self._follower.takes_last:
                    return
                first, batch = self._pending_from, self._pending
                self._pending_from, self._pending, self._pending_bytes = first + len(batch), [], 0
            before = self.next
            try:
                self._catch_up(first, batch)
                self.failed, waiting = "", FLUSH_SECONDS
            except Exception as error:  # noqa: BLE001 (background loop: the log keeps what this could not write)
                self.failed, waiting = f"{type(error).__name__}: {error}", RETRY_SECONDS
                _log.error("%s %s cannot be written: %s", self._follower.name, self._path, error)
            with self._changed:
                self._changed.notify_all()
                if self.next == before and self._due() and not stopping:
                    self._changed.wait(STEP_SECONDS)  # asked for what the log does not show yet

    def _due(self) -> bool:
        asked = self._wanted > self.next and (bool(self._pending) or self._head > self.next)
        return self.stopping or asked or len(self._pending) >= self._follower.pending

    def _catch_up(self, first: int, batch: list[Entry]) -> None:
        """2. `batch` is taken behind what the log has up to it."""
        if self._ready is not None:
            self._ready()
        stop = first if batch else None
        if self._first or self.next < (self._head if stop is None else stop):
            self._read_log(stop)
            self._first = False
        skip = self.next - first
        self._take(batch[skip:] if skip >= 0 else [])

    def _read_log(self, stop: int | None) -> None:
        """Takes what the log shows, up to `stop`."""
        most, most_bytes = self._follower.batch, self._follower.batch_bytes
        taken: list[Entry] = []
        size = 0
        for item in self._entries.read(self.next, stop):
            taken.append(item)
            size += len(item[1])
            if len(taken) == most or size > most_bytes:
                self._take(taken)
                taken, size = [], 0
                if self.stopping:
                    return
        self._take(taken)

    def _open(self) -> sqlite3.Connection:
        """The file of this log: one of another log or layout, or a broken one, is begun anew."""
        try:
            database = self._connect()
        except StoreFailed as error:
            return self._anew(str(error))
        try:
            found: tuple[int, int, bytes] | None = database.execute(_POSITION).fetchone()
        except sqlite3.DatabaseError as wrong:
            database.close()
            return self._anew(str(wrong))
        if found is None:
            return database
        layout, seq, digest = found
        read = self._entries.read(seq, seq + 1) if layout == self._follower.layout else ()
        if [hashlib.sha256(entry).digest() for _, entry in read] != [digest]:
            database.close()
            return self._anew(f"{self._path} is of another log or version")
        self.next = self._head = seq + 1
        return database

    def _anew(self, why: str) -> sqlite3.Connection:
        _log.warning("%s is begun anew: %s", self._follower.name, why)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        return connect(self._path, self._follower.schema + POSITION_TABLE, durable=False)

    # Questions, in their thread.

    def _here(self, target: int) -> bool:
        return self.next >= target and not self._first

    def _check(self) -> None:
        if self.failed:
            raise StoreFailed(f"{self._path} cannot be written: {self.failed}")
        answers(self._databases[1], self._path, self._follower.alive, write=False)


def set_position(database: sqlite3.Connection, layout: int, seq: int, entry: bytes) -> None:
    """Everything up to this entry is in the file: within the transaction that puts it there."""
    database.execute(_SET_POSITION, (layout, seq, hashlib.sha256(entry).digest()))


def _size(entries: list[Entry]) -> int:
    size = 0
    for _, entry in entries:
        size += len(entry)
    return size
