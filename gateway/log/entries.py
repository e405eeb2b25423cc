"""Reads published entries in order, for an index that catches up: the files of the log, up to their checkpoint.

It trusts the process that writes beside it; who trusts nobody uses verify.py. Any thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.log.note import Checkpoint, Note
from gateway.log.tiles import LogFiles
from gateway.log.tlog import TILE_WIDTH


class EntryReader:
    """`directory` is `<data_dir>/log`."""

    def __init__(self, directory: Path) -> None:
        self._files = LogFiles(directory)

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        """(seq, entry) from `start` up to but without `stop`, as far as a checkpoint covers them."""
        try:
            size = Checkpoint.parse(Note.parse(self._files.checkpoint()).text).size
        except FileNotFoundError:
            return
        end = size if stop is None else min(size, stop)
        seq = start
        while seq < end:
            n, skip = divmod(seq, TILE_WIDTH)
            bundle = self._files.entries(n, min(TILE_WIDTH, size - n * TILE_WIDTH))
            for entry in bundle[skip : skip + end - seq]:
                yield seq, entry
                seq += 1
