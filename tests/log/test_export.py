"""What is taken out of the log can be judged alone: proofs, rows, a tail beside a running writer, a copy."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from gateway.core.reasons import Malformed
from gateway.log import export, tlog
from gateway.log.note import Checkpoint, Note, VerifierKey
from gateway.log.verify import Wrong, verify, verify_export, verify_proof
from tests.log.log_rig import KEY, NODE, exchanges, record, run, sequencer, written

VKEY = str(VerifierKey.of(NODE, KEY))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log")
    written(path, 300)
    return path / "log"


@pytest.mark.parametrize("seq", [0, 1, 255, 256, 511, 512, 599])
def test_a_proof_verifies_and_another_entry_does_not(log: Path, seq: int) -> None:
    proven = export.prove(log, seq, extra=b"from the demo")
    assert json.loads(proven.entry)["seq"] == seq
    assert verify_proof(proven.text, proven.entry, [VKEY]) == seq
    other = export.prove(log, (seq + 1) % 600)
    for text, entry in ((proven.text, other.entry), (other.text, proven.entry)):
        with pytest.raises(Wrong):
            verify_proof(text, entry, [VKEY])
    with pytest.raises(Wrong, match="signature"):
        verify_proof(proven.text.replace("\n600\n", "\n601\n"), proven.entry, [VKEY])
    assert proven.record()["record"] == json.loads(proven.entry)


def test_what_no_checkpoint_covers_has_no_proof_yet(log: Path) -> None:
    with pytest.raises(Malformed, match="not in a tree of 600"):
        export.prove(log, 600)


def test_a_consistency_proof_verifies(log: Path) -> None:
    entries = [entry for _, entry in export.entries(log, export.pin(log))]
    edge = tlog.Edge()
    for entry in entries[:300]:
        edge.append([tlog.leaf_hash(entry)])
    proof = export.grow(log, 300)
    assert tlog.verify_consistency(300, 600, proof, edge.root(), export.pin(log).checkpoint.root)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 0), (5, 6), (250, 300), (599, 700), (700, 800)])
def test_an_export_of_any_range_verifies(log: Path, start: int, stop: int | None) -> None:
    lines = list(export.export(log, start, stop))
    end = min(600, 600 if stop is None else stop)
    assert len(lines) == 1 + max(0, end - start)
    report = verify_export(lines, [VKEY])
    assert report.ok, report.problems
    for seq, line in enumerate(lines[1:], start):
        row = json.loads(line)
        assert (row["seq"], row["record"]["seq"]) == (seq, seq)
    assert json.loads(lines[0])["checkpoint"] == (log / "checkpoint").read_text()


def test_a_choice_of_rows_says_that_it_is_one_and_verifies(log: Path) -> None:
    lines = list(export.export(log, select=lambda record: record["kind"] == "outcome"))
    assert json.loads(lines[0])["complete"] is False
    assert len(lines) == 301
    assert verify_export(lines, [VKEY]).ok


def test_a_single_row_is_enough_to_verify_it(log: Path) -> None:
    """A SIEM that kept one row and the first line."""
    head, *rows = export.export(log, select=lambda record: True)
    assert verify_export([head, rows[317]], [VKEY]).ok


def test_an_export_pinned_to_an_older_checkpoint_does_not_move(tmp_path: Path) -> None:
    written(tmp_path, 100)
    pinned = export.pin(tmp_path / "log")
    written(tmp_path, 200)
    lines = list(export.export(tmp_path / "log", pinned=pinned))
    assert len(lines) == 201
    assert verify_export(lines, [VKEY]).ok
    assert export.prove(tmp_path / "log", 10, pinned=pinned).proof.checkpoint == pinned.note


def test_the_tail_shows_what_is_durable_and_marks_what_is_published(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 10)
        await log.checkpoint()
        await log.sequenced(log.submit(record("admin")))
        found = list(export.tail(tmp_path / "log", 0))
        assert [item.seq for item in found] == list(range(log.size))
        assert found[-1].published is False
        assert found[0].published is True
        assert found[-1].record()["kind"] == "admin"
        assert [item.seq for item in export.tail(tmp_path / "log", 18)] == list(range(18, log.size))
        assert not list(export.tail(tmp_path / "log", 1000))
        await log.close()
        assert export.last(tmp_path / "log", 5) == log.size - 5
        assert export.last(tmp_path / "log", 500) == 0

    run(main)


def test_reading_beside_a_busy_writer_never_sees_a_gap_or_a_half(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path, checkpoint_records=50, checkpoint_seconds=0.01)
        log.start(asyncio.get_running_loop())
        done = asyncio.Event()

        async def read() -> int:
            following, looks = 0, 0
            while not done.is_set():
                found = await asyncio.to_thread(list, export.tail(tmp_path / "log", following))
                assert [item.seq for item in found] == list(range(following, following + len(found)))
                following += len(found)
                report = await asyncio.to_thread(verify, tmp_path / "log", [VKEY])
                assert report.ok, report.problems
                looks += 1
            return looks

        reading = asyncio.ensure_future(read())
        await asyncio.gather(*(exchanges(log, 100) for _ in range(8)))
        done.set()
        assert await reading > 0
        await log.close()

    run(main)


def test_a_backup_is_a_log_that_verifies_and_can_be_built_upon(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path / "var", checkpoint_records=100)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 200)
        await log.sequenced(log.submit(record("intent", "big", request={"capture": "x" * 70_000})))
        log.submit(record("outcome", "big"))
        await log.checkpoint()
        copied = export.backup(tmp_path / "var" / "log", tmp_path / "restored" / "log")
        await exchanges(log, 200)
        await log.close()
        assert copied.size >= 401
        assert copied.record()["files"] == sum(
            1 for item in (tmp_path / "restored" / "log").rglob("*") if item.is_file()
        )

    run(main)
    restored = tmp_path / "restored"
    report = verify(restored / "log", [VKEY], now=time.time())
    assert report.ok, report.problems
    older = (restored / "log" / "checkpoint").read_bytes()
    assert verify(tmp_path / "var" / "log", [VKEY], since=older).ok
    written(restored, 10)
    assert verify(restored / "log", [VKEY], since=older).ok


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        export.backup(tmp_path / "log", tmp_path / "copy")


def test_a_backup_of_a_growing_log_is_of_its_checkpoint(tmp_path: Path) -> None:
    """The gateway goes on between the pin and the last file: partial tiles may be gone, the full ones stand in."""
    written(tmp_path, 100)
    pinned = export.pin(tmp_path / "log")
    written(tmp_path, 200)
    assert not (tmp_path / "log" / "tile" / "0" / "000.p").exists()
    note = Note.parse(pinned.note)
    assert Checkpoint.parse(note.text).size == 200
    current = (tmp_path / "log" / "checkpoint").read_bytes()
    (tmp_path / "log" / "checkpoint").write_bytes(pinned.note)
    copied = export.backup(tmp_path / "log", tmp_path / "copy")
    (tmp_path / "log" / "checkpoint").write_bytes(current)
    assert copied.size == 200
    assert verify(tmp_path / "copy", [VKEY]).ok
    assert os.path.getsize(tmp_path / "copy" / "tile" / "0" / "000.p" / "200") == 200 * 32
