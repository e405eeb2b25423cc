"""Signed notes: verifier keys, checkpoints and the text form of a proof.

Pure. Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof; keys are spelled as Go's sumdb/note
spells them. What is read here is read strictly: a number has one spelling, base64 has one spelling, anything else is
`Malformed`. It must never decide whom to trust: callers bring the keys.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Port

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.core.reasons import Malformed
from gateway.log.tlog import HASH_BYTES

_ED25519 = b"\x01"  # signature type of c2sp.org/signed-note
_PROOF_HEAD = "c2sp.org/tlog-proof@v1"


class NoteKey(Port):
    """What signs a note: an Ed25519 key, wherever its private half is. `sign` raises OSError where that is far."""

    def sign(self, data: bytes) -> bytes: ...

    def public_key(self) -> Ed25519PublicKey: ...


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A `vkey`: `<name>+<8 hex of key id>+<base64 of 0x01 and the public key>`."""

    name: str
    id: bytes
    public: bytes

    @classmethod
    def of(cls, name: str, key: NoteKey | Ed25519PublicKey) -> VerifierKey:
        public = key if isinstance(key, Ed25519PublicKey) else key.public_key()
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(_key_name(name), _key_id(name, raw), raw)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        name, first, rest = text.strip().partition("+")
        ident, second, encoded = rest.partition("+")
        data = unbase64(encoded, "vkey")
        if not first or not second or len(data) != 1 + HASH_BYTES or data[0] != 1:
            raise Malformed("vkey: not <name>+<id>+<Ed25519 key>")
        found = cls(_key_name(name), _key_id(name, data[1:]), data[1:])
        if found.id.hex() != ident:
            raise Malformed("vkey: its id does not fit its key")
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public)}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


def skey(name: str, key: Ed25519PrivateKey) -> str:
    """The private key as sumdb/note spells it: a secret."""
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return f"PRIVATE+KEY+{name}+{VerifierKey.of(name, key).id.hex()}+{_base64(_ED25519 + seed)}"


def parse_skey(text: str) -> tuple[str, Ed25519PrivateKey]:
    parts = text.strip().split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
        raise Malformed("skey: not PRIVATE+KEY+<name>+<id>+<key>")
    data = unbase64(parts[4], "skey")
    if len(data) != 1 + HASH_BYTES or data[0] != 1:
        raise Malformed("skey: not an Ed25519 key")
    key = Ed25519PrivateKey.from_private_bytes(data[1:])
    if VerifierKey.of(parts[2], key).id.hex() != parts[3]:
        raise Malformed("skey: its id does not fit its key")
    return parts[2], key


@dataclass(frozen=True, slots=True)
class LogKeys:
    """What a log is signed by. `signing`: the current key, then former ones that sign beside it for a while, so that
    verifiers who know only those still accept. `trusted`: vkeys of all keys that verifiers may be told.
    `revoked`: vkeys that nobody is told any more. The gateway's own directory may still be signed by one at the start,
    since a key may be revoked while nobody serves: that checkpoint is replaced before anything else happens."""

    signing: tuple[NoteKey, ...]
    trusted: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()

    def current(self, name: str) -> VerifierKey:
        return VerifierKey.of(name, self.signing[0])

    def known(self, name: str) -> list[VerifierKey]:
        """Every key that is believed, the current one first."""
        keys = [*(VerifierKey.of(name, key) for key in self.signing), *map(VerifierKey.parse, self.trusted)]
        return list(dict.fromkeys(keys))

    def opens(self, name: str) -> list[VerifierKey]:
        """Every key by which the directory may be signed when it is opened."""
        return [*self.known(name), *map(VerifierKey.parse, self.revoked)]


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note: `text` ends in a newline; a signature is (key name, key id, bytes)."""

    text: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("note: not UTF-8") from None
        text, found, lines = whole.rpartition("\n\n")
        if not found or not lines.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in whole):
            raise Malformed("note: no text, blank line and signature lines")
        signatures = []
        for line in lines[:-1].split("\n"):
            parts = line.split(" ")
            if len(parts) != 3 or parts[0] != "\N{EM DASH}":
                raise Malformed("note: a signature line is malformed")
            value = unbase64(parts[2], "note signature")
            if len(value) < 5:
                raise Malformed("note: a signature line is malformed")
            signatures.append((_key_name(parts[1]), value[:4], value[4:]))
        return cls((text + "\n").encode(), tuple(signatures))

    def signer(self, keys: Sequence[VerifierKey]) -> VerifierKey | None:
        """The first known key that signed; None if none did, or if a known key's signature is wrong."""
        found = None
        for name, ident, signature in self.signatures:
            for key in keys:
                if key.name == name and key.id == ident:
                    if not key.verifies(self.text, signature):
                        return None
                    found = found or key
        return found


def sign_note(text: str, name: str, *keys: NoteKey) -> bytes:
    """A signature line for each key, in their order. Verifiers pass over lines of keys they do not know."""
    data = text.encode()
    signatures = (VerifierKey.of(name, key).id + key.sign(data) for key in keys)
    lines = "".join(f"\N{EM DASH} {name} {_base64(signature)}\n" for signature in signatures)
    return f"{text}\n{lines}".encode()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the note text of a signed checkpoint."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        lines = text.decode("utf-8").split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise Malformed("checkpoint: not origin, size and root")
        root = unbase64(lines[2], "checkpoint root")
        if len(root) != HASH_BYTES:
            raise Malformed("checkpoint: its root is not 32 bytes")
        return cls(lines[0], _number(lines[1], "checkpoint size"), root)

    def signed(self, *keys: NoteKey) -> bytes:
        return sign_note(self.text, self.origin, *keys)


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's inclusion in a checkpoint, self-contained but for the entry; `extra` is not authenticated."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def __str__(self) -> str:
        extra = f"extra {_base64(self.extra)}\n" if self.extra else ""
        hashes = "".join(f"{_base64(item)}\n" for item in self.hashes)
        return f"{_PROOF_HEAD}\n{extra}index {self.index}\n{hashes}\n{self.checkpoint.decode()}"

    @classmethod
    def parse(cls, text: str) -> Proof:
        head, found, note = text.partition("\n\n")
        lines = head.split("\n")
        if not found or lines[0] != _PROOF_HEAD:
            raise Malformed("proof: not a c2sp.org/tlog-proof@v1")
        extra = b""
        if len(lines) > 1 and lines[1].startswith("extra "):
            extra = unbase64(lines.pop(1)[6:], "proof extra")
        if len(lines) < 2 or not lines[1].startswith("index "):
            raise Malformed("proof: no index")
        hashes = tuple(unbase64(line, "proof hash") for line in lines[2:])
        if len(hashes) > 63 or any(len(item) != HASH_BYTES for item in hashes):
            raise Malformed("proof: a hash is not 32 bytes")
        return cls(_number(lines[1][6:], "proof index"), hashes, note.encode(), extra)


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise Malformed(f"{what}: not a decimal number")
    return int(text)


def _key_name(name: str) -> str:
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise Malformed("key name: empty, or with a space or a plus")
    return name


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unbase64(text: str, what: str) -> bytes:
    """Standard base64 in its one spelling."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise Malformed(f"{what}: not base64") from None
    if _base64(data) != text:
        raise Malformed(f"{what}: not canonical base64")
    return data
