"""The sequencer's journal: where an entry becomes durable, before it is integrated into tiles.

A few files of fixed size, written with zeros ahead of time and reused in turn, so that a commit is one write into
blocks that exist. What is durable when:
1. A batch is one frame, checksummed, on a 512-byte border, written and synced in one step: it is there whole or not.
2. Batches follow one another; a frame that is not whole is the end (a torn tail). A whole frame of a later seq behind
   it means that durable entries were damaged: `JournalDamaged`, never silently cut.
3. A segment begins with a head: generation, the first seq, and the exchanges open at that seq. The newest generation
   wins: frames of an older segment at or behind its first seq were never acknowledged and do not count.
4. A segment is reused only when a durable checkpoint covers all of it.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.core.reasons import Malformed
from gateway.log.disk import Disk
from gateway.log.tlog import bundle, unbundle

# magic, kind, first seq, count of entries (head: generation), payload bytes, CRC-32 of all before it and the payload
_FRAME = struct.Struct("<4sBQIII")
_CHECKED = struct.Struct("<4sBQII")
_MAGIC = b"TGJ1"
_HEAD, _BATCH = 1, 2
_ALIGN = 512  # a sector: a batch that dies takes no part of another with it

_NEAR = 1 << 24  # more entries than a segment can hold: a number beyond is no frame of ours

SEGMENT_BYTES = 4 * 1024 * 1024


class JournalDamaged(Exception):
    """Entries that were durable cannot be read back; `args[0]` says which file and seq. Nothing was changed."""


def frame(kind: int, first: int, count: int, payload: bytes) -> bytes:
    head = _CHECKED.pack(_MAGIC, kind, first, count, len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(head))
    data = b"".join((head, checksum.to_bytes(4, "little"), payload))
    return data + bytes(-len(data) % _ALIGN)


def _read_frame(data: bytes, at: int) -> tuple[int, int, int, bytes] | None:
    """Kind, first, count and payload of a whole frame at `at`, else None."""
    if at + _FRAME.size > len(data) or data[at : at + 4] != _MAGIC:
        return None
    _, kind, first, count, length, checksum = _FRAME.unpack_from(data, at)
    start = at + _FRAME.size
    if start + length > len(data):
        return None
    payload = data[start : start + length]
    if zlib.crc32(payload, zlib.crc32(data[at : at + _CHECKED.size])) != checksum:
        return None
    return kind, first, count, payload


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment file holds. `lost` is a seq that is known to have been durable but cannot be read."""

    path: Path
    generation: int
    first: int
    open: Mapping[str, int]
    entries: Sequence[bytes]
    torn: bool
    lost: int | None

    @property
    def end(self) -> int:
        return self.first + len(self.entries)


def scan(path: Path, data: bytes) -> Segment | None:
    """Reads a segment as far as it is whole; None for one that was never begun."""
    head = _read_frame(data, 0)
    if head is None or head[0] != _HEAD:
        return None
    _, first, generation, payload = head
    open_at = _open_at(path, payload)
    at = _next(0, len(payload))
    entries: list[bytes] = []
    while (found := _read_frame(data, at)) is not None:
        kind, start, count, payload = found
        if kind != _BATCH or start != first + len(entries):
            break
        try:
            batch = unbundle(payload)
        except Malformed as error:
            raise JournalDamaged(f"{path}: entry {start}: {error}") from None
        if len(batch) != count:
            raise JournalDamaged(f"{path}: entry {start}: {count} entries were announced, {len(batch)} are there")
        entries += batch
        at = _next(at, len(payload))
    expected = first + len(entries)
    torn = data[at : at + 4] == _MAGIC and _FRAME.size <= len(data) - at and _starts_at(data, at) == expected
    lost = None
    for later in range(at + _ALIGN, len(data), _ALIGN):  # 2
        if data[later : later + 4] == _MAGIC:
            found = _read_frame(data, later)
            if found is not None and found[0] == _BATCH and expected <= found[1] < expected + _NEAR:
                lost = expected
                break
    return Segment(path, generation, first, open_at, entries, torn, lost)


def _open_at(path: Path, payload: bytes) -> dict[str, int]:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        value = None
    found = value.get("open") if isinstance(value, dict) else None
    if not isinstance(found, dict) or not all(isinstance(seq, int) for seq in found.values()):
        raise JournalDamaged(f"{path}: its head does not say which exchanges were open")
    return found


def _next(at: int, length: int) -> int:
    return at + -(-(_FRAME.size + length) // _ALIGN) * _ALIGN


def _starts_at(data: bytes, at: int) -> int:
    first: int = _FRAME.unpack_from(data, at)[2]
    return first


@dataclass(frozen=True, slots=True)
class Replay:
    """The journal's contents: `entries` begin at seq `start`; `open` are the exchanges open at `open_from`."""

    start: int
    entries: Sequence[bytes]
    open: Mapping[str, int]
    open_from: int
    generation: int
    newest: Path | None
    torn: bool

    @property
    def end(self) -> int:
        return self.start + len(self.entries)


def replay(directory: Path, size: int) -> Replay:
    """All entries from `size` (or earlier) on, of all segments in order. Raises JournalDamaged."""
    found = [scan(path, path.read_bytes()) for path in segment_paths(directory)]
    segments = sorted((item for item in found if item is not None), key=lambda item: item.generation)
    if not segments:
        return Replay(size, (), {}, size, 0, None, False)
    newest = segments[-1]
    start, entries = newest.first, list(newest.entries)
    _check(newest, None, size)
    for segment, after in zip(segments[-2::-1], segments[:0:-1], strict=True):
        if start <= size:
            break
        usable = segment.entries[: after.first - segment.first]
        _check(segment, after.first, size)
        if segment.first > after.first or segment.first + len(usable) != start:
            break  # rule 3 holds the pieces together; a gap is told below
        start, entries = segment.first, [*usable, *entries]
    if start > size:
        raise JournalDamaged(f"{directory}: entries {size} to {start - 1} are neither in tiles nor in the journal")
    return Replay(start, entries, newest.open, newest.first, newest.generation, newest.path, newest.torn)


def _check(segment: Segment, end: int | None, size: int) -> None:
    lost = segment.lost
    if lost is not None and lost >= size and (end is None or lost < end):
        raise JournalDamaged(f"{segment.path}: entry {lost} was durable and cannot be read any more")


def segment_paths(directory: Path) -> list[Path]:
    return sorted(directory.glob("segment-*"))


@dataclass(slots=True)
class _Active:
    path: Path
    fd: int
    at: int
    end: int = 0  # the seq behind its last entry


class Journal:
    """Writes segments. `append` and `renew` belong to the writer's thread, `recycle` to the integrator's."""

    def __init__(self, directory: Path, disk: Disk, segment_bytes: int, found: Replay) -> None:
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._generation = found.generation
        self._active: _Active | None = None
        self._spares: deque[tuple[Path, int]] = deque()
        self._retired: deque[_Active] = deque()
        self._numbers = 0
        self._preparing = threading.Lock()  # either thread may need a spare
        for path in segment_paths(directory):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if path == found.newest:
                self._retired.append(_Active(path, fd, 0, found.end))  # kept until what follows it is durable
            else:
                self._spares.append((path, fd))

    def append(self, first: int, entries: Sequence[bytes], open_at: Mapping[str, int]) -> None:
        """One durable batch; `open_at` are the exchanges open before it. Raises OSError: then nothing counts."""
        data = frame(_BATCH, first, len(entries), bundle(entries))
        active = self._active
        if active is None or (active.at + len(data) > self._segment_bytes and self._spares):
            self._begin(first, open_at, data)
        else:  # without a spare the segment grows: slower, not wrong
            self._disk.append(active.fd, data, active.at)
            active.at += len(data)
        if self._active is not None:
            self._active.end = first + len(entries)

    def renew(self, first: int, open_at: Mapping[str, int]) -> None:
        """After a failure: a new segment, its head durable, which proves that the disk takes writes again."""
        self._begin(first, open_at, b"")

    def _begin(self, first: int, open_at: Mapping[str, int], data: bytes) -> None:
        if not self._spares:
            self.prepare()
        path, fd = self._spares.popleft()
        self._generation += 1
        head = frame(_HEAD, first, self._generation, orjson.dumps({"open": dict(open_at)}))
        try:
            self._disk.append(fd, head + data, 0)
        except OSError:
            self._spares.append((path, fd))
            raise
        if self._active is not None:
            self._active.end = first
            self._retired.append(self._active)
        self._active = _Active(path, fd, len(head) + len(data), first)

    @property
    def short(self) -> bool:
        """Whether there is no next segment: the one in use would grow."""
        return not self._spares

    def prepare(self) -> None:
        """Makes sure that the next segment is there. Raises OSError."""
        with self._preparing:
            if self._spares:
                return
            while (path := self._directory / f"segment-{self._numbers:03d}").exists():
                self._numbers += 1
            fd = self._disk.allocate(path, self._segment_bytes)
            self._disk.sync_dir(self._directory)
            self._spares.append((path, fd))

    def recycle(self, size: int) -> None:
        """Rule 4: what lies below a durable checkpoint of `size` is free."""
        while self._retired and self._retired[0].end <= size:
            freed = self._retired.popleft()
            if len(self._spares) > 1:
                os.close(freed.fd)
                freed.path.unlink()
                continue
            os.ftruncate(freed.fd, self._segment_bytes)
            self._spares.append((freed.path, freed.fd))

    def close(self) -> None:
        active = [self._active] if self._active is not None else []
        for fd in [item.fd for item in (*active, *self._retired)] + [fd for _, fd in self._spares]:
            os.close(fd)
        self._active = None
        self._spares.clear()
        self._retired.clear()
