"""The static log directory: tiles, entry bundles, checkpoint; how it is read and how it grows.

What is durable when, in this order, so that a crash between any two steps leaves a directory that verifies:
1. Entries come here only after the journal made them durable.
2. Tiles and bundles are each replaced as a whole and synced, then the directories that name them.
3. Then the checkpoint that covers them is signed, replaced and synced, then the directory that names it.
4. Only then are outgrown partial tiles removed, and only then may the journal reuse what the checkpoint covers.
Tiles beyond the checkpoint are leftovers of a crash: never read, written again with the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gateway.core.reasons import Malformed
from gateway.log import tlog
from gateway.log.crash import CrashPoint
from gateway.log.disk import Disk, make_directory
from gateway.log.note import Checkpoint, LogKeys, Note, VerifierKey
from gateway.log.tlog import ENTRIES, TILE_WIDTH, Edge, tile_path, tile_width


class LogDamaged(Exception):
    """The log directory is not what its checkpoint says; `args[0]` says what. Nothing was changed."""


class LogFiles:
    """Reads a log directory. Raises Malformed for content that is not what its place asks for, OSError for no file."""

    __slots__ = ("directory",)

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def checkpoint(self) -> bytes:
        """The signed note, as it stands."""
        return (self.directory / "checkpoint").read_bytes()

    def tile(self, level: int, n: int, width: int) -> bytes:
        """The first `width` hashes of a tile: from the full tile if it is there, else from the partial one."""
        data = self._file(level, n, width)[: width * tlog.HASH_BYTES]
        if len(data) != width * tlog.HASH_BYTES:
            raise Malformed(f"{tile_path(level, n, width)}: {len(data)} bytes instead of {width} hashes")
        return data

    def entries(self, n: int, width: int) -> list[bytes]:
        """The first `width` entries of a bundle."""
        found = tlog.unbundle(self._file(ENTRIES, n, width))[:width]
        if len(found) != width:
            raise Malformed(f"{tile_path(ENTRIES, n, width)}: {len(found)} entries instead of {width}")
        return found

    def _file(self, level: int, n: int, width: int) -> bytes:
        full, partial = tile_path(level, n), tile_path(level, n, width)
        for path in (full, partial, full):  # the full one may have replaced the partial one between two looks
            try:
                return (self.directory / path).read_bytes()
            except FileNotFoundError:
                continue
        raise FileNotFoundError(2, "no such tile", str(self.directory / partial))

    def reader(self, size: int) -> tlog.TileReader:
        """Tiles as a tree of `size` has them, each read once."""
        known: dict[tuple[int, int], bytes] = {}

        def read(level: int, n: int) -> bytes:
            found = known.get((level, n))
            if found is None:
                if len(known) > 4096:
                    known.clear()
                found = known[level, n] = self.tile(level, n, tile_width(level, n, size))
            return found

        return read

    def edge(self, size: int) -> tuple[Edge, list[bytes]]:
        """The right edge of a tree of `size`, and the entries of its unfinished bundle."""
        levels: list[list[bytes]] = []
        while (hashes := size >> (8 * len(levels))) > 0:
            n, width = divmod(hashes, TILE_WIDTH)
            levels.append(tlog.split_hashes(self.tile(len(levels), n, width)) if width else [])
        n, width = divmod(size, TILE_WIDTH)
        return Edge(size, levels), self.entries(n, width) if width else []


def load(
    files: LogFiles, origin: str, keys: Sequence[VerifierKey]
) -> tuple[Checkpoint, VerifierKey, Edge, list[bytes]]:
    """The directory's last checkpoint, its signer, and the edge to grow from. Raises LogDamaged, or FileNotFoundError.

    1. The checkpoint is signed by a key of ours and names our origin. 2. The tiles of the right edge hash to its root.
    3. The entries of the unfinished bundle hash to its tile. So nothing is ever built on a changed edge.
    """
    data = files.checkpoint()
    try:
        note = Note.parse(data)
        signer = note.signer(keys)
        if signer is None:
            raise LogDamaged(f"{files.directory}/checkpoint is not signed by this gateway's key")  # 1
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != origin:
            raise LogDamaged(f"{files.directory}/checkpoint is of {checkpoint.origin}, not of {origin}")  # 1
        edge, entries = files.edge(checkpoint.size)
    except Malformed as error:
        raise LogDamaged(f"{files.directory}: {error}") from None
    except FileNotFoundError as missing:
        raise LogDamaged(f"{files.directory}: {missing.filename} is missing") from None
    if edge.root() != checkpoint.root:
        raise LogDamaged(f"{files.directory}: the tiles do not hash to the checkpoint's root")  # 2
    if tlog.leaf_hashes(entries) != edge.levels[0]:
        raise LogDamaged(f"{files.directory}: the last entry bundle does not hash to its tile")  # 3
    return checkpoint, signer, edge, entries


class TileLog:
    """Grows a log directory. Owned by one thread at a time; a failed `publish` may be called again."""

    def __init__(
        self,
        files: LogFiles,
        disk: Disk,
        keys: LogKeys,
        origin: str,
        edge: Edge,
        unfinished: Sequence[bytes],
        crash_point: CrashPoint,
    ) -> None:
        self._files = files
        self._directory = files.directory
        self._disk = disk
        self._keys = keys
        self._named: LogKeys | None = None  # those that the files beside the checkpoint name
        self._origin = origin
        self._edge = edge
        self._bundle = list(unfinished)
        self._done: dict[str, bytes] = {}  # completed and not yet on the disk
        self._partial: set[str] = set()  # unfinished, on the disk
        self._directories: set[Path] = set()
        self._crash_point = crash_point

    @property
    def size(self) -> int:
        return self._edge.size

    def rekey(self, keys: LogKeys) -> None:
        """The next checkpoint is signed by these."""
        self._keys = keys

    def add(self, entries: Sequence[bytes]) -> None:
        """Integrates durable entries, in memory."""
        for tile in self._edge.append(tlog.leaf_hashes(entries)):
            self._done[tile.path] = tile.data
            if tile.level == 0:
                missing = TILE_WIDTH - len(self._bundle)
                self._bundle += entries[:missing]
                entries = entries[missing:]
                self._done[tile_path(ENTRIES, tile.n)] = tlog.bundle(self._bundle)
                self._bundle.clear()
        self._bundle += entries

    def publish(self) -> Checkpoint:
        """Writes what is new and the checkpoint over it. Raises OSError; then nothing of it counts."""
        partial = {tile.path: tile.data for tile in self._edge.partial()}
        if self._bundle:
            n, width = divmod(self._edge.size, TILE_WIDTH)
            partial[tile_path(ENTRIES, n, width)] = tlog.bundle(self._bundle)
        self._crash_point("tile.before_write")
        new = self._done | {path: data for path, data in partial.items() if path not in self._partial}
        touched = {self._write(path, data) for path, data in new.items()}
        self._crash_point("tile.after_write")
        for directory in touched:
            self._disk.sync_dir(directory)
        self._crash_point("tile.after_sync")  # 2
        checkpoint = Checkpoint(self._origin, self._edge.size, self._edge.root())
        note = checkpoint.signed(*self._keys.signing)
        self._crash_point("checkpoint.before_write")
        self._disk.replace(self._directory / "checkpoint", note, self._directory / ".new")
        self._crash_point("checkpoint.after_write")
        self._disk.sync_dir(self._directory)
        self._crash_point("checkpoint.after_sync")  # 3
        if self._named is not self._keys:
            self.name_keys()
        self._partial = set(partial)
        for path in self._done:
            shutil.rmtree(self._directory / f"{path}.p", ignore_errors=True)  # 4
        self._done.clear()
        return checkpoint

    def name_keys(self) -> None:
        """`vkey` is the key that signs, `vkeys` all that signed and may be believed, that one first. They follow the
        checkpoint: while a key is rotated in, it is the former one's as well."""
        known = self._keys.known(self._origin)
        for name, keys in (("vkey", known[:1]), ("vkeys", known)):
            path, data = self._directory / name, "".join(f"{key}\n" for key in keys).encode()
            if not path.exists() or path.read_bytes() != data:
                self._disk.replace(path, data, self._directory / ".new")
                self._disk.sync_dir(self._directory)
        self._named = self._keys

    def _write(self, path: str, data: bytes) -> Path:
        target = self._directory / path
        if target.parent not in self._directories:
            make_directory(self._disk, target.parent, self._directory)
            if len(self._directories) > 1024:
                self._directories.clear()
            self._directories.add(target.parent)
        self._disk.replace(target, data, self._directory / ".new")
        return target.parent
