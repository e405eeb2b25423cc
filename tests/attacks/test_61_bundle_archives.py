"""An archive that leads elsewhere, says things twice or unpacks without end is refused in memory, by its rule."""

from __future__ import annotations

import gzip
import random
import tarfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.bundles import BundleRefused
from gateway.trust.bundle_tar import DEPTH, MEMBERS, PACKED_BYTES, UNPACKED_BYTES, unpack
from tests.trust.bundle_rig import archive, files, good, member, packed, signed, verified

ROW = 61
PAX, GNU = tarfile.PAX_FORMAT, tarfile.GNU_FORMAT


def beside(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    content = b"x" if kind == tarfile.REGTYPE else b""
    return packed(signed(files()), member(name, content, kind, link))


def pax(**headers: str) -> bytes:
    made, content = member("policy.rego", b"x")
    made.pax_headers = headers
    return gzip.compress(archive([(made, content)], PAX))


def broken(at: int, byte: bytes) -> bytes:
    raw = bytearray(archive([member("policy.rego", b"x")]))
    raw[at : at + len(byte)] = byte
    return gzip.compress(bytes(raw))


def zeros(count: int) -> bytes:
    """Far more than 1000:1, made piece by piece."""
    made = zlib.compressobj(9, wbits=31)
    return b"".join([*(made.compress(bytes(1 << 20)) for _ in range(count)), made.flush()])


def noise() -> bytes:
    """What no compression makes smaller."""
    return random.Random(61).randbytes(PACKED_BYTES + 1024)


def many(count: int) -> bytes:
    one = archive([member("a", b"")])[:512]
    return gzip.compress(one * count + bytes(1024))


CASES: list[tuple[str, Callable[[], bytes], int]] = [
    ("not gzip", lambda: b"PK\x03\x04 and so on", 1),
    ("nothing", lambda: b"", 1),
    ("cut short", lambda: good()[:-9], 1),
    ("something behind it", lambda: good() + b"x", 1),
    ("another stream behind it", lambda: good() + good(), 1),
    ("a wrong checksum", lambda: good()[:-8] + bytes(8), 1),
    ("too large as it is", lambda: bytes(PACKED_BYTES + 1), 1),
    ("too large though it unpacks to little more", lambda: packed(signed(files() | {"x.rego": noise()})), 1),
    ("1000:1", lambda: zeros(UNPACKED_BYTES // (1 << 20) + 1), 1),
    ("a hundred megabytes of zeros", lambda: zeros(128), 1),
    ("not tar", lambda: gzip.compress(b"hello" * 400), 2),
    ("no end", lambda: gzip.compress(archive([member("a")])[:512]), 2),
    ("a file cut short", lambda: gzip.compress(archive([member("a", bytes(2000))])[:1024]), 2),
    ("hidden behind the end", lambda: gzip.compress(archive([member("a")]) + archive([member("b")])), 2),
    ("a damaged header", lambda: broken(0, b"q"), 2),
    ("a size that is negative", lambda: broken(124, b"\xff" * 12), 2),
    ("a million members", lambda: many(60_000), 2),
    ("one member too many", lambda: many(MEMBERS + 1), 2),
    ("a symbolic link", lambda: beside("policy2.rego", tarfile.SYMTYPE, "/etc/passwd"), 2),
    ("a hard link", lambda: beside("policy2.rego", tarfile.LNKTYPE, "policy.rego"), 2),
    ("a device", lambda: beside("null", tarfile.CHRTYPE), 2),
    ("a pipe", lambda: beside("pipe", tarfile.FIFOTYPE), 2),
    ("a sparse file", lambda: beside("sparse", tarfile.GNUTYPE_SPARSE), 2),
    ("a link with a long name", lambda: packed({}, member("l", b"", b"2", "x" * 200), format=GNU), 2),
    ("a size said twice", lambda: pax(size="9999999"), 2),
    ("a sparse file in disguise", lambda: pax(**{"GNU.sparse.name": "../../x"}), 2),
    ("a way up", lambda: beside("../policy.rego"), 3),
    ("a way up in the middle", lambda: beside("a/../../policy.rego"), 3),
    ("two slashes in front", lambda: beside("//etc/passwd"), 3),
    ("a backslash", lambda: beside("..\\policy.rego"), 3),
    ("a NUL in a long name", lambda: pax(path="a\x00.rego"), 3),
    ("a line break", lambda: beside("a\nb.rego"), 3),
    ("not in NFC", lambda: pax(path="e\u0301.rego"), 3),
    ("too deep", lambda: beside("a/" * DEPTH + "policy.rego"), 3),
    ("a long name", lambda: pax(path="x" * 300), 3),
    ("twice", lambda: beside("policy.rego"), 3),
    ("twice, once with a slash", lambda: beside("/policy.rego"), 3),
    ("twice in other letters", lambda: beside("Policy.rego"), 3),
    ("a file that is a folder", lambda: beside("policy.rego/x.rego"), 3),
    ("no name", lambda: beside("a//b.rego"), 3),
]


@pytest.mark.parametrize(("make", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_hostile_archive_is_refused_by_its_rule(make: Callable[[], bytes], rule: int) -> None:
    tarball = make()
    began = time.process_time()
    with pytest.raises(BundleRefused) as refused:
        verified(tarball)
    assert refused.value.rule == rule, refused.value
    assert time.process_time() - began < 2.0


def test_a_bomb_takes_no_more_memory_than_the_bound() -> None:
    bombs = (zeros(128), many(60_000))
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises(BundleRefused):
                unpack(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * UNPACKED_BYTES


def test_nothing_is_written_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(unpack(good())) == {".signatures.json", *files()}
    for name in ("../up.rego", "/abs.rego"):
        with pytest.raises(BundleRefused):
            verified(beside(name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, GNU, PAX], ids=["ustar", "gnu", "pax"])
def test_what_tar_and_opa_write_is_read(format: int) -> None:
    long = "folder/" * 9 + "x" * 120 + ".rego"
    more = [member(".", b"", tarfile.DIRTYPE), member("d/", b"", tarfile.DIRTYPE), member("/a", b"1")]
    if format != tarfile.USTAR_FORMAT:
        more.append(member(long, b"2"))
    found = unpack(packed({"./data.json": b"{}"}, *more, format=format))
    assert found["data.json"] == b"{}"
    assert found["a"] == b"1"
    assert format == tarfile.USTAR_FORMAT or found[long] == b"2"
