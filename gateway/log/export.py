"""Takes things out of a log directory so that they can be judged elsewhere: rows, proofs, a tail, a whole copy.

Reads files only, beside a running gateway or after it. An export is JSON lines: the first has the signed checkpoint and
the range, each further one a record with its `seq`, its leaf hash and its inclusion proof, so that any single row can
be verified alone (verify.py does, without this file). What no checkpoint covers yet is shown by `tail` only, marked.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.core.canonical import Json
from gateway.log import tlog
from gateway.log.disk import RealDisk, make_directory
from gateway.log.journal import JournalDamaged, replay
from gateway.log.note import Checkpoint, Note, Proof
from gateway.log.tiles import LogFiles
from gateway.log.tlog import ENTRIES, TILE_WIDTH, inclusion_proof, leaf_hash, tile_path, tile_width

Select = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A checkpoint that everything taken out is proved against. `note` is the signed text, unverified here."""

    note: bytes
    checkpoint: Checkpoint

    def record(self) -> dict[str, Json]:
        found = self.checkpoint
        root = base64.b64encode(found.root).decode()
        return {"origin": found.origin, "size": found.size, "root": root, "checkpoint": self.note.decode()}


@dataclass(frozen=True, slots=True)
class Proven:
    """One entry and why it is in the log."""

    seq: int
    entry: bytes
    leaf: bytes
    proof: Proof

    @property
    def text(self) -> str:
        """The c2sp.org/tlog-proof@v1."""
        return str(self.proof)

    def record(self) -> dict[str, Json]:
        return {
            "seq": self.seq,
            "leaf": base64.b64encode(self.leaf).decode(),
            "record": orjson.loads(self.entry),
            "proof": [base64.b64encode(item).decode() for item in self.proof.hashes],
            "checkpoint": self.proof.checkpoint.decode(),
            "tlog_proof": self.text,
        }


@dataclass(frozen=True, slots=True)
class Tailed:
    """One entry as `tail` shows it. `published`: a checkpoint covers it."""

    seq: int
    entry: bytes
    published: bool

    def record(self) -> dict[str, Json]:
        found: dict[str, Json] = orjson.loads(self.entry)
        return found


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup took."""

    target: str
    size: int
    files: int
    bytes: int

    def record(self) -> dict[str, Json]:
        return {"target": self.target, "size": self.size, "files": self.files, "bytes": self.bytes}


def pin(directory: Path) -> Pinned:
    """The checkpoint of `<data_dir>/log` now. Raises FileNotFoundError, Malformed."""
    note = LogFiles(directory).checkpoint()
    return Pinned(note, Checkpoint.parse(Note.parse(note).text))


def entries(directory: Path, pinned: Pinned, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(seq, entry) of the range, as far as the pinned checkpoint reaches."""
    size = pinned.checkpoint.size
    end = size if stop is None else min(stop, size)
    files = LogFiles(directory)
    while start < end:
        n, skip = divmod(start, TILE_WIDTH)
        for entry in files.entries(n, tile_width(0, n, size))[skip : skip + end - start]:
            yield start, entry
            start += 1


def prove(directory: Path, seq: int, *, pinned: Pinned | None = None, extra: bytes = b"") -> Proven:
    """An entry with its inclusion proof. Raises Malformed where the checkpoint does not cover it (yet)."""
    pinned = pinned or pin(directory)
    size = pinned.checkpoint.size
    hashes = inclusion_proof(LogFiles(directory).reader(size), seq, size)
    (_, entry) = next(entries(directory, pinned, seq, seq + 1))
    return Proven(seq, entry, leaf_hash(entry), Proof(seq, tuple(hashes), pinned.note, extra))


def grow(directory: Path, old: int, *, pinned: Pinned | None = None) -> list[bytes]:
    """The consistency proof from a tree of `old` entries to the pinned checkpoint, as a witness asks for it."""
    size = (pinned or pin(directory)).checkpoint.size
    return tlog.consistency_proof(LogFiles(directory).reader(size), old, size)


def export(
    directory: Path,
    start: int = 0,
    stop: int | None = None,
    *,
    select: Select | None = None,
    pinned: Pinned | None = None,
) -> Iterator[bytes]:
    """The lines of an export, each with its newline. With `select` it is a choice of rows and says so."""
    pinned = pinned or pin(directory)
    size = pinned.checkpoint.size
    end = size if stop is None else min(stop, size)
    head = {"format": "tollgate-export/1", "from": min(start, end), "to": end, "complete": select is None}
    yield orjson.dumps({**head, **pinned.record()}, option=orjson.OPT_SORT_KEYS) + b"\n"
    reader = LogFiles(directory).reader(size)
    known: dict[tuple[int, int], bytes] = {}  # neighbours share most of their proofs
    for seq, entry in entries(directory, pinned, start, end):
        if len(known) > 65_536:
            known.clear()
        if select is not None and not select(orjson.loads(entry)):
            continue
        proof = [base64.b64encode(item).decode() for item in inclusion_proof(reader, seq, size, known)]
        row = {"leaf": base64.b64encode(leaf_hash(entry)).decode(), "proof": proof, "record": orjson.Fragment(entry)}
        yield orjson.dumps({**row, "seq": seq}) + b"\n"


def tail(directory: Path, start: int) -> Iterator[Tailed]:
    """Entries from `start` on, the journal's durable ones too; ends at the end: call again to follow."""
    pinned = pin(directory)
    for seq, entry in entries(directory, pinned, start):
        yield Tailed(seq, entry, True)
    size = pinned.checkpoint.size
    journal = directory.parent / "journal"
    if not journal.is_dir():
        return
    try:
        found = replay(journal, size)
    except (JournalDamaged, FileNotFoundError):
        return  # reused under our eyes: a newer checkpoint covers it by now
    for seq, entry in enumerate(found.entries, found.start):
        if seq >= max(size, start):
            yield Tailed(seq, entry, False)


def last(directory: Path, count: int) -> int:
    """The seq to start from to see the last `count` published entries."""
    return max(0, pin(directory).checkpoint.size - count)


def backup(directory: Path, target: Path) -> Copied:
    """A consistent copy of the log directory as of its checkpoint, which is copied last. `target` must not exist.

    Files of the log never change their content, so copying what the checkpoint needs is enough, while the gateway runs.
    """
    pinned = pin(directory)
    target.mkdir(parents=True)
    disk, scratch = RealDisk(), target / ".new"
    directories: set[Path] = {target}
    count = total = 0

    def put(path: str, data: bytes) -> None:
        nonlocal count, total
        destination = target / path
        make_directory(disk, destination.parent, target)
        disk.replace(destination, data, scratch)
        directories.add(destination.parent)
        count, total = count + 1, total + len(data)

    for path, data in _needed(directory, pinned.checkpoint.size):
        put(path, data)
    for item in directories:
        disk.sync_dir(item)
    put("checkpoint", pinned.note)
    disk.sync_dir(target)
    return Copied(str(target), pinned.checkpoint.size, count, total)


def _needed(directory: Path, size: int) -> Iterator[tuple[str, bytes]]:
    """Everything but the checkpoint that a tree of `size` consists of."""
    files = LogFiles(directory)
    level = 0
    while (hashes := size >> (8 * level)) > 0:
        for n in range(-(-hashes // TILE_WIDTH)):
            width = tile_width(level, n, size)
            yield tile_path(level, n, width), files.tile(level, n, width)
            if level == 0:
                yield tile_path(ENTRIES, n, width), tlog.bundle(files.entries(n, width))
        level += 1
    for name in ("origin", "vkey"):
        path = directory / name
        if path.exists():
            yield name, path.read_bytes()
    for path in sorted((directory / "blob").glob("*")):
        yield f"blob/{path.name}", path.read_bytes()
