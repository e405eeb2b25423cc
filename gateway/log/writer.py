"""The sequencer: one order for all records, durable by group commit, at a few microseconds on the event loop.

The states are volatile, sequenced, integrated, published. What holds:
1. `submit` gives the next seq and the canonical bytes in the caller's thread, the event loop's; nothing waits there.
2. A writer thread commits what gathered: one frame, one synced write, one wake-up of the loop for all who wait
   (committer.py). It is told to when somebody waits and two turns of the loop brought no further record, so at once
   when nothing else goes on, and under load after two milliseconds at most. What nobody waits for joins the next
   commit, at the latest after ten. A second thread makes tiles (integrator.py).
3. `sequenced` returns only after that write. What was not durable is never acknowledged.
4. A write that fails makes the log unavailable: whoever waits is refused and its record is dropped as if it had never
   been; what nobody waits for (outcomes, above all) is kept and written with the next free seqs when the disk takes
   writes again. So seq stays contiguous and no forwarded call loses its outcome.
5. Memory is bounded: beyond so many records or bytes on their way to the tiles, `submit` refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from gateway.core.canonical import Json
from gateway.core.drawing import Drawn
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.reasons import LogUnavailable, Malformed
from gateway.log.committer import INTENT, OTHER, TERMINAL, Committer, Item
from gateway.log.crash import CrashPoint
from gateway.log.disk import Disk, RealDisk, lock_directory
from gateway.log.entry import Blobs, encode, fit
from gateway.log.integrator import Integrator, Listener
from gateway.log.journal import SEGMENT_BYTES
from gateway.log.note import Checkpoint, LogKeys, NoteKey
from gateway.log.recovery import Opening, open_log, prepare_data_dir
from gateway.log.tlog import ENTRY_BYTES

_log = logging.getLogger("tollgate.log")

_GATHER_SECONDS = 0.002  # what a waiting call may lose to those that come behind it
_QUIET_TURNS = 2  # what was read in one turn of the loop reaches `submit` in the next
BLOB_BYTES = 256 * 1024  # what the capture of one record may come to, for counting those that wait
_LAZY_SECONDS = 0.01  # what an outcome may wait for a commit that somebody waits for

_KINDS = {
    "intent": INTENT,
    "outcome": TERMINAL,
    "refusal": TERMINAL,
    "admin": OTHER,
    "activation": OTHER,
    "recovery": OTHER,
}
_OF_AN_EXCHANGE = frozenset({"intent", "outcome"})


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`checkpoint_*`: whichever comes first. `queue_*`: records not yet durable, bytes not yet in tiles."""

    checkpoint_records: int = 1000
    checkpoint_seconds: float = 1.0
    queue_records: int = 16_384
    queue_bytes: int = 64 * 1024 * 1024
    segment_bytes: int = SEGMENT_BYTES


class _Held(NamedTuple):
    """What waits for the disk to come back. `seq` is what `submit` had given it, -1 if it came meanwhile."""

    seq: int
    item: Item
    blobs: Blobs


class Sequencer:
    """Implements `RecordLog`. The constructor takes the directory's lock and recovers it, which may take a moment.

    Raises DataDirLocked, OriginMismatch, LogDamaged, JournalDamaged, OSError. `submit` and `sequenced` belong to the
    thread of the loop that `start` was given. `listener` gets committed (seq, entry) pairs and `observe_append` the
    seconds of each commit, both in threads of the log. `key` may be one key, for a log that never had another.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        node: str,
        key: LogKeys | NoteKey,
        clock: Clock,
        ids: Ids,
        settings: LogSettings | None = None,
        listener: Listener | None = None,
        observe_append: Callable[[float], None] = lambda seconds: None,
        disk: Disk | None = None,
        crash_point: CrashPoint = lambda name: None,
    ) -> None:
        settings = settings or LogSettings()
        disk = disk or RealDisk()
        keys = key if isinstance(key, LogKeys) else LogKeys((key,))
        prepare_data_dir(data_dir)
        self._lock = lock_directory(data_dir)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._lock)
            opened = open_log(data_dir, Opening(node, keys, disk, clock, ids, settings.segment_bytes, crash_point))
            undo.pop_all()
        self._node = node
        self._node_member = b'"node":%s,' % orjson.dumps(node)
        self._clock = clock
        self._queue_records = settings.queue_records
        self._queue_bytes = settings.queue_bytes
        self._journal = opened.journal
        self._integrator = Integrator(
            opened.tiles,
            opened.journal,
            opened.checkpoint,
            every_records=settings.checkpoint_records,
            every_seconds=settings.checkpoint_seconds,
            listener=listener,
            clock=clock,
            crash_point=crash_point,
        )
        self._next = opened.tiles.size
        self._committer = Committer(
            opened.journal, self._integrator, disk, data_dir / "log", self._next, clock, observe_append, crash_point
        )
        self._accepted = 0  # bytes since the start
        self._held: list[_Held] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = self._timed = self._gathering = False
        self._quiet = self._gathered = 0
        self._gather_until = 0.0
        self.vkey = str(keys.current(node))
        self.recovery = opened.recovery

    def submit(self, record: dict[str, Json] | Drawn, *, plain: bool = False, promised: bool = False) -> int:
        """Completes the record with `v`, `seq`, `node`, queues it and returns its seq. `plain` as in `encode`;
        `promised`: whoever has it counts on it already (log/remote.py), so it is taken as an outcome is.

        Raises LogUnavailable; Malformed for a record that has no entry (a fault of the caller's). While the log is down
        or the queue is full outcomes are still taken: their calls are over and must not stay open.
        """
        if isinstance(record, Drawn):
            return self._submit_drawn(record, promised)
        kind = _KINDS.get(record.get("kind"))  # type: ignore[arg-type]
        exchange = record.get("exchange", "")
        if kind is None or type(exchange) is not str or (not exchange and record["kind"] in _OF_AN_EXCHANGE):
            raise Malformed(f"a record of kind {record.get('kind')!r} with exchange {exchange!r}")
        if self._committer.down is not None or self._closing:
            return self._hold(record, kind, exchange)
        if record["kind"] != "outcome":
            self._room()
        record["v"] = 1
        record["seq"] = self._next
        record["node"] = self._node
        entry = encode(record, plain=plain)
        if len(entry) > ENTRY_BYTES:
            return self._queue(*fit(record), kind, exchange)
        return self._queue(entry, (), kind, exchange)

    def _submit_drawn(self, drawn: Drawn, promised: bool) -> int:
        """The bytes are the record's canonical form already, but for what is the sequencer's to say."""
        kind = _KINDS[drawn.kind]
        if self._committer.down is not None or self._closing:
            return self._hold(drawn.record(), kind, drawn.exchange, promised)
        if not promised and drawn.kind != "outcome":
            self._room()
        form = b'%s%s%s,"seq":%d%s' if drawn.middle else b'%s%s%s"seq":%d%s'
        entry = form % (drawn.before, self._node_member, drawn.middle, self._next, drawn.after)
        if len(entry) > ENTRY_BYTES:
            return self._queue(*fit(orjson.loads(entry)), kind, drawn.exchange)
        return self._queue(entry, (), kind, drawn.exchange)

    def _room(self) -> None:
        """Rule 5. Outcomes are not asked: of these there are no more than calls that were let through."""
        if (
            self._next - self._committer.durable >= self._queue_records
            or self._accepted - self._integrator.bytes > self._queue_bytes
            or len(self._committer.blobs) * BLOB_BYTES > self._queue_bytes
        ):
            raise LogUnavailable("more records are waiting to be written than the queue holds")

    def _queue(self, entry: bytes, blobs: Blobs, kind: int, exchange: str) -> int:
        seq = self._next
        if blobs:
            self._committer.blobs[seq] = blobs
        self._next = seq + 1
        self._accepted += len(entry)
        self._committer.queue.append((entry, kind, exchange))
        if not self._timed and self._loop is not None:
            self._timed = True
            self._loop.call_later(_LAZY_SECONDS, self._lazily)
        return seq

    async def sequenced(self, seq: int) -> None:
        """Returns when the entry of `seq` is durable. Raises LogUnavailable: then it is not in the log.

        To be called in the same step of the loop as `submit`: what nobody waits for is kept when a write fails.
        """
        if seq >= self._committer.durable:
            await self.durable(seq)

    def durable(self, seq: int) -> asyncio.Future[None]:
        """What `sequenced` waits for, of an entry that is not durable yet. Raises LogUnavailable."""
        committer = self._committer
        if seq >= self._next or (committer.down is not None and committer.failure_taken.is_set()):
            self._held = [held for held in self._held if held.seq != seq]
            raise LogUnavailable(committer.down or f"entry {seq} was not submitted")
        if self._loop is None:
            raise LogUnavailable("the log is not started")
        future = self._loop.create_future()
        committer.waited_for.append((seq, future))
        if seq < committer.durable:
            self.committed()  # it became durable before the writer could see that somebody waits
        elif not self._gathering:
            self._gathering = True
            self._quiet = 0
            self._gathered = self._next
            self._gather_until = self._clock.monotonic() + _GATHER_SECONDS
            self._loop.call_soon(self._gather)
        return future

    def _gather(self) -> None:
        """Rule 2: once per turn of the loop while somebody waits and more comes."""
        self._quiet = self._quiet + 1 if self._gathered == self._next else 0
        self._gathered = self._next
        if self._loop is None or self._quiet == _QUIET_TURNS or self._clock.monotonic() >= self._gather_until:
            self._gathering = False
            self._committer.flush()
        else:
            self._loop.call_soon(self._gather)

    def _lazily(self) -> None:
        self._timed = False
        if self._committer.queue and not self._gathering:
            self._committer.flush()

    # Called in the loop by the committer

    def committed(self) -> None:
        """Wakes who waits for what is durable."""
        durable, waiting = self._committer.durable, self._committer.waited_for
        while waiting and waiting[0][0] < durable:
            future = waiting.popleft()[1]
            if not future.done():
                future.set_result(None)

    def failed(self, batch: list[Item]) -> None:
        """Rule 4: refuses who waits, keeps what nobody waits for."""
        committer = self._committer
        refused = self._refuse(committer.down or "the audit log cannot be written")
        lost = [*batch, *committer.queue]
        committer.queue.clear()
        kept = []
        for seq, item in enumerate(lost, committer.durable):
            self._accepted -= len(item[0])
            blobs = committer.blobs.pop(seq, ())
            if seq not in refused:
                kept.append(_Held(seq, item, blobs))
        self._held = kept + self._held
        self._next = committer.durable
        committer.failure_taken.set()

    def resumed(self) -> None:
        """Rule 4: what was kept gets the next free seqs."""
        committer = self._committer
        held, self._held = self._held, []
        for _, (old, kind, exchange), blobs in held:
            record = orjson.loads(old)
            seq = record["seq"] = self._next
            entry = encode(record)
            if blobs:
                committer.blobs[seq] = blobs
            self._next = seq + 1
            self._accepted += len(entry)
            committer.queue.append((entry, kind, exchange))
        committer.down = None
        committer.resumed.set()
        committer.flush()

    def _refuse(self, text: str) -> set[int]:
        refused = set()
        for seq, future in self._committer.waited_for:
            if not future.done():
                future.set_exception(LogUnavailable(text))
                refused.add(seq)
        self._committer.waited_for.clear()
        return refused

    def _hold(self, record: dict[str, Json], kind: int, exchange: str, promised: bool = False) -> int:
        """A record that comes while the log is down: outcomes are kept, in bounds."""
        if self._closing:
            raise LogUnavailable("the log is closed")
        if (record["kind"] != "outcome" and not promised) or len(self._held) >= self._queue_records:
            raise LogUnavailable(self._committer.down or "the audit log cannot be written")
        seq = self._next + len(self._held)  # as things stand; nobody can wait for it
        record["v"] = 1
        record["seq"] = seq
        record["node"] = self._node
        entry = encode(record)
        blobs: Blobs = ()
        if len(entry) > ENTRY_BYTES:
            entry, blobs = fit(record)
        self._held.append(_Held(-1, (entry, kind, exchange), blobs))
        return seq

    # Life and facts

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to commit. Records submitted before wait until now."""
        self._loop = loop
        self._committer.start(loop, self)
        self._committer.flush()

    async def close(self) -> None:
        """Writes what was submitted, publishes a last checkpoint, releases the directory. Idempotent."""
        if self._closing:
            return
        self._closing = True
        if self._loop is not None:
            await asyncio.to_thread(self._committer.close)
            self.committed()
        self._refuse("the log was closed")
        if self._held:
            _log.error("%d outcomes could not be written; the next start records them as unknown", len(self._held))
        self._journal.close()
        os.close(self._lock)

    async def rekey(self, keys: LogKeys) -> None:
        """Signs with these keys from now on. Returns when a checkpoint is published that they signed; if that cannot
        be (LogUnavailable), the next one that can be is signed by them."""
        self._integrator.rekey(keys)
        self.vkey = str(keys.current(self._node))
        await self.checkpoint()

    async def checkpoint(self) -> Checkpoint:
        """A checkpoint over everything that is durable now. Raises LogUnavailable."""
        wanted = self._committer.durable
        while True:
            found = await self._ask()
            if found is None:
                raise LogUnavailable("the log directory cannot be written")
            if found.size >= wanted:  # what is durable reaches the integrator a moment later
                return found

    async def _ask(self) -> Checkpoint | None:
        loop = self._loop
        if self._closing or loop is None:
            return None
        future: asyncio.Future[Checkpoint | None] = loop.create_future()

        def answer(found: Checkpoint | None) -> None:
            if not future.done():
                future.set_result(found)

        def asked(found: Checkpoint | None) -> None:
            loop.call_soon_threadsafe(answer, found)

        self._integrator.ask(asked)
        return await future

    @property
    def healthy(self) -> bool:
        """Whether a record submitted now can become durable, as far as is known."""
        return self._committer.down is None and not self._closing and self._committer.alive

    @property
    def refusing(self) -> str:
        """Why `submit` would take no intent now; "" where it would."""
        if self._committer.down is not None or self._closing:
            return self._committer.down or "the log is closed"
        try:
            self._room()
        except LogUnavailable as error:
            return str(error)
        return ""

    @property
    def size(self) -> int:
        """Durable records."""
        return self._committer.durable

    @property
    def unsequenced(self) -> int:
        """Records submitted and not yet durable."""
        return self._next - self._committer.durable

    @property
    def published(self) -> Checkpoint:
        """The last checkpoint."""
        return self._integrator.checkpoint

    @property
    def pending(self) -> int:
        """Durable records that no checkpoint covers yet."""
        return self._committer.durable - self._integrator.checkpoint.size

    @property
    def checkpoint_age(self) -> float:
        """Seconds since the last checkpoint was published, or since the start."""
        return self._clock.monotonic() - self._integrator.published_at
