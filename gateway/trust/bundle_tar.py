"""A bundle's tarball, read in memory: from its bytes to its files by name. Nothing is ever written to a disk.

What is read is little: USTAR, with the two ways in which long names are written (pax `path`, GNU `L`), because a reader
that understands more can be made to see other files than the next one does. In the order of the code, with the numbers
of trust/bundle.py:
1. Size: the bytes as they came, and what they unpack to, each bounded; one gzip stream and nothing behind it.
2. Members: an intact archive of at most `MEMBERS` headers, in it files and folders only: no links, devices, sparse
files; no pax record but a path and what says nothing about the content; nothing but zeros behind its end.
3. Names: UTF-8 in NFC, relative (one slash in front is how `opa build` writes them), no `.` or `..`, nothing empty, no
backslash or control character, at most `DEPTH` folders deep; none twice, also not in other letters' case, and no file
where a folder is.
Time and memory are linear in the bounds.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.bundles import BundleRefused

PACKED_BYTES = 8 * 1024 * 1024  # a policy is written by people; its data is a table
UNPACKED_BYTES = 32 * 1024 * 1024
MEMBERS = 2000
DEPTH = 16
NAME_BYTES = 255
HEADER_BYTES = 8 * 1024  # of a pax header or a long name

BLOCK = 512
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_WITHOUT_MEANING = frozenset({"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"})
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"K": "a long link",
    b"g": "a header for all members",
}


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: bytes
    content: bytes


def unpack(tarball: bytes) -> dict[str, bytes]:
    """The files by name. Raises BundleRefused."""
    archive = _unzipped(tarball)
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    seen: dict[str, str] = {}
    for member in _members(archive):
        folder = member.kind == b"5"
        name = _name(member.name, folder)
        if folder:
            folders.add(name)
            continue
        former = seen.setdefault(name.casefold(), name)
        if former is not name:
            raise BundleRefused(3, f"{name} is there twice" + (f", also as {former}" if former != name else ""))
        files[name] = member.content
    for name in files:
        above = name.split("/")
        folders.update("/".join(above[:count]) for count in range(1, len(above)))
    for name in sorted(folders & files.keys()):
        raise BundleRefused(3, f"{name} is a file and a folder")
    return files


def _unzipped(tarball: bytes) -> bytes:
    if len(tarball) > PACKED_BYTES:
        raise BundleRefused(1, f"larger than {PACKED_BYTES} bytes")
    unzip = zlib.decompressobj(wbits=31)
    try:
        archive = unzip.decompress(tarball, UNPACKED_BYTES + 1)
    except zlib.error:
        raise BundleRefused(1, "not an intact gzip stream: a bundle is a .tar.gz") from None
    if len(archive) > UNPACKED_BYTES:
        raise BundleRefused(1, f"unpacks to more than {UNPACKED_BYTES} bytes")
    if not unzip.eof:
        raise BundleRefused(1, "the gzip stream is cut short")
    if unzip.unused_data:
        raise BundleRefused(1, "something stands behind the gzip stream")
    return archive


def _members(archive: bytes) -> Iterator[_Member]:
    """2, and what the names are made of."""
    at = count = 0
    long_name: str | None = None
    while True:
        header = archive[at : at + BLOCK]
        if len(header) < BLOCK:
            raise BundleRefused(2, "the archive has no end")
        if not any(header):
            break
        count += 1
        if count > MEMBERS:
            raise BundleRefused(2, f"more than {MEMBERS} members")
        name, kind, size = _header(header)
        at += BLOCK
        content = archive[at : at + size]
        if len(content) < size:
            raise BundleRefused(2, f"{name[:100]!r} is cut short")
        at += -(-size // BLOCK) * BLOCK
        if kind in (b"x", b"L"):
            if long_name is not None:
                raise BundleRefused(2, "two long names for one member")
            long_name = _long_name(kind, content, size)
            continue
        if kind not in (b"0", b"\0", b"5"):
            raise BundleRefused(2, f"{name[:100]!r} is {_KINDS.get(kind, 'of no known kind')}; only files can be read")
        if kind == b"5" and size:
            raise BundleRefused(2, f"{name[:100]!r} is a folder with content")
        yield _Member(long_name or name, kind, content)
        long_name = None
    if long_name is not None:
        raise BundleRefused(2, "a long name without a member")
    if any(archive[at:]):
        raise BundleRefused(2, "something stands behind the end of the archive")


def _header(header: bytes) -> tuple[str, bytes, int]:
    """Name, kind and size."""
    if header[257:265] not in (_POSIX, _GNU):
        raise BundleRefused(2, "not a tar archive in POSIX or GNU format")
    said = _number(header[148:156])
    if said != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise BundleRefused(2, "a header is damaged: its checksum is wrong")
    name = header[:100].split(b"\0", 1)[0]
    if header[257:265] == _POSIX and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name), header[156:157], _number(header[124:136])


def _number(field: bytes) -> int:
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise BundleRefused(2, "a header has a number that is not octal")
    return int(found[1], 8)


def _long_name(kind: bytes, content: bytes, size: int) -> str | None:
    if size > HEADER_BYTES:
        raise BundleRefused(2, f"a header of a member is larger than {HEADER_BYTES} bytes")
    if kind == b"L":
        return _text(content.rstrip(b"\0"))
    name = None
    at = 0
    while at < size:
        digits = content[at : at + 8].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        record = content[at : at + length]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if len(record) <= len(digits) + 2 or len(record) != length or not equals or not value.endswith(b"\n"):
            raise BundleRefused(2, "a pax header is damaged")
        said = _text(key)
        if said == "path" and name is None:
            name = _text(value[:-1])
        elif said not in _WITHOUT_MEANING:
            raise BundleRefused(2, f"a pax header says {said[:40]!r}, which is not read here")
        at += length
    return name


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleRefused(3, "a name is not UTF-8") from None


def _name(given: str, folder: bool) -> str:
    """3, but for what is there twice."""
    shown = repr(given[:100])
    name = given.removeprefix("./") if given.startswith("./") else given.removeprefix("/")
    if folder:
        name = name.removesuffix("/")
        if name in ("", "."):
            return ""
    if len(name.encode()) > NAME_BYTES:
        raise BundleRefused(3, f"{shown}: a name is longer than {NAME_BYTES} bytes")
    if "\\" in name or not name.isprintable() or unicodedata.normalize("NFC", name) != name:
        raise BundleRefused(3, f"{shown}: a name has a backslash, a control character or is not in NFC")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BundleRefused(3, f"{shown}: a name leads out of the bundle, or nowhere")
    if len(parts) > DEPTH:
        raise BundleRefused(3, f"{shown}: more than {DEPTH} folders deep")
    return name
