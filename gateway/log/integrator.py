"""The second half of the sequencer, off the event loop: durable entries become tiles under signed checkpoints.

One thread owns the tree.
1. Entries come in journal order; none is lost when a step fails.
2. A checkpoint is published after so many records (up to 255 more) or seconds, or when asked for; what is not new is
   not written, but new keys sign at once.
3. A disk that fails is tried again every half second; the journal keeps everything meanwhile.
4. The listener (the query index) gets every entry in order, some time after it is durable; if it raises, it gets the
   same entries again.
It must never hold the interpreter for long: work is cut in slices and the event loop is let in between. It must not
wake often either: taking the interpreter from a busy event loop costs both more than a record, so all commits of a
while cost one wake-up.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from gateway.core.ports import Clock
from gateway.log.crash import CrashPoint
from gateway.log.journal import Journal
from gateway.log.note import Checkpoint, LogKeys
from gateway.log.tiles import TileLog
from gateway.log.tlog import TILE_WIDTH

_log = logging.getLogger("tollgate.log")

_SLICE = 256  # records, about half a millisecond of interpreter; slices end where tiles end
_PAUSE_SECONDS = 0.001  # between slices; less would take the interpreter back before the loop woke
_GATHER_SECONDS = 0.2  # after the first entry, so that more come with it: also how old the listener's view may get
_RETRY_SECONDS = 0.5
_UNDELIVERED = 65_536  # entries kept for a failing listener; beyond, the oldest are its own to fetch from the log

Listener = Callable[[list[tuple[int, bytes]]], None]
Asked = Callable[["Checkpoint | None"], None]


class Integrator:
    """`put`, `ask` and `stop` come from other threads; all else happens in this one."""

    def __init__(
        self,
        tiles: TileLog,
        journal: Journal,
        checkpoint: Checkpoint,
        *,
        every_records: int,
        every_seconds: float,
        listener: Listener | None,
        clock: Clock,
        crash_point: CrashPoint,
    ) -> None:
        self._tiles = tiles
        self._journal = journal
        self._every_records = every_records
        self._every_seconds = every_seconds
        self._listener = listener
        self._clock = clock
        self._crash_point = crash_point
        self._committed: deque[tuple[int, Sequence[bytes]]] = deque()
        self._entries: deque[bytes] = deque()  # collected, not yet in the tree
        self._asking: deque[Asked] = deque()
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle = False
        self._urged = False  # told to look after the journal before its time
        self._stopping = False
        self._rekeyed: LogKeys | None = None
        self._unsigned = False  # by the newest keys
        self._undelivered: deque[tuple[int, bytes]] = deque(maxlen=_UNDELIVERED)
        self._retry_at: float | None = None
        self.checkpoint = checkpoint
        self.published_at = clock.monotonic()
        self.bytes = 0  # of entries integrated since the start
        self._worker = threading.Thread(target=self._run, name="tollgate-log-integrate", daemon=True)

    def start(self) -> None:
        self._worker.start()

    def put(self, first: int, entries: Sequence[bytes]) -> None:
        """Entries that are durable."""
        self._committed.append((first, entries))
        if self._idle or (self._journal.short and not self._urged):
            self._idle = False
            self._urged = True
            self._tokens.put(None)

    def ask(self, done: Asked) -> None:
        """Calls `done` from this thread with a checkpoint over all that was put before, or None if it failed."""
        self._asking.append(done)
        self._tokens.put(None)

    def rekey(self, keys: LogKeys) -> None:
        """The next checkpoint is signed by these, and it is due whether or not anything is new."""
        self._rekeyed = keys
        self._tokens.put(None)

    def stop(self) -> None:
        """Drains, publishes a last checkpoint, ends; returns when it has ended."""
        self._stopping = True
        self._tokens.put(None)
        self._worker.join()

    def _run(self) -> None:
        while True:
            self._wait()
            stopping = self._stopping
            asked = [self._asking.popleft() for _ in range(len(self._asking))]
            done = self._step(stopping or bool(asked))
            for call in asked:
                call(self.checkpoint if done else None)
            if stopping and not (done and self._committed):
                return

    def _wait(self) -> None:
        """Until there is something to do; then a little longer, for more to gather."""
        if not self._committed:
            self._idle = True
            if not (self._committed or self._asking or self._stopping or self._rekeyed):
                self._sleep(self._patience())
            self._idle = False
        if self._committed and not (self._asking or self._stopping or self._journal.short):
            due = self._patience()
            self._sleep(_GATHER_SECONDS if due is None else min(due, _GATHER_SECONDS))

    def _sleep(self, seconds: float | None) -> None:
        try:
            self._tokens.get(timeout=seconds)
        except queue.Empty:
            return

    def _patience(self) -> float | None:
        """Seconds until something is due by itself; None if nothing ever is."""
        due = None
        if self._retry_at is not None:
            due = self._retry_at
        elif self._tiles.size != self.checkpoint.size:
            due = self.published_at + self._every_seconds
        return None if due is None else max(0.0, due - self._clock.monotonic())

    def _step(self, hurry: bool) -> bool:
        """Takes what is there and does what is due; False if the disk or the listener failed."""
        try:
            self._collect()
            self._integrate(hurry)
            now = self._clock.monotonic()
            if self._retry_at is not None and not hurry and now < self._retry_at:
                return False
            new = self._tiles.size - self.checkpoint.size
            rekeyed, self._rekeyed = self._rekeyed, None
            if rekeyed is not None:
                self._tiles.rekey(rekeyed)
                self._unsigned = True
            if self._unsigned or (new and (hurry or now >= self.published_at + self._every_seconds)):
                self._publish()
            if self._undelivered:
                self._deliver()
            self._journal.prepare()
        except OSError as error:
            _log.error("the log cannot be integrated, its journal keeps all: %s", error)
        except Exception:  # noqa: BLE001 (background loop)
            _log.exception("integrating the log failed")
        else:
            self._retry_at = None
            return True
        self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
        return False

    def _collect(self) -> None:
        self._urged = False
        for _ in range(len(self._committed)):
            first, entries = self._committed.popleft()
            self._entries.extend(entries)
            if self._listener is not None:
                self._undelivered.extend(enumerate(entries, first))

    def _integrate(self, hurry: bool) -> None:
        entries = self._entries
        while entries:
            fits = _SLICE - self._tiles.size % _SLICE
            part = [entries.popleft() for _ in range(min(fits, len(entries)))]
            self._tiles.add(part)
            self.bytes += sum(map(len, part))
            if entries and not hurry:
                time.sleep(_PAUSE_SECONDS)  # lets the event loop in
            if self._full() and self._retry_at is None:
                self._publish()

    def _full(self) -> bool:
        """So many records that a checkpoint is due, on the border of a tile if one comes soon: that saves the files of
        an unfinished tile, which cost more than all the rest."""
        new = self._tiles.size - self.checkpoint.size
        return new >= self._every_records and (
            self._tiles.size % TILE_WIDTH == 0 or new >= self._every_records + TILE_WIDTH
        )

    def _publish(self) -> None:
        self.checkpoint = self._tiles.publish()
        self._unsigned = False
        self.published_at = self._clock.monotonic()
        self._crash_point("journal.before_recycle")
        self._journal.recycle(self.checkpoint.size)

    def _deliver(self) -> None:
        if self._listener is not None:
            self._listener(list(self._undelivered))
        self._undelivered.clear()
