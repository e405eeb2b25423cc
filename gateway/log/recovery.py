"""What happens to a data directory before the sequencer takes its first record.

1. One process per directory; one origin for ever (contract, ruling 23).
2. Nothing is built on a directory whose checkpoint, right edge or journal was changed: refused, untouched.
3. Durable entries of the journal are integrated and a checkpoint covers them; a torn tail was never acknowledged and
   is dropped.
4. An intent without its terminal record gets an `outcome` with `result: unknown`, then one `recovery` record says what
   was done; these are durable, integrated and under a checkpoint before anybody is told that the log is ready.
Every step can be repeated: a crash during recovery is recovered from in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp
from gateway.log import journal as journals
from gateway.log.crash import CrashPoint
from gateway.log.disk import DIRECTORY_MODE, Disk, make_directory
from gateway.log.entry import encode
from gateway.log.journal import Journal, Replay
from gateway.log.note import Checkpoint, LogKeys, VerifierKey
from gateway.log.tiles import LogDamaged, LogFiles, TileLog, load
from gateway.log.tlog import TILE_WIDTH, Edge, tile_width

TERMINAL = ("outcome", "refusal")
_KEPT = ("route", "subject", "action", "resource", "upstream", "parent", "trace_id")  # what a closing record repeats


class OriginMismatch(Exception):
    """The directory belongs to a log of another name; `args[0]` says which and what to do."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found and done at the start. `closed` are the exchanges whose outcome is unknown."""

    size: int
    replayed: int
    torn: bool
    closed: tuple[str, ...]

    def record(self) -> dict[str, Json]:
        return {"size": self.size, "replayed": self.replayed, "torn": self.torn, "closed": list(self.closed)}


@dataclass(frozen=True, slots=True)
class Opened:
    tiles: TileLog
    journal: Journal
    checkpoint: Checkpoint
    recovery: Recovery


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a directory needs besides the directory."""

    node: str
    keys: LogKeys
    disk: Disk
    clock: Clock
    ids: Ids
    segment_bytes: int
    crash_point: CrashPoint


def open_log(data_dir: Path, by: Opening) -> Opened:
    """Rules 1 (its second half) to 4; the caller holds the lock. Raises OriginMismatch, LogDamaged, JournalDamaged."""
    log, journal_dir = data_dir / "log", data_dir / "journal"
    for path in (log, journal_dir, log / "tile"):
        make_directory(by.disk, path, data_dir)
    _claim(log, by)
    files = LogFiles(log)
    checkpoint, signer, tiles = _tiles(files, by)
    found = journals.replay(journal_dir, checkpoint.size)  # 2
    pending = found.entries[checkpoint.size - found.start :]
    tiles.add(pending)
    if pending or signer != by.keys.current(by.node):
        checkpoint = tiles.publish()  # 3
    tiles.name_keys()
    journal = Journal(journal_dir, by.disk, by.segment_bytes, found)
    journal.prepare()
    closing = list(_closing(files, _open_exchanges(files, found, tiles.size), tiles.size))
    if closing or pending or found.torn:
        by.crash_point("recovery.before_close")
        checkpoint = _close(tiles, journal, closing, len(pending), found.torn, by)  # 4
        by.crash_point("recovery.after_close")
    journal.recycle(tiles.size)
    closed = tuple(str(record["exchange"]) for record in closing)
    return Opened(tiles, journal, checkpoint, Recovery(tiles.size, len(pending), found.torn, closed))


def prepare_data_dir(data_dir: Path) -> None:
    data_dir.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)


def _claim(log: Path, by: Opening) -> None:
    """The origin is written once."""
    origin = log / "origin"
    if origin.exists():
        named = origin.read_text().strip()
        if named != by.node:
            raise OriginMismatch(
                f"{log} is the log of node {named!r}, not of {by.node!r}: set node: {named} or use another data_dir"
            )
    else:
        by.disk.replace(origin, f"{by.node}\n".encode(), log / ".new")
    by.disk.sync_dir(log)


def _tiles(files: LogFiles, by: Opening) -> tuple[Checkpoint, VerifierKey, TileLog]:
    def grow(edge: Edge, unfinished: Sequence[bytes]) -> TileLog:
        return TileLog(files, by.disk, by.keys, by.node, edge, unfinished, by.crash_point)

    try:
        checkpoint, signer, edge, unfinished = load(files, by.node, by.keys.opens(by.node))
    except FileNotFoundError:
        if any((files.directory / "tile").iterdir()):
            raise LogDamaged(f"{files.directory} has tiles but no checkpoint") from None
        tiles = grow(Edge(), ())
        return tiles.publish(), by.keys.current(by.node), tiles  # an empty log has its checkpoint too
    return checkpoint, signer, grow(edge, unfinished)


def _open_exchanges(files: LogFiles, found: Replay, size: int) -> dict[str, int]:
    """Exchanges with an intent and no terminal record, with their intents' seq."""
    if found.newest is None or found.end < size:  # a log without its journal: ask the log itself, all of it
        opened: dict[str, int] = {}
        start, entries = 0, _all_entries(files, size)
    else:
        opened = dict(found.open)
        start, entries = found.open_from, iter(found.entries[found.open_from - found.start :])
    for seq, entry in enumerate(entries, start):
        track(opened, seq, _parse(entry, seq))
    return opened


def track(opened: dict[str, int], seq: int, record: Mapping[str, Any]) -> None:
    """Keeps `opened` up to one record."""
    kind = record.get("kind")
    if kind == "intent":
        opened[record["exchange"]] = seq
    elif kind in TERMINAL:
        opened.pop(record.get("exchange", ""), None)


def _parse(entry: bytes, seq: int) -> dict[str, Any]:
    try:
        record = orjson.loads(entry)
    except orjson.JSONDecodeError as error:
        raise LogDamaged(f"entry {seq} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise LogDamaged(f"entry {seq} is not an object")
    return record


def _all_entries(files: LogFiles, size: int) -> Iterator[bytes]:
    for n in range(-(-size // TILE_WIDTH)):
        try:
            yield from files.entries(n, min(TILE_WIDTH, size - n * TILE_WIDTH))
        except (Malformed, FileNotFoundError) as error:
            raise LogDamaged(f"{files.directory}: {error}") from None


def _entry(files: LogFiles, seq: int, size: int) -> bytes:
    n, index = divmod(seq, TILE_WIDTH)
    try:
        return files.entries(n, tile_width(0, n, size))[index]
    except (Malformed, FileNotFoundError) as error:
        raise LogDamaged(f"{files.directory}: {error}") from None


def _closing(files: LogFiles, opened: Mapping[str, int], size: int) -> Iterator[dict[str, Json]]:
    for _, seq in sorted(opened.items(), key=lambda item: item[1]):
        yield closing(_parse(_entry(files, seq, size), seq), seq)


def closing(intent: Mapping[str, Any], seq: int) -> dict[str, Json]:
    """The outcome of an exchange of which nothing is known but its intent (4). Without `id`, `time` and what is the
    sequencer's."""
    record: dict[str, Json] = {name: intent[name] for name in _KEPT if name in intent}
    record |= {"exchange": intent["exchange"], "intent": seq, "kind": "outcome", "result": "unknown"}
    if intent.get("budgets"):  # unknown is not free
        record["budgets"] = [{**entry, "settled": entry["reserved"]} for entry in intent["budgets"]]
        dollars = [str(entry["reserved"]) for entry in intent["budgets"] if entry.get("unit") == "usd"]
        if dollars:
            usage: dict[str, Json] = {"bytes_in": 0, "bytes_out": 0, "calls": 1, "estimated": True}
            record["usage"] = usage | {"usd": max(dollars, key=Decimal)}
    return record


def _close(
    tiles: TileLog, journal: Journal, closing: Sequence[dict[str, Json]], replayed: int, torn: bool, by: Opening
) -> Checkpoint:
    done: dict[str, Json] = {"closed": len(closing), "replayed": replayed, "torn": torn}
    entries: list[bytes] = []
    now = timestamp(by.clock.time())
    opened = {str(record["exchange"]): int(str(record["intent"])) for record in closing}
    last: dict[str, Json] = {"kind": "recovery", "recovery": done}
    for record in (*closing, last):
        seq = tiles.size + len(entries)
        entries.append(encode({**record, "id": by.ids.new(), "time": now, "v": 1, "seq": seq, "node": by.node}))
    journal.append(tiles.size, entries, opened)
    tiles.add(entries)
    return tiles.publish()
