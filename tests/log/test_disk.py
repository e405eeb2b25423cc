"""What the disk promises: synced before it returns, whole or not at all, one process per directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.log.disk import DataDirLocked, RealDisk, lock_directory, make_directory


@pytest.fixture
def opened(tmp_path: Path) -> int:
    return RealDisk().allocate(tmp_path / "file", 4096)


def test_an_append_is_one_synced_write(opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = []
    real = os.pwritev

    def pwritev(fd: int, data: Sequence[bytes], offset: int, flag: int = 0) -> int:
        flags.append(flag)
        return real(fd, data, offset, flag)

    monkeypatch.setattr(os, "pwritev", pwritev)
    RealDisk().append(opened, b"entry", 512)
    assert flags == [os.RWF_DSYNC]
    assert (tmp_path / "file").read_bytes()[512:517] == b"entry"


@pytest.mark.parametrize("answer", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, 2])
def test_where_that_cannot_be_or_is_cut_short_the_rest_is_written_and_synced(
    opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """2: only two bytes went; else: the file system has no synced writes."""
    synced = []

    def pwritev(fd: int, data: Sequence[bytes], offset: int, flag: int = 0) -> int:
        if answer == 2:
            return os.pwrite(fd, data[0][:2], offset)
        raise OSError(answer, "injected")

    def fdatasync(fd: int) -> None:
        synced.append(fd)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    disk = RealDisk()
    for offset in (0, 1024):
        disk.append(opened, b"entry", offset)
        assert (tmp_path / "file").read_bytes()[offset : offset + 5] == b"entry"
    assert synced == [opened, opened]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_is_not_tried_in_another_way(opened: int, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def pwritev(fd: int, data: Sequence[bytes], offset: int, flag: int = 0) -> int:
        raise OSError(error, "injected")

    monkeypatch.setattr(os, "pwritev", pwritev)
    with pytest.raises(OSError, match="injected"):
        RealDisk().append(opened, b"entry", 0)


def test_a_replacement_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = os.fsync
    target = tmp_path / "checkpoint"
    target.write_bytes(b"old")

    def fsync(fd: int) -> None:
        seen.append((os.readlink(f"/proc/self/fd/{fd}"), target.read_bytes()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    disk = RealDisk()
    disk.replace(target, b"new", tmp_path / ".new")
    disk.sync_dir(tmp_path)
    assert seen == [(str(tmp_path / ".new"), b"old"), (str(tmp_path), b"new")]
    assert not (tmp_path / ".new").exists()


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "checkpoint"
    target.write_bytes(b"old")

    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="injected"):
        RealDisk().replace(target, b"new", tmp_path / ".new")
    assert target.read_bytes() == b"old"


def test_a_failed_allocation_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "injected")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="injected"):
        RealDisk().allocate(tmp_path / "file", 4096)
    assert not (tmp_path / "file").exists()


def test_an_allocated_file_has_its_blocks(tmp_path: Path) -> None:
    RealDisk().allocate(tmp_path / "file", 300_000)
    assert (tmp_path / "file").read_bytes() == bytes(300_000)
    assert (tmp_path / "file").stat().st_blocks * 512 >= 300_000


def test_names_of_new_directories_are_synced_from_the_top(tmp_path: Path) -> None:
    class Recording(RealDisk):
        def sync_dir(self, path: Path) -> None:
            synced.append(path)

    synced: list[Path] = []
    make_directory(Recording(), tmp_path / "a" / "b" / "c", tmp_path)
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_directory(Recording(), tmp_path / "a" / "b" / "c", tmp_path)
    assert len(synced) == 3


def test_the_lock_holds_between_processes_and_ends_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gateway.log.disk import lock_directory;"
        "lock_directory(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parent.parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(DataDirLocked, match=f"pid {holder.pid}"):
        lock_directory(tmp_path)
    holder.kill()
    holder.communicate()
    os.close(lock_directory(tmp_path))
