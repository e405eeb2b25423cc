"""The writer's thread: takes what gathered, makes it durable in one synced write, wakes who waits.

Between it and the event loop there is no lock: single reads, writes and deque operations are atomic under the
interpreter's.
1. It commits when the loop says so; what comes during a commit is the next batch.
2. A commit's order is blobs, journal, then acknowledgement, then integration.
3. When a write fails it hands the batch back to the loop and waits until a new segment proves that the disk takes
   writes again; nothing is acknowledged in between.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from gateway.core.ports import Clock
from gateway.log.crash import CrashPoint
from gateway.log.disk import Disk, make_directory
from gateway.log.entry import Blobs
from gateway.log.integrator import Integrator
from gateway.log.journal import Journal

_log = logging.getLogger("tollgate.log")

OTHER, INTENT, TERMINAL = 0, 1, 2
Item: TypeAlias = "tuple[bytes, int, str]"
"""An entry, what its record does to its exchange, and the exchange."""

_BATCH_RECORDS = 2048  # a commit stays short, so that nobody waits for somebody else's flood
_RETRY_SECONDS = 0.25


class Owner(Protocol):
    """The loop's side: called there, never from the writer's thread."""

    def committed(self) -> None: ...

    def failed(self, batch: list[Item]) -> None: ...

    def resumed(self) -> None: ...


class Committer:
    """`queue`, `blobs`, `durable`, `down` and `waited_for` are shared; `flush` and `close` are the loop's."""

    def __init__(
        self,
        journal: Journal,
        integrator: Integrator,
        disk: Disk,
        log_dir: Path,
        durable: int,
        clock: Clock,
        observe: Callable[[float], None],
        crash_point: CrashPoint,
    ) -> None:
        self._journal = journal
        self._integrator = integrator
        self._disk = disk
        self._log_dir = log_dir
        self._clock = clock
        self._observe = observe
        self._crash_point = crash_point
        self._open: dict[str, int] = {}
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: Owner | None = None
        self._closing = False
        self._told = False
        self.queue: deque[Item] = deque()
        self.blobs: dict[int, Blobs] = {}
        self.durable = durable  # the seq behind the last durable entry
        self.down: str | None = None
        self.waited_for: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.failure_taken = threading.Event()
        self.resumed = threading.Event()
        self._worker = threading.Thread(target=self._run, name="tollgate-log-commit", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._integrator.start()
        self._worker.start()

    @property
    def alive(self) -> bool:
        return self._worker.is_alive()

    def flush(self) -> None:
        """Commits what is queued now, as soon as a commit under way is done; several of these are one."""
        if not self._told:
            self._told = True
            self._tokens.put(None)

    def close(self) -> None:
        """Ends when everything is written; returns when both threads have ended."""
        self._closing = True
        self._tokens.put(None)
        self._worker.join()

    def _run(self) -> None:
        while not (self._closing and not self.queue):
            if not self._closing:
                self._tokens.get()
                self._told = False  # before the queue is looked at: what comes now tells again
            wanted = len(self.queue)
            while wanted > 0:
                batch = [self.queue.popleft() for _ in range(min(wanted, _BATCH_RECORDS))]
                wanted -= len(batch)
                try:
                    self._commit(batch)
                except Exception as error:  # noqa: BLE001 (background loop: whatever failed, nothing of it counts)
                    _log.error("the log cannot be written: %s", error)
                    if not self._repair(batch, error):
                        self._integrator.stop()
                        return
                    break  # what is queued now was queued anew
        self._integrator.stop()

    def _commit(self, batch: list[Item]) -> None:
        first = self.durable
        entries = [item[0] for item in batch]
        if self.blobs:
            self._write_blobs(first, first + len(batch))
        started = self._clock.monotonic()
        self._crash_point("journal.before_write")
        self._journal.append(first, entries, self._open)
        self._crash_point("journal.after_sync")
        self.durable = first + len(batch)
        if self.waited_for and self._owner is not None:
            self._call(self._owner.committed)
        self._crash_point("commit.after_wake")
        self._observe(self._clock.monotonic() - started)
        for seq, (_, kind, exchange) in enumerate(batch, first):
            if kind == INTENT:
                self._open[exchange] = seq
            elif kind == TERMINAL:
                self._open.pop(exchange, None)
        self._integrator.put(first, entries)

    def _write_blobs(self, first: int, end: int) -> None:
        """Durable before the entries that name them. A blob is named by its digest, so twice is once."""
        wanted = [seq for seq in list(self.blobs) if first <= seq < end]
        if not wanted:
            return
        directory = self._log_dir / "blob"
        make_directory(self._disk, directory, self._log_dir)
        for seq in wanted:
            for name, data in self.blobs[seq]:
                self._crash_point("blob.before_write")
                self._disk.replace(directory / name, data, self._log_dir / ".new-blob")
        self._disk.sync_dir(directory)
        self._crash_point("blob.after_write")
        for seq in wanted:
            del self.blobs[seq]

    def _call(self, what: Callable[..., None], *args: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            _log.warning("the event loop ended before the log was closed")

    def _repair(self, batch: list[Item], error: Exception) -> bool:
        """Rule 3; False when the log is closed first."""
        self.failure_taken.clear()
        self.resumed.clear()
        self.down = f"the audit log cannot be written: {error}"
        if self._owner is None:
            return False
        self._call(self._owner.failed, batch)
        if not self._until(self.failure_taken):
            return False
        while not self._closing:
            try:
                self._journal.renew(self.durable, self._open)
            except OSError as again:
                self.down = f"the audit log cannot be written: {again}"
                self._until(self.resumed, once=True)  # nobody sets it here: a pause that closing ends
                continue
            self._call(self._owner.resumed)
            if not self._until(self.resumed):
                return False
            _log.warning("the log can be written again, from entry %d on", self.durable)
            return True
        return False

    def _until(self, event: threading.Event, once: bool = False) -> bool:
        while not event.wait(_RETRY_SECONDS):
            if once or self._closing:
                return False
        return True
