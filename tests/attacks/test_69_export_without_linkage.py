"""One exported row is deleted, moved, edited, added or invented: the verifier of exports names it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.log import export
from gateway.log.disk import RealDisk
from gateway.log.entry import encode
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.tiles import LogFiles, TileLog
from gateway.log.tlog import Edge, leaf_hash
from gateway.log.verify import Report, verify_export
from tests.log.log_rig import KEY, NODE, written

ROW = 69
VKEY = str(VerifierKey.of(NODE, KEY))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("log")
    written(path, 150)
    return list(export.export(path / "log"))


def judge(lines: list[bytes]) -> list[tuple[int | None, int | None]]:
    report = verify_export(lines, [VKEY])
    assert report.ok == (not report.problems)
    return [(problem.first, problem.last) for problem in report.problems]


def test_an_untouched_export_verifies(lines: list[bytes]) -> None:
    assert judge(lines) == []


@pytest.mark.parametrize("seq", [0, 1, 100, 298, 299])
def test_a_deleted_row_is_named(lines: list[bytes], seq: int) -> None:
    assert judge(lines[: 1 + seq] + lines[2 + seq :]) == [(seq, seq)]


def test_a_cut_tail_is_named(lines: list[bytes]) -> None:
    assert judge(lines[:200]) == [(199, 299)]


def test_a_moved_row_is_named(lines: list[bytes]) -> None:
    moved = [*lines[:50], lines[51], lines[50], *lines[52:]]
    assert judge(moved) == [(49, 49), (49, 49)]


def test_a_doubled_row_is_named(lines: list[bytes]) -> None:
    assert judge([*lines[:51], lines[50], *lines[51:]]) == [(49, 49)]


@pytest.mark.parametrize("seq", [0, 77, 299])
@pytest.mark.parametrize("fix_leaf", [False, True])
def test_an_edited_row_is_named(lines: list[bytes], seq: int, fix_leaf: bool) -> None:
    row = json.loads(lines[1 + seq])
    row["record"]["subject"]["id"] = "agent:idp/somebody-else"
    if fix_leaf:
        entry = json.dumps(row["record"], separators=(",", ":"), sort_keys=True).encode()
        row["leaf"] = base64.b64encode(leaf_hash(entry)).decode()
    edited = [*lines[: 1 + seq], json.dumps(row).encode(), *lines[2 + seq :]]
    assert judge(edited) == [(seq, seq)]


def test_a_record_under_another_seq_is_named(lines: list[bytes]) -> None:
    row = json.loads(lines[11])
    row["seq"] = 11
    assert judge([*lines[:11], json.dumps(row).encode(), *lines[12:]])[0] == (10, 10)


def test_a_changed_leaf_hash_is_named(lines: list[bytes]) -> None:
    row = json.loads(lines[11])
    row["leaf"] = json.loads(lines[12])["leaf"]
    assert judge([*lines[:11], json.dumps(row).encode(), *lines[12:]]) == [(10, 10)]


def test_a_log_that_was_signed_with_a_wrong_seq_inside_is_named(tmp_path: Path) -> None:
    tiles = TileLog(LogFiles(tmp_path), RealDisk(), LogKeys((KEY,)), NODE, Edge(), (), lambda name: None)
    tiles.add([encode({"seq": seq}) for seq in (0, 1, 3, 3)])
    tiles.publish()
    assert judge(list(export.export(tmp_path))) == [(2, 2)]


def test_a_member_that_is_there_twice_is_no_row(lines: list[bytes]) -> None:
    """Parsers differ in which one they take: the verifier's and the reader's must not."""
    doubled = lines[11].replace(b'{"leaf"', b'{"record":{"kind":"admin"},"leaf"', 1)
    assert doubled != lines[11]
    assert judge([*lines[:11], doubled, *lines[12:]]) == [(10, 10)]


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"not json", b'{"seq":-1}', b'{"seq":10}', b'{"seq":true}'])
def test_what_is_no_row_is_named(lines: list[bytes], line: bytes) -> None:
    assert judge([*lines[:11], line, *lines[12:]]) == [(10, 10)]


def test_a_header_that_promises_less_is_still_bound_by_the_signature(lines: list[bytes]) -> None:
    head = json.loads(lines[0])
    head["checkpoint"] = head["checkpoint"].replace("\n300\n", "\n200\n")
    report: Report = verify_export([json.dumps(head).encode(), *lines[1:201]], [VKEY])
    assert not report.ok
    assert "signature" in report.problems[0].text


def test_an_export_under_another_key_is_refused(lines: list[bytes]) -> None:
    other = str(VerifierKey.of(NODE, Ed25519PrivateKey.from_private_bytes(bytes(32))))
    assert not verify_export(lines, [other]).ok


def test_no_lines_are_no_export() -> None:
    assert not verify_export([], [VKEY]).ok
