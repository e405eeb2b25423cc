"""The order in which a log directory becomes durable, told by the disk itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.log.disk import RealDisk
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.tiles import LogDamaged, LogFiles, TileLog, load
from gateway.log.tlog import Edge, leaf_hash
from gateway.log.verify import verify
from tests.log.log_rig import KEY, NODE, FaultyDisk

VKEY = VerifierKey.of(NODE, KEY)


class Recording(RealDisk):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, str]] = []

    def replace(self, path: Path, data: bytes, scratch: Path) -> None:
        super().replace(path, data, scratch)
        self.steps.append(("write", path.name if path.name == "checkpoint" else str(path)))

    def sync_dir(self, path: Path) -> None:
        super().sync_dir(path)
        self.steps.append(("sync", str(path)))


def tile_log(directory: Path, disk: RealDisk) -> TileLog:
    (directory / "tile").mkdir(parents=True)
    return TileLog(LogFiles(directory), disk, LogKeys((KEY,)), NODE, Edge(), (), lambda name: None)


def entries(start: int, stop: int) -> list[bytes]:
    return [f'{{"seq":{seq}}}'.encode() for seq in range(start, stop)]


def test_a_checkpoint_is_written_after_everything_that_it_covers_is_durable(tmp_path: Path) -> None:
    disk = Recording()
    tiles = tile_log(tmp_path, disk)
    tiles.name_keys()
    for start, stop in ((0, 10), (10, 300), (300, 300), (300, 512)):
        disk.steps.clear()
        tiles.add(entries(start, stop))
        tiles.publish()
        at = disk.steps.index(("write", "checkpoint"))
        before, after = disk.steps[:at], disk.steps[at + 1 :]
        assert after == [("sync", str(tmp_path))]
        synced = [name for kind, name in before if kind == "sync"]
        for index, (kind, name) in enumerate(before):
            if kind == "write":
                assert ("sync", str(Path(name).parent)) in before[index:], f"the name of {name} is not durable"
        assert (len(synced) > 0) == (stop > start)


def test_what_is_already_there_is_not_written_again(tmp_path: Path) -> None:
    disk = Recording()
    tiles = tile_log(tmp_path, disk)
    tiles.add(entries(0, 300))
    tiles.publish()
    disk.steps.clear()
    tiles.publish()
    assert [name for kind, name in disk.steps if kind == "write"] == ["checkpoint"]


@pytest.mark.parametrize("operation", ["replace", "sync_dir"])
def test_a_failed_publication_can_be_repeated(tmp_path: Path, operation: str) -> None:
    disk = FaultyDisk()
    tiles = tile_log(tmp_path / "log", disk)
    tiles.add(entries(0, 100))
    tiles.publish()
    before = (tmp_path / "log" / "checkpoint").read_bytes()
    tiles.add(entries(100, 600))
    disk.broken = {operation}
    for _ in range(2):
        with pytest.raises(OSError, match="injected"):
            tiles.publish()
    assert (tmp_path / "log" / "checkpoint").read_bytes() == before
    disk.broken = set()
    tiles.add(entries(600, 700))
    assert tiles.publish().size == 700
    report = verify(tmp_path / "log", [str(VKEY)])
    assert report.size == 700
    assert {problem.where for problem in report.problems} <= {"record"}


def test_an_edge_that_was_saved_is_the_edge_that_is_loaded(tmp_path: Path) -> None:
    for size in (0, 1, 255, 256, 257, 700):
        directory = tmp_path / str(size)
        tiles = tile_log(directory, RealDisk())
        tiles.add(entries(0, size))
        published = tiles.publish()
        checkpoint, signer, edge, unfinished = load(LogFiles(directory), NODE, [VKEY])
        assert (checkpoint, signer) == (published, VKEY)
        assert (edge.size, edge.root()) == (size, published.root)
        assert unfinished == entries(size - size % 256, size)
        assert [leaf_hash(item) for item in unfinished] == edge.levels[0]


def test_a_log_of_another_origin_is_not_loaded(tmp_path: Path) -> None:
    tile_log(tmp_path, RealDisk()).publish()
    with pytest.raises(LogDamaged, match="not signed"):
        load(LogFiles(tmp_path), NODE, [VerifierKey.of("another", KEY)])
