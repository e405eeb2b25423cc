"""The verifier names what was changed: one byte anywhere, a missing file, a cut log, a broken rule (ruling 21)."""

from __future__ import annotations

import asyncio
import functools
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.log import tlog
from gateway.log.disk import RealDisk
from gateway.log.entry import encode
from gateway.log.note import Checkpoint, LogKeys, VerifierKey
from gateway.log.tiles import LogFiles, TileLog
from gateway.log.tlog import ENTRIES, Edge, tile_path
from gateway.log.verify import Report, Wrong, directory_keys, report_text, verify
from gateway.log.verify_read import Growing, edge_root, included, journal_entries, mth, place
from tests.log.log_rig import KEY, NODE, record, run, sequencer, verified, written

VKEY = str(VerifierKey.of(NODE, KEY))


def build(directory: Path, entries: list[bytes]) -> None:
    """A log directory of given entries, without a sequencer."""
    (directory / "tile").mkdir(parents=True)
    tiles = TileLog(LogFiles(directory), RealDisk(), LogKeys((KEY,)), NODE, Edge(), (), lambda name: None)
    tiles.add(entries)
    tiles.publish()
    (directory / "origin").write_text(f"{NODE}\n")


def entry(seq: int, /, **more: Any) -> bytes:
    made = {"v": 1, "seq": seq, "node": NODE, "kind": "admin", "id": f"{seq}"} | more
    return encode(made)


@functools.cache
def source(size: int) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="tollgate-log-")) / "log"
    build(directory, [entry(seq) for seq in range(size)])
    return directory


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[int], Path]:
    def make(size: int) -> Path:
        shutil.copytree(source(size), tmp_path / "log")
        return tmp_path / "log"

    return make


def check(directory: Path) -> Report:
    return verify(directory, [VKEY])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700, 65_536, 66_000])
def test_an_unchanged_log_verifies(copy: Callable[[int], Path], size: int) -> None:
    report = check(copy(size))
    assert report.ok, report.problems
    assert (report.size, report.origin, report.key) == (size, NODE, VKEY)
    assert report.kinds == ({"admin": size} if size else {})


def test_a_written_log_verifies_and_counts(tmp_path: Path) -> None:
    written(tmp_path, 400)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert report.kinds == {"intent": 400, "outcome": 400}
    assert report.checkpoint_age is not None
    assert 0 <= report.checkpoint_age < 60
    assert report.record()["ok"] is True
    assert report_text(report).startswith("ok: gw.example/log, 800 entries")


def test_every_changed_byte_of_the_checkpoint_is_named_as_its_signature(copy: Callable[[int], Path]) -> None:
    directory = copy(300)
    path = directory / "checkpoint"
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        report = check(directory)
        (problem,) = report.problems
        assert problem.where == "checkpoint"
        assert "signature" in problem.text, (at, problem)
        path.write_bytes(whole)
    at = whole.rindex(b"=") - 1  # this letter has two bits that mean nothing: the same bytes in another spelling
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(whole[at]) ^ 1]
    path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
    (problem,) = check(directory).problems
    assert "spelling" in problem.text


@pytest.mark.parametrize("size", [5, 300])
def test_every_changed_byte_of_a_bundle_names_its_entry(copy: Callable[[int], Path], size: int) -> None:
    directory = copy(size)
    n, width = divmod(size, 256)
    path = directory / tile_path(ENTRIES, n, width)
    whole = path.read_bytes()
    borders = []
    at = 0
    for item in tlog.unbundle(whole):
        borders.append(at)
        at += 2 + len(item)
    places = range(len(whole)) if size < 10 else random.Random(1).sample(range(len(whole)), 300)
    for at in places:
        flip(path, at)
        report = check(directory)
        seq = n * 256 + sum(start <= at for start in borders) - 1
        assert report.problems[0].where == "entry", (at, report.problems)
        assert report.problems[0].first == seq, (at, report.problems)
        if at - borders[seq - n * 256] >= 2:  # not a length, which moves all entries behind it
            assert len(report.problems) == 1
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("level", "n", "width", "span"),
    [
        (0, 0, 256, 1),
        (0, 255, 256, 1),
        (0, 256, 256, 1),
        (0, 257, 208, 1),
        (1, 0, 256, 256),
        (1, 1, 1, 256),
        (2, 0, 1, 65_536),
    ],
)
def test_a_changed_byte_of_a_tile_names_tile_and_range(
    copy: Callable[[int], Path], level: int, n: int, width: int, span: int
) -> None:
    directory = copy(66_000)
    path = tile_path(level, n, width)
    index = width * 3 // 4
    flip(directory / path, index * 32 + 5)
    (problem,) = check(directory).problems
    assert (problem.where, problem.path) == ("tile", path)
    assert (problem.first, problem.last) == ((n * 256 + index) * span, (n * 256 + index + 1) * span - 1)


@pytest.mark.parametrize(
    ("size", "path"),
    [
        (700, "tile/entries/000"),
        (700, "tile/entries/002.p/188"),
        (700, "tile/0/001"),
        (700, "tile/0/002.p/188"),
        (700, "tile/1/000.p/2"),
        (66_000, "tile/1/000"),
    ],
)
def test_a_missing_or_cut_file_is_named(copy: Callable[[int], Path], size: int, path: str) -> None:
    directory = copy(size)
    whole = (directory / path).read_bytes()
    for content in (None, whole[:-1], whole + b"\x00", b""):
        if content is None:
            (directory / path).unlink()
        else:
            (directory / path).write_bytes(content)
        problems = check(directory).problems
        assert problems, content
        assert all(problem.path == path for problem in problems), problems
        (directory / path).write_bytes(whole)
    assert check(directory).ok


def test_several_changes_at_once_are_all_named(copy: Callable[[int], Path]) -> None:
    directory = copy(66_000)
    flip(directory / "tile/entries/003", 100)
    flip(directory / "tile/0/009", 64)
    flip(directory / "tile/1/000", 32 * 40)
    flip(directory / "tile/entries/257.p/208", 5)
    problems = check(directory).problems
    named = {(problem.where, problem.path) for problem in problems}
    assert named == {
        ("entry", "tile/entries/003"),
        ("tile", "tile/0/009"),
        ("tile", "tile/1/000"),
        ("entry", "tile/entries/257.p/208"),
    }


def test_an_entry_changed_together_with_its_tile_is_named_by_its_range(copy: Callable[[int], Path]) -> None:
    """The forger fixed the tile too: the tile above still knows better."""
    directory = copy(66_000)
    path = directory / "tile/entries/003"
    flip(path, 100)
    hashes = [tlog.leaf_hash(item) for item in tlog.unbundle(path.read_bytes())]
    (directory / "tile/0/003").write_bytes(b"".join(hashes))
    (problem,) = check(directory).problems
    assert (problem.where, problem.path, problem.first, problem.last) == ("tile", "tile/0/003", 768, 1023)


def test_everything_rewritten_under_another_key_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "log", [entry(seq) for seq in range(10)])
    forged = Ed25519PrivateKey.from_private_bytes(bytes(32))
    note = (tmp_path / "log" / "checkpoint").read_bytes()
    (tmp_path / "log" / "checkpoint").write_bytes(Checkpoint.parse(note.rpartition(b"\n\n")[0] + b"\n").signed(forged))
    (problem,) = check(tmp_path / "log").problems
    assert "none of the given keys" in problem.text
    assert verify(tmp_path / "log", [str(VerifierKey.of(NODE, forged))]).ok, "with the forger's key it would pass"


def test_any_of_several_keys_will_do(copy: Callable[[int], Path]) -> None:
    other = str(VerifierKey.of(NODE, Ed25519PrivateKey.from_private_bytes(bytes(32))))
    assert verify(copy(3), [other, VKEY]).ok
    with pytest.raises(Wrong):
        verify(source(3), ["no key"])


def test_the_key_in_the_directory_can_be_read(tmp_path: Path) -> None:
    written(tmp_path, 1)
    assert directory_keys(tmp_path / "log") == [VKEY]
    (tmp_path / "log" / "vkey").unlink()
    with pytest.raises(Wrong, match="vkey"):
        directory_keys(tmp_path / "log")


def test_no_directory_is_no_log(tmp_path: Path) -> None:
    (problem,) = check(tmp_path / "log").problems
    assert problem.where == "checkpoint"


def test_another_origin_file_is_named(copy: Callable[[int], Path]) -> None:
    directory = copy(3)
    (directory / "origin").write_text("another\n")
    (problem,) = check(directory).problems
    assert problem.where == "origin"


# Growth


def test_growth_from_an_older_checkpoint_is_proved(tmp_path: Path) -> None:
    written(tmp_path, 100)
    older = (tmp_path / "log" / "checkpoint").read_bytes()
    assert verified(tmp_path, since=older).since == 200
    written(tmp_path, 400)
    report = verified(tmp_path, since=older)
    assert report.ok, report.problems
    assert (report.size, report.since) == (1000, 200)


def test_every_log_grew_from_the_empty_one(tmp_path: Path) -> None:
    written(tmp_path, 0)
    older = (tmp_path / "log" / "checkpoint").read_bytes()
    written(tmp_path, 300)
    report = verified(tmp_path, since=older)
    assert (report.ok, report.since) == (True, 0)


def test_a_log_that_was_cut_or_rewritten_is_told_by_an_older_checkpoint(tmp_path: Path) -> None:
    """The holder of the key rewrites history: the directory is whole by itself, the older checkpoint says otherwise."""
    entries = [entry(seq) for seq in range(600)]
    build(tmp_path / "full" / "log", entries)
    older = (tmp_path / "full" / "log" / "checkpoint").read_bytes()
    build(tmp_path / "cut" / "log", entries[:500])
    build(tmp_path / "other" / "log", [*entries[:300], entry(300, id="x"), *entries[301:], entry(600)])
    for name, text in (("cut", "it was cut"), ("other", "not those that were signed")):
        directory = tmp_path / name / "log"
        assert check(directory).ok
        (problem,) = verify(directory, [VKEY], since=older).problems
        assert problem.where == "growth"
        assert text in problem.text


def test_an_older_checkpoint_with_a_wrong_signature_proves_nothing(copy: Callable[[int], Path]) -> None:
    directory = copy(3)
    older = (directory / "checkpoint").read_bytes().replace(b"\n3\n", b"\n2\n")
    (problem,) = verify(directory, [VKEY], since=older).problems
    assert (problem.where, "signature" in problem.text) == ("growth", True)


# The records' own rules

INTENT = {"kind": "intent", "exchange": "x"}
OUTCOME = {"kind": "outcome", "exchange": "x", "result": "ok"}
REFUSAL = {"kind": "refusal", "exchange": "x"}


@pytest.mark.parametrize(
    ("records", "wrong"),
    [
        ([INTENT, OUTCOME], None),
        ([REFUSAL], None),
        ([{"kind": "refusal"}, {"kind": "refusal"}], None),
        ([INTENT], None),
        ([INTENT, INTENT], 1),
        ([OUTCOME], 0),
        ([INTENT, OUTCOME, OUTCOME], 2),
        ([INTENT, REFUSAL], 1),
        ([REFUSAL, REFUSAL], 1),
        ([REFUSAL, OUTCOME], 1),
        ([INTENT, OUTCOME, INTENT], 2),
        ([INTENT, {**OUTCOME, "result": "fine"}], 1),
        ([{"kind": "other"}], 0),
        ([{"kind": "intent"}], 0),
        ([{"seq": 1}], 0),
        ([{"v": 2}], 0),
        ([{"node": "another"}], 0),
    ],
)
def test_the_rules_of_records_are_checked(tmp_path: Path, records: list[dict[str, Any]], wrong: int | None) -> None:
    build(tmp_path / "log", [entry(seq, **more) for seq, more in enumerate(records)])
    report = check(tmp_path / "log")
    assert [problem.first for problem in report.problems] == ([] if wrong is None else [wrong]), report.problems
    assert all(problem.where == "record" for problem in report.problems)
    if records == [INTENT]:
        assert report.in_flight == (("x", 0),)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v": 1}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b"\xff"])
def test_an_entry_that_is_no_canonical_object_is_named(tmp_path: Path, data: bytes) -> None:
    build(tmp_path / "log", [data])
    (problem,) = check(tmp_path / "log").problems
    assert (problem.where, problem.first) == ("record", 0)


def test_pending_records_of_the_journal_are_judged_too(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await log.sequenced(log.submit(record("intent", "x")))
        assert verified(tmp_path).pending == 1
        assert verified(tmp_path).in_flight == (("x", 0),)
        await log.sequenced(log.submit(record("intent", "x")))
        (problem,) = verified(tmp_path).problems
        assert "second intent" in problem.text
        await log.close()

    run(main)


def test_a_journal_that_is_written_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["a gap to 4", "a gap to 9"]

    def moving(directory: Path, size: int) -> tuple[int, list[bytes]]:
        if said:
            raise Wrong(said.pop(0))
        return journal_entries(directory, size)

    written(tmp_path, 3)
    monkeypatch.setattr("gateway.log.verify.journal_entries", moving)
    assert verified(tmp_path).ok
    said[:] = ["a gap to 4", "a gap to 4"]  # it is at rest, and still not whole
    assert [problem.text for problem in verified(tmp_path).problems] == ["a gap to 4"]
    said[:] = [f"a gap to {seq}" for seq in range(100)]
    assert [problem.where for problem in verified(tmp_path).problems] == ["journal"]


def test_a_log_without_its_journal_has_nothing_pending(tmp_path: Path) -> None:
    written(tmp_path / "var", 3)
    shutil.copytree(tmp_path / "var" / "log", tmp_path / "elsewhere")
    report = verify(tmp_path / "elsewhere", [VKEY])
    assert report.ok
    assert report.pending == 0


# The verifier's own arithmetic against the writer's


@pytest.mark.parametrize("size", [0, 1, 5, 256, 300, 700])
def test_both_code_paths_compute_the_same_tree(size: int) -> None:
    hashes = [tlog.leaf_hash(f"{i}".encode()) for i in range(size)]
    edge, tiles = Edge(), {}
    growing = Growing()
    for value in hashes:
        growing.add(value)
        for tile in edge.append([value]):
            tiles[tile.level, tile.n] = tile.data
    for tile in edge.partial():
        tiles[tile.level, tile.n] = tile.data
    assert mth(hashes) == edge.root() == growing.root() == edge_root(edge.levels)
    for index in range(0, size, 17):
        proof = tlog.inclusion_proof(lambda level, n: tiles[level, n], index, size)
        assert included(hashes[index], index, size, proof, edge.root())
        assert not included(hashes[index], index + 1, size, proof, edge.root())
        assert not included(hashes[index], index, size, proof[1:], edge.root()) or not proof


@pytest.mark.parametrize("n", [0, 7, 999, 1000, 1_234_067, 12_345_678_901])
def test_both_code_paths_name_tiles_alike(n: int) -> None:
    assert place("0", n) == tile_path(0, n)
    assert place("entries", n, 3) == tile_path(ENTRIES, n, 3)
