"""The files of the key ring: private keys in PEM, the table beside them, who may read them.

1. A private key is PKCS#8, mode 0600 or stricter, of the user that runs the gateway; a directory that others may write,
a link or a stranger's file is refused. 2. With a passphrase every key is encrypted under it (PBES2), and one that is
not is refused: taking the encryption away must not go unnoticed. 3. A file is replaced whole, synced, or not at all.
4. Whoever changes the ring holds its lock. Nothing here decides which key signs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_FILE_LIMIT_BYTES = 4096
_TABLE_LIMIT_BYTES = 4 * 1024**2
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class KeyRingError(Exception):
    """The keys cannot be used as they lie on disk; `args[0]` says which file, why, and what to do."""


class OtherKeySigns(KeyRingError):
    """What was to be replaced signs no more."""


def open_directory(directory: Path) -> None:
    """Makes it where it is not there; refuses one that others may write (1)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_mode(directory, directory.lstat(), stat.S_ISDIR)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Rule 4; waits for whoever holds it, whose work is short. The lock is the directory itself: no file is left."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_table(path: Path) -> tuple[bytes, tuple[int, ...]] | None:
    """Its bytes and what tells this state of the file from another; None where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyRingError(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        _check_mode(path, found, stat.S_ISREG)
        return file.read(_TABLE_LIMIT_BYTES), stamp_of(found)


def stamp(path: Path) -> tuple[int, ...]:
    """() where there is no such file."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return ()


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def check_private(path: Path) -> None:
    """Rule 1, without reading it."""
    _check_mode(path, path.lstat(), stat.S_ISREG)


def encrypted(path: Path) -> bool:
    """Whether this private key needs a passphrase. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_ENCRYPTED)) == _ENCRYPTED


def read_private(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            _check_mode(path, os.fstat(file.fileno()), stat.S_ISREG)
            data = file.read(_FILE_LIMIT_BYTES)
    except OSError as error:
        raise KeyRingError(f"{path} cannot be read: {error.strerror}") from None  # 1: a link is ELOOP
    locked_up = data.startswith(_ENCRYPTED)
    if passphrase is None and locked_up:
        raise KeyRingError(f"{path} is encrypted: name its passphrase (keys.passphrase, --passphrase-file)")
    if passphrase is not None and not locked_up:
        raise KeyRingError(
            f"{path} is not encrypted, though there is a passphrase: `tollgate keys encrypt` does it"
        )  # 2
    try:
        private = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError):
        if locked_up:
            raise KeyRingError(f"{path} cannot be decrypted: is it the right passphrase?") from None
        raise KeyRingError(f"{path} is not a PKCS#8 key in PEM; restore it from a copy") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyRingError(f"{path} is not an Ed25519 key; move it away")
    return private


def pem(private: Ed25519PrivateKey, passphrase: bytes | None) -> bytes:
    lock = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def replace_file(path: Path, data: bytes) -> None:
    """Rule 3. Raises KeyRingError."""
    fresh = path.parent / f".{path.name}.new"
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyRingError(f"{path} cannot be written: {error.strerror}") from None


def _check_mode(path: Path, found: os.stat_result, kind: Callable[[int], bool]) -> None:
    """Rule 1."""
    if not kind(found.st_mode):
        raise KeyRingError(f"{path} is not what it must be: a plain file in a plain directory, no links")
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyRingError(f"{path} belongs to another user: chown it to the user that runs the gateway")
    loose = 0o077 if stat.S_ISREG(found.st_mode) else 0o022
    if found.st_mode & loose:
        fix = "600" if stat.S_ISREG(found.st_mode) else "700"
        raise KeyRingError(f"{path} may be used by others ({stat.filemode(found.st_mode)}): chmod {fix} {path}")
