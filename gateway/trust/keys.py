"""The gateway's own private keys: Ed25519, one file per key below `<data_dir>/keys` (contract, ruling 27).

1. `<purpose>-<kid>.pem`, PKCS#8, mode 0600; a key file or directory that others may read or write refuses to start, a
link or a stranger's file too. 2. `kid` is the beginning of the RFC 7638 thumbprint, and the name must be true.
3. `<purpose>.current` names the key that signs; the others of the purpose only stay published, so that what they signed
can still be verified. 4. A key is on disk, synced, before it is named current. Private keys never leave this object.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.core.canonical import Json
from gateway.trust.jose import Signer, signer

PURPOSES: Final = ("log", "cards", "manifests", "bundles", "tokens")
PUBLISHED: Final = ("cards", "manifests", "bundles", "tokens")  # the log's key is published as a vkey beside the log

KID_CHARACTERS = 16  # 96 bits of the thumbprint: enough to tell keys apart, short enough to read aloud
_FILE_LIMIT_BYTES = 4096
_NAME = re.compile(rf"({'|'.join(PURPOSES)})-([A-Za-z0-9_-]{{{KID_CHARACTERS}}})\.pem")


class KeyRingError(Exception):
    """The keys cannot be used as they lie on disk; `args[0]` says which file, why, and what to do."""


@dataclass(frozen=True, slots=True)
class RingKey:
    """One private key and what it is for."""

    purpose: str
    kid: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 raw bytes."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 over `data`, for what is not JOSE."""
        return self.private.sign(data)

    def signer(self) -> Signer:
        return signer(self.private, self.kid)


class KeyRing:
    """All keys of one directory, read once. Raises KeyRingError when any of them is not as it must be."""

    __slots__ = ("_current", "_directory", "_generate", "_keys")

    def __init__(self, directory: Path, generate: Callable[[], Ed25519PrivateKey] = Ed25519PrivateKey.generate) -> None:
        self._directory = directory
        self._generate = generate
        self._keys: dict[tuple[str, str], RingKey] = {}
        self._current: dict[str, str] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_mode(directory, directory.lstat(), stat.S_ISDIR)
        for path in sorted(directory.glob("*.pem")):
            key = _read(path)
            self._keys[key.purpose, key.kid] = key
        for purpose in PURPOSES:
            self._read_current(purpose)

    def list(self, purpose: str | None = None) -> Sequence[RingKey]:
        return [key for key in self._keys.values() if purpose in (None, key.purpose)]

    def current(self, purpose: str) -> RingKey | None:
        """The key that signs for this purpose, None when there is none yet."""
        kid = self._current.get(purpose)
        return None if kid is None else self._keys[purpose, kid]

    def ensure(self, purpose: str) -> RingKey:
        """The current key, made now if this is the first start."""
        return self.current(purpose) or self.new(purpose)

    def new(self, purpose: str) -> RingKey:
        """Makes a key, writes it and makes it the current one; the former ones stay published."""
        if purpose not in PURPOSES:
            raise KeyRingError(f"there is no purpose {purpose!r}; one of {', '.join(PURPOSES)}")
        private = self._generate()
        kid = _kid(private)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._write(f"{purpose}-{kid}.pem", pem)
        self._write(f"{purpose}.current", kid.encode() + b"\n")  # 4
        key = self._keys[purpose, kid] = RingKey(purpose, kid, private)
        self._current[purpose] = kid
        return key

    def jwks(self, purposes: Sequence[str] = PUBLISHED) -> dict[str, Json]:
        """The public JWK set of some purposes, the current key of each first."""
        found = [key for purpose in purposes for key in self._keys.values() if key.purpose == purpose]
        found.sort(key=lambda key: key.kid != self._current.get(key.purpose))
        return {"keys": [key.signer().jwk() for key in found]}

    def _read_current(self, purpose: str) -> None:
        path = self._directory / f"{purpose}.current"
        kids = [key.kid for key in self.list(purpose)]
        try:
            kid = path.read_text("ascii").strip()
        except FileNotFoundError:
            if len(kids) > 1:
                raise KeyRingError(f"{path} is missing and there are {len(kids)} keys: write the kid to use") from None
            if kids:
                self._current[purpose] = kids[0]
            return
        except (OSError, UnicodeDecodeError) as error:
            raise KeyRingError(f"{path} cannot be read: {error}") from None
        if kid not in kids:
            raise KeyRingError(f"{path} names a key that is not there: put back {purpose}-{kid[:64]}.pem or remove it")
        self._current[purpose] = kid

    def _write(self, name: str, data: bytes) -> None:
        """All of it or nothing, synced, never over a reader's shoulder."""
        path, fresh = self._directory / name, self._directory / f".{name}.new"
        try:
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise KeyRingError(f"{path} cannot be written: {error.strerror}") from None


def _read(path: Path) -> RingKey:
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise KeyRingError(
            f"{path}: a key is named <purpose>-<kid>.pem with one of {', '.join(PURPOSES)}; move it away"
        )
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            _check_mode(path, os.fstat(file.fileno()), stat.S_ISREG)
            private = load_pem_private_key(file.read(_FILE_LIMIT_BYTES), None)
    except OSError as error:
        raise KeyRingError(f"{path} cannot be read: {error.strerror}") from None  # 1: a link is ELOOP
    except (ValueError, TypeError):
        raise KeyRingError(f"{path} is not an unencrypted PKCS#8 key in PEM; restore it from a copy") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyRingError(f"{path} is not an Ed25519 key; move it away")
    if _kid(private) != named[2]:
        raise KeyRingError(f"{path}: the name says another key ({_kid(private)} it is); rename it")  # 2
    return RingKey(named[1], named[2], private)


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


def _kid(private: Ed25519PrivateKey) -> str:
    return signer(private).kid[:KID_CHARACTERS]
