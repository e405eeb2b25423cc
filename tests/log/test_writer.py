"""The sequencer: order, durability before acknowledgement, bounds, failure and repair."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.reasons import LogUnavailable, Malformed
from gateway.log import export
from gateway.log.journal import replay
from gateway.log.tlog import ENTRY_BYTES
from gateway.log.verify import verify
from gateway.log.writer import BLOB_BYTES, Sequencer
from tests.log.log_rig import FaultyDisk, eventually, exchange_id, exchanges, record, run, sequencer, verified


def stored(data_dir: Path) -> list[dict[str, object]]:
    return [json.loads(entry) for _, entry in export.entries(data_dir / "log", export.pin(data_dir / "log"))]


def test_records_are_completed_and_numbered_from_zero(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        seqs = [log.submit(record("activation", what=f"{i}")) for i in range(5)]
        assert seqs == [0, 1, 2, 3, 4]
        await log.sequenced(4)
        assert log.size == 5
        await log.close()

    run(main)
    found = stored(tmp_path)
    assert [(item["seq"], item["v"], item["node"], item["what"]) for item in found] == [
        (i, 1, "gw.example/log", f"{i}") for i in range(5)
    ]
    assert verified(tmp_path).ok


def test_sequenced_returns_after_the_entry_is_in_the_journal(tmp_path: Path) -> None:
    """Read back from the files at the moment of the acknowledgement."""

    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        for number in range(20):
            exchange = exchange_id()
            seq = log.submit(record("intent", exchange))
            await log.sequenced(seq)
            assert json.loads(replay(tmp_path / "journal", 0).entries[seq])["exchange"] == exchange, number
        await log.close()

    run(main)


def test_nothing_is_acknowledged_before_the_synced_write_returned(tmp_path: Path) -> None:
    class SlowDisk(FaultyDisk):
        gate = threading.Event()

        def append(self, fd: int, data: bytes, offset: int) -> None:
            self.gate.wait(20)
            super().append(fd, data, offset)

    async def main() -> None:
        disk = SlowDisk()
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(log.sequenced(log.submit(record("intent", exchange_id()))))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        assert (log.size, log.unsequenced) == (0, 1)
        disk.gate.set()
        await waiting
        assert (log.size, log.unsequenced) == (1, 0)
        await log.close()

    run(main)


def test_many_coroutines_make_one_chain(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path, checkpoint_records=256)
        log.start(asyncio.get_running_loop())
        await asyncio.gather(*(exchanges(log, 25) for _ in range(40)))
        await log.close()

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert report.size == 2000
    assert report.kinds == {"intent": 1000, "outcome": 1000}


def test_commits_are_shared_under_load(tmp_path: Path) -> None:
    commits: list[float] = []

    async def main() -> None:
        log = sequencer(tmp_path, observe_append=commits.append, segment_bytes=1 << 20)
        log.start(asyncio.get_running_loop())
        await asyncio.gather(*(exchanges(log, 20) for _ in range(50)))
        await log.close()

    run(main)
    assert len(commits) < 500, "each of 1,000 intents had a commit of its own"


def test_an_outcome_is_written_though_nobody_waits(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        log.submit(record("refusal", exchange_id()))
        await eventually(lambda: log.size == 1)
        await log.close()

    run(main)


def test_a_waiter_that_goes_away_takes_nobody_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        first, second = (log.submit(record("intent", exchange_id())) for _ in range(2))
        gone = asyncio.ensure_future(log.sequenced(first))
        stays = asyncio.ensure_future(log.sequenced(second))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert gone.cancelled() or gone.done()
        await log.close()

    run(main)
    assert verified(tmp_path).size == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "other"},
        {"kind": "intent"},
        {"kind": "intent", "exchange": ""},
        {"kind": "outcome"},
        {"kind": "refusal", "exchange": 7},
        {"kind": "admin", "x": 2**60},
        {"kind": "admin", "x": "\ud800"},
        {"kind": "admin", "x": list(range(100_000))},
    ],
)
def test_a_record_that_cannot_be_an_entry_is_refused_and_takes_no_seq(tmp_path: Path, wrong: dict[str, object]) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        with pytest.raises(Malformed):
            log.submit(wrong)  # type: ignore[arg-type]
        assert log.submit(record("admin")) == 0
        await log.close()

    run(main)
    assert verified(tmp_path).ok


def test_a_refusal_of_bytes_that_made_no_exchange_is_a_record(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        log.submit({"kind": "refusal", "request": {"peer": "127.0.0.1"}})
        await log.close()

    run(main)
    assert verified(tmp_path).ok


def test_a_large_capture_lies_in_a_blob_before_its_entry_is_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        capture = {"text": "x" * (2 * ENTRY_BYTES)}
        await log.sequenced(log.submit(record("intent", "e1", request={"capture": capture})))
        (blob,) = (tmp_path / "log" / "blob").iterdir()
        assert json.loads(blob.read_bytes()) == capture
        log.submit(record("outcome", "e1"))
        await log.close()
        assert verified(tmp_path).ok
        blob.write_bytes(blob.read_bytes()[:-2] + b"y}")
        (problem,) = verified(tmp_path).problems
        assert (problem.where, problem.first) == ("blob", 0)
        blob.unlink()
        (problem,) = verified(tmp_path).problems
        assert "missing" in problem.text

    run(main)


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    """No commit is under way yet, so nothing leaves the queue."""
    log = sequencer(tmp_path, queue_records=10)
    for _ in range(10):
        log.submit(record("admin"))
    with pytest.raises(LogUnavailable, match="queue"):
        log.submit(record("admin"))
    assert log.unsequenced == 10

    async def main() -> None:
        log.start(asyncio.get_running_loop())
        await eventually(lambda: log.unsequenced == 0)
        log.submit(record("admin"))
        await log.close()

    run(main)
    assert verified(tmp_path).size == 11


def test_a_full_queue_still_takes_the_outcomes_of_what_was_forwarded(tmp_path: Path) -> None:
    log = sequencer(tmp_path, queue_records=10)
    for number in range(10):
        log.submit(record("intent", exchange=f"e-{number}"))
    for number in range(10):
        log.submit(record("outcome", exchange=f"e-{number}", result="ok"))
    with pytest.raises(LogUnavailable, match="queue"):
        log.submit(record("intent", exchange="one more"))

    async def main() -> None:
        log.start(asyncio.get_running_loop())
        await log.close()

    run(main)
    assert verified(tmp_path).size == 20


def test_too_many_bytes_on_their_way_to_the_tiles_refuse(tmp_path: Path) -> None:
    log = sequencer(tmp_path, queue_bytes=50_000)
    log.submit(record("admin", text="x" * 60_000))
    with pytest.raises(LogUnavailable):
        log.submit(record("admin"))

    async def main() -> None:
        log.start(asyncio.get_running_loop())
        await log.sequenced(0)
        await log.checkpoint()
        log.submit(record("admin"))
        await log.close()

    run(main)


def test_too_many_captures_on_their_way_to_their_blobs_refuse(tmp_path: Path) -> None:
    log = sequencer(tmp_path, queue_bytes=3 * BLOB_BYTES)
    capture = {"text": "x" * 70_000}
    for _ in range(4):
        log.submit(record("admin", request={"capture": capture}))
    with pytest.raises(LogUnavailable, match="queue"):
        log.submit(record("admin"))

    async def main() -> None:
        log.start(asyncio.get_running_loop())
        await log.sequenced(3)
        log.submit(record("admin"))
        await log.close()

    run(main)


def test_the_listener_gets_every_entry_once_and_in_order(tmp_path: Path) -> None:
    heard: list[tuple[int, bytes]] = []

    async def main() -> None:
        log = sequencer(tmp_path, listener=heard.extend)
        log.start(asyncio.get_running_loop())
        await asyncio.gather(*(exchanges(log, 30) for _ in range(5)))
        await log.close()

    run(main)
    assert heard == list(export.entries(tmp_path / "log", export.pin(tmp_path / "log")))
    assert len(heard) == 300


def test_a_listener_that_fails_gets_the_same_entries_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[int, bytes]] = []
    attempts = itertools.count()

    def listener(pairs: list[tuple[int, bytes]]) -> None:
        if next(attempts) < 2:
            raise ValueError("the index is not ready")
        heard.extend(pairs)

    async def main() -> None:
        log = sequencer(tmp_path, listener=listener)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 5)
        await eventually(lambda: len(heard) == 10)
        await log.close()

    run(main)
    assert [seq for seq, _ in heard] == list(range(10))
    assert "the index is not ready" in caplog.text


def test_checkpoints_come_by_records_by_time_and_when_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = sequencer(tmp_path / "records", checkpoint_records=100)
        log.start(loop)
        await asyncio.gather(*(exchanges(log, 10) for _ in range(30)))
        await eventually(lambda: log.published.size >= 512)
        assert log.published.size % 256 == 0, "a checkpoint by count ends on a whole tile where one is near"
        await log.close()
        log = sequencer(tmp_path / "time", checkpoint_seconds=0.05)
        log.start(loop)
        await exchanges(log, 1)
        await eventually(lambda: log.published.size == 2)
        assert log.pending == 0
        await log.close()
        log = sequencer(tmp_path / "asked")
        log.start(loop)
        await exchanges(log, 3)
        assert log.published.size == 0
        assert log.pending >= 5
        assert (await log.checkpoint()).size >= 5
        assert log.checkpoint_age < 10
        await log.close()
        with pytest.raises(LogUnavailable):
            await log.checkpoint()

    run(main)
    for name in ("records", "time", "asked"):
        assert verified(tmp_path / name).ok


def test_every_checkpoint_is_consistent_with_the_one_before(tmp_path: Path) -> None:
    notes: list[bytes] = []

    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        for count in (1, 3, 120, 8, 250, 1):
            await exchanges(log, count)
            await log.checkpoint()
            notes.append((tmp_path / "log" / "checkpoint").read_bytes())
            assert verified(tmp_path).ok
        await log.close()

    run(main)
    for note in notes:
        report = verified(tmp_path, since=note)
        assert report.ok, report.problems
        assert report.since is not None


def test_outgrown_partial_tiles_are_removed_and_the_others_stay(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        for _ in range(3):
            await exchanges(log, 50)
            await log.checkpoint()
        await log.close()

    run(main)
    tiles = tmp_path / "log" / "tile"
    assert not (tiles / "0" / "000.p").exists()
    assert not (tiles / "entries" / "000.p").exists()
    assert (tiles / "0" / "001.p" / "44").exists()


def test_after_close_nothing_is_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        assert not log.healthy
        log.start(asyncio.get_running_loop())
        await eventually(lambda: log.healthy)
        seq = log.submit(record("admin"))
        await log.close()
        await log.close()
        assert not log.healthy
        await log.sequenced(seq)
        for kind in ("admin", "outcome"):
            with pytest.raises(LogUnavailable, match="closed"):
                log.submit(record(kind, "x"))

    run(main)
    assert verified(tmp_path).size == 1


def test_close_drains_what_was_submitted(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        for _ in range(5000):
            log.submit(record("admin"))
        await log.close()

    run(main)
    report = verified(tmp_path)
    assert (report.ok, report.size, report.pending) == (True, 5000, 0)


def test_an_unknown_seq_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        with pytest.raises(LogUnavailable, match="not submitted"):
            await log.sequenced(0)
        await log.close()

    run(main)


# R3: full disk, input/output errors


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_disk_refuses_who_waits_and_comes_back_by_itself(tmp_path: Path, error: int) -> None:
    disk = FaultyDisk()
    disk.error = error

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        (closed,) = await exchanges(log, 1)
        open_exchange = exchange_id()
        await log.sequenced(log.submit(record("intent", open_exchange)))
        await log.checkpoint()
        disk.broken = {"append", "allocate"}
        refused = exchange_id()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LogUnavailable, match="cannot be written"):
            await log.sequenced(log.submit(record("intent", refused)))
        assert loop.time() - begun < 1.0
        assert not log.healthy
        with pytest.raises(LogUnavailable):
            log.submit(record("intent", exchange_id()))
        with pytest.raises(LogUnavailable):
            log.submit(record("refusal", refused))
        log.submit(record("outcome", open_exchange))  # its call is over: it is kept
        with pytest.raises(LogUnavailable):
            await log.sequenced(log.size)
        disk.broken = set()
        assert await eventually(lambda: log.healthy) < 5.0
        await exchanges(log, 2)
        await log.close()
        found = stored(tmp_path)
        assert [item["seq"] for item in found] == list(range(len(found)))
        assert refused not in {item["exchange"] for item in found}, "what was refused was written"
        outcomes = [item["exchange"] for item in found if item["kind"] == "outcome"]
        assert outcomes[:2] == [closed, open_exchange]

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert not report.in_flight


def test_what_nobody_waits_for_survives_a_failed_commit_in_its_order(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 1)
        await log.checkpoint()
        disk.broken = {"append", "allocate"}
        lazy = exchange_id()
        log.submit(record("intent", lazy))  # as on a standard route
        waited = log.submit(record("intent", "waited"))
        log.submit(record("admin", what="kept"))
        with pytest.raises(LogUnavailable):
            await log.sequenced(waited)
        log.submit(record("outcome", lazy))
        disk.broken = set()
        await eventually(lambda: log.healthy)
        await log.close()
        found = [(item["kind"], item.get("exchange")) for item in stored(tmp_path)[2:]]
        assert found == [("intent", lazy), ("admin", None), ("outcome", lazy)]

    run(main)
    assert verified(tmp_path).ok


def stand_still_until_it_failed(log: Sequencer) -> None:
    """Keeps the loop from hearing of the failure."""
    deadline = time.monotonic() + 20
    while log._committer.down is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_outcome_that_comes_while_a_failure_is_under_way_stays_behind_its_intent(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        disk.broken = {"append", "allocate"}
        log.submit(record("intent", "lazy"))
        log._lazily()
        stand_still_until_it_failed(log)
        log.submit(record("outcome", "lazy"))
        disk.broken = set()
        await eventually(lambda: log.size == 2)
        await log.close()

    run(main)
    assert [item["kind"] for item in stored(tmp_path)] == ["intent", "outcome"]
    assert verified(tmp_path).ok


def test_a_large_capture_survives_a_failed_commit(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 1)
        disk.broken = {"append", "allocate", "replace"}
        log.submit(record("intent", "big", request={"capture": "x" * 100_000}))
        with pytest.raises(LogUnavailable):
            await log.sequenced(log.submit(record("intent", "other")))
        log.submit(record("outcome", "big", response={"capture": "y" * 100_000}))
        disk.broken = set()
        await eventually(lambda: log.healthy)
        await log.close()

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert len(list((tmp_path / "log" / "blob").iterdir())) == 2


def test_a_held_queue_is_bounded(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk, queue_records=5)
        log.start(asyncio.get_running_loop())
        disk.broken = {"append", "allocate"}
        with pytest.raises(LogUnavailable):
            await log.sequenced(log.submit(record("intent", "x")))
        for number in range(5):
            log.submit(record("outcome", f"{number}"))
        with pytest.raises(LogUnavailable):
            log.submit(record("outcome", "one too many"))
        await log.close()

    run(main)


def test_closing_while_the_disk_fails_ends(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        await log.sequenced(log.submit(record("intent", "open")))
        disk.broken = {"append", "allocate", "replace", "sync_dir"}
        with pytest.raises(LogUnavailable):
            await log.sequenced(log.submit(record("intent", "x")))
        log.submit(record("outcome", "open"))
        await log.close()

    run(main)
    again = sequencer(tmp_path)
    assert again.recovery.closed == ("open",), "its outcome was lost with the disk, so it is unknown"
    run(again.close)
    assert verified(tmp_path).ok


def test_tiles_that_cannot_be_written_are_written_later_and_the_journal_keeps_all(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk, checkpoint_seconds=0.01)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 2)
        await eventually(lambda: log.published.size == 4)
        disk.broken = {"replace"}
        await asyncio.gather(*(exchanges(log, 40) for _ in range(10)))
        with pytest.raises(LogUnavailable):
            await log.checkpoint()
        assert log.healthy, "records are durable all the same"
        assert log.pending > 0
        disk.broken = set()
        assert await eventually(lambda: log.pending == 0) < 5.0
        await log.close()

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert report.size == 804


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", mount]).returncode:
        pytest.skip("a file system of its own needs root: the injected ENOSPC above stands for it")
    yield mount
    subprocess.run(["umount", mount], check=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def until_refused(log: Sequencer, acknowledged: list[str]) -> None:
    for _ in range(100_000):
        try:
            acknowledged.extend(await exchanges(log, 1))
        except LogUnavailable:
            return
    raise AssertionError("a full disk refused nothing")


def test_a_disk_that_is_really_full_refuses_and_recovers_when_there_is_space(small_disk: Path) -> None:
    acknowledged: list[str] = []

    async def main() -> None:
        log = sequencer(small_disk / "var", segment_bytes=64 * 1024, checkpoint_seconds=0.02)
        log.start(asyncio.get_running_loop())
        acknowledged.extend(await exchanges(log, 20))
        filler = small_disk / "filler"
        fill(filler)
        await until_refused(log, acknowledged)
        assert not log.healthy
        filler.unlink()
        assert await eventually(lambda: log.healthy) < 5.0
        acknowledged.extend(await exchanges(log, 20))
        await log.close()

    run(main)
    shutil.copytree(small_disk / "var", small_disk.parent / "copy")
    report = verified(small_disk.parent / "copy")
    assert report.ok, report.problems
    assert not report.in_flight
    found = {item["exchange"] for item in stored(small_disk.parent / "copy")}
    assert set(acknowledged) <= found


def test_the_key_in_the_directory_is_the_one_that_signs(tmp_path: Path) -> None:
    log = sequencer(tmp_path)
    run(log.close)
    assert (tmp_path / "log" / "vkey").read_text().strip() == log.vkey
    assert verify(tmp_path / "log", [log.vkey]).ok
    assert (tmp_path / "log" / "origin").read_text() == "gw.example/log\n"
