"""What the verifier reads: notes, tiles, entry bundles and the journal, by code of its own.

Nothing here is shared with the code that writes the log, so that a mistake there is not repeated in its judge. Sources:
c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-tiles; the journal's frames as journal.py describes them.
A file that cannot be read as what it should be is a `Wrong` or an absent value, never a guess.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
HASH = 32


class Wrong(Exception):
    """Something is not what it should be; `args[0]` says what."""


@dataclass(frozen=True, slots=True)
class Key:
    """One trusted `vkey`."""

    text: str
    name: str
    id: bytes
    public: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> Key:
        text = text.strip()
        try:
            name, ident, encoded = text.split("+", 2)
            data = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise Wrong("the key is not a vkey: <name>+<id>+<base64>") from None
        if len(data) != 33 or data[0] != 1:
            raise Wrong("the vkey is not an Ed25519 key")
        if hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8] != ident:
            raise Wrong("the vkey's id does not fit its name and key")
        return cls(text, name, bytes.fromhex(ident), Ed25519PublicKey.from_public_bytes(data[1:]))


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint whose signature was verified."""

    origin: str
    size: int
    root: bytes
    key: Key


def verified_head(note: bytes, keys: Sequence[Key]) -> Head:
    """The checkpoint of a signed note. Raises Wrong, which says signature where it is the signature."""
    cut = note.rfind(b"\n\n")
    if cut < 0:
        raise Wrong("signature: the checkpoint has none")
    text, lines = note[: cut + 1], note[cut + 2 :]
    signer = _signer(text, lines, keys)
    try:
        origin, size, root, *rest = text.decode("utf-8").split("\n")
        head = Head(origin, int(size), base64.b64decode(root, validate=True), signer)
    except (ValueError, binascii.Error):
        raise Wrong("the checkpoint is signed, but is not origin, size and root") from None
    if str(head.size) != size or len(head.root) != HASH or not origin or rest[-1:] != [""]:
        raise Wrong("the checkpoint is signed, but is not origin, size and root")
    if origin != signer.name:
        raise Wrong(f"the checkpoint is of {origin}, but signed by the key of {signer.name}")
    return head


def _signer(text: bytes, lines: bytes, keys: Sequence[Key]) -> Key:
    names = []
    if not lines.endswith(b"\n"):
        raise Wrong("signature: the checkpoint's last line is not whole")
    for line in lines[:-1].split(b"\n"):
        parts = line.split(b" ")
        if len(parts) != 3 or parts[0] != "\N{EM DASH}".encode():
            raise Wrong("signature: a signature line of the checkpoint is malformed")
        name = parts[1].decode("utf-8", "replace")
        try:
            value = base64.b64decode(parts[2], validate=True)
        except binascii.Error:
            raise Wrong(f"signature: that of {name} is not base64") from None
        if base64.b64encode(value) != parts[2]:
            raise Wrong(f"signature: that of {name} is not in base64's one spelling")
        names.append(name)
        for key in keys:
            if key.name == name and key.id == value[:4]:
                try:
                    key.public.verify(value[4:], text)
                except InvalidSignature:
                    raise Wrong(f"signature: that of {name} does not verify") from None
                return key
    raise Wrong(f"signature: the checkpoint is signed by {', '.join(names)}, by none of the given keys")


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def mth(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there, over the hashes of equally high subtrees."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node(mth(hashes[:half]), mth(hashes[half:]))


def edge_root(levels: Sequence[Sequence[bytes]]) -> bytes:
    """The root of a tree from the unfinished tile of each level, lowest first."""
    root: bytes | None = None
    for hashes in levels:
        at = len(hashes)
        while at:
            low = at & -at
            part = mth(hashes[at - low : at])
            root = part if root is None else node(part, root)
            at -= low
    return mth(()) if root is None else root


class Growing:
    """The root of a growing tree, one leaf at a time, in as many hashes as the tree is high."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, bytes]] = []

    def add(self, value: bytes) -> None:
        height = 0
        while self._stack and self._stack[-1][0] == height:
            value = node(self._stack.pop()[1], value)
            height += 1
        self._stack.append((height, value))

    def root(self) -> bytes:
        if not self._stack:
            return mth(())
        value = self._stack[-1][1]
        for _, left in self._stack[-2::-1]:
            value = node(left, value)
        return value


def included(value: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether a leaf hash is at `index` of the tree; RFC 6962 section 2.1.1 read backwards."""
    path: list[bool] = []  # from the root down: whether we are in the left half
    start, end = 0, size
    while end - start > 1:
        half = start + (1 << ((end - start - 1).bit_length() - 1))
        path.append(index < half)
        start, end = (start, half) if index < half else (half, end)
    if not 0 <= index < size or len(path) != len(proof):
        return False
    for left, other in zip(reversed(path), proof, strict=True):
        value = node(value, other) if left else node(other, value)
    return value == root


# Files


def place(level: str, n: int, width: int = WIDTH) -> str:
    """The path of a tile or (level "entries") of a bundle."""
    digits = f"{n:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")


def read_place(directory: Path, level: str, n: int, width: int) -> tuple[str, bytes | None]:
    """The path found and its content; a full tile stands in for a partial one. None where there is none."""
    for path in dict.fromkeys((place(level, n, width), place(level, n))):
        try:
            return path, (directory / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
    return place(level, n, width), None


def read_hashes(directory: Path, level: int, n: int, width: int) -> tuple[str, list[bytes] | None]:
    path, data = read_place(directory, str(level), n, width)
    if data is None or len(data) != (width if ".p/" in path else WIDTH) * HASH:
        return path, None
    return path, [data[i * HASH : (i + 1) * HASH] for i in range(width)]


def read_entries(directory: Path, n: int, width: int) -> tuple[str, list[bytes] | None, bool]:
    """Path, entries as far as they can be told apart, and whether the framing held."""
    path, data = read_place(directory, "entries", n, width)
    if data is None:
        return path, None, False
    entries: list[bytes] = []
    at = 0
    while at + 2 <= len(data):
        (length,) = struct.unpack_from(">H", data, at)
        if at + 2 + length > len(data):
            break
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return path, entries[:width], at == len(data) and len(entries) == (width if ".p/" in path else WIDTH)


# The journal


def journal_entries(directory: Path, size: int) -> tuple[int, list[bytes]]:
    """Durable entries from `size` on that the journal holds, and their first seq. Raises Wrong for a gap."""
    segments = sorted(filter(None, map(_segment, sorted(directory.glob("segment-*")))))
    held: dict[int, bytes] = {}
    for index, (_, first, entries) in enumerate(segments):
        end = segments[index + 1][1] if index + 1 < len(segments) else None  # a newer segment outweighs an older one
        for seq, entry in enumerate(entries, first):
            if seq >= size and (end is None or seq < end):
                held[seq] = entry
    if held and sorted(held) != list(range(size, size + len(held))):
        raise Wrong(f"the journal does not hold all entries from {size} to {max(held)}")
    return size, [held[seq] for seq in sorted(held)]


def _segment(path: Path) -> tuple[int, int, list[bytes]] | None:
    """Generation, first seq and entries of a segment; None for one that was not begun."""
    frames = _frames(path.read_bytes())
    head = next(frames, None)
    if head is None or head[0] != 1:
        return None
    _, first, generation, payload = head
    try:
        json.loads(payload)
    except ValueError:
        raise Wrong(f"journal {path.name}: its head is not JSON") from None
    entries: list[bytes] = []
    for kind, seq, count, batch in frames:
        if kind != 2 or seq != first + len(entries):
            break
        at = 0
        for _ in range(count):
            (length,) = struct.unpack_from(">H", batch, at)
            entries.append(batch[at + 2 : at + 2 + length])
            at += 2 + length
    return generation, first, entries


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + 25 <= len(data) and data[at : at + 4] == b"TGJ1":
        kind, first, count, length = struct.unpack_from("<BQII", data, at + 4)
        (checksum,) = struct.unpack_from("<I", data, at + 21)
        payload = data[at + 25 : at + 25 + length]
        if len(payload) != length or zlib.crc32(data[at : at + 21] + payload) != checksum:
            return
        yield kind, first, count, payload
        at += (25 + length + 511) // 512 * 512
