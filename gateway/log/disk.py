"""The few things the log asks of a file system, so that a test can make each of them fail.

Every method returns only when what it promises is true after a power cut: `append` and `allocate` for the content,
`replace` for the content, `sync_dir` for the names. Nothing else in this room writes a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

_ZEROS = bytes(256 * 1024)
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750


class Disk(Protocol):
    """What the log needs. Every method raises OSError."""

    def append(self, fd: int, data: bytes, offset: int) -> None:
        """Writes at `offset`; the bytes are durable when it returns."""
        ...

    def allocate(self, path: Path, size: int) -> int:
        """A new file of zeros, its blocks on the disk; its descriptor."""
        ...

    def replace(self, path: Path, data: bytes, scratch: Path) -> None:
        """Gives `path` this content at once or not at all, by way of `scratch` on the same file system."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Makes the names in a directory durable."""
        ...


class RealDisk:
    """The operating system's files. `append` is one system call where the kernel has RWF_DSYNC, else two."""

    __slots__ = ("_dsync",)

    def __init__(self) -> None:
        self._dsync: int | None = getattr(os, "RWF_DSYNC", None)

    def append(self, fd: int, data: bytes, offset: int) -> None:
        if self._dsync is None:
            self._two_steps(fd, data, offset)
            return
        try:
            done = os.pwritev(fd, (data,), offset, self._dsync)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._dsync = None  # this file system cannot
            self._two_steps(fd, data, offset)
            return
        if done < len(data):
            self._two_steps(fd, data[done:], offset + done)

    @staticmethod
    def _two_steps(fd: int, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done
        _datasync(fd)

    def allocate(self, path: Path, size: int) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            # Real zeros: overwriting a block that is only reserved would need metadata to become durable.
            for offset in range(0, size, len(_ZEROS)):
                _write_all(fd, _ZEROS[: min(len(_ZEROS), size - offset)])
            os.fsync(fd)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def replace(self, path: Path, data: bytes, scratch: Path) -> None:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        try:
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        scratch.replace(path)

    def sync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _datasync(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def make_directory(disk: Disk, path: Path, above: Path) -> None:
    """Makes `path` and what is missing between it and `above`, and makes the new names durable."""
    missing = []
    at = path
    while at != above and not at.is_dir():
        missing.append(at)
        at = at.parent
    for item in reversed(missing):
        item.mkdir(DIRECTORY_MODE, exist_ok=True)
        disk.sync_dir(item.parent)


class DataDirLocked(Exception):
    """Another process works on this data directory; `args[0]` says which."""


def lock_directory(path: Path) -> int:
    """Takes `<path>/lock` for as long as the descriptor is open, or the process lives. Raises DataDirLocked."""
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise DataDirLocked(f"{path} is in use by another process (pid {holder})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
