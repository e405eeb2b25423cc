"""The start: what a directory must be to be built upon, and what becomes of calls that were in flight."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.log import export
from gateway.log.disk import DataDirLocked
from gateway.log.journal import JournalDamaged, replay, segment_paths
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.recovery import OriginMismatch, closing
from gateway.log.tiles import LogDamaged
from gateway.log.verify import verify
from tests.log.log_rig import KEY, NODE, eventually, record, run, sequencer, verified, written

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def stored(data_dir: Path) -> list[dict[str, object]]:
    directory = data_dir / "log"
    return [json.loads(entry) for _, entry in export.entries(directory, export.pin(directory))]


def crashed(tmp_path: Path, open_exchanges: int = 3, whole: int = 10, published: bool = False) -> Path:
    """A copy of a directory at work: the state that a dead process leaves."""
    copy = tmp_path / "dead"

    async def main() -> None:
        log = sequencer(tmp_path / "alive")
        log.start(asyncio.get_running_loop())
        for number in range(open_exchanges):
            intent = record("intent", f"open-{number}", route="weather", trace_id="c" * 32)
            await log.sequenced(log.submit(intent))
        for number in range(whole):
            log.submit(record("intent", f"whole-{number}"))
            log.submit(record("outcome", f"whole-{number}"))
        await eventually(lambda: log.size == open_exchanges + 2 * whole)
        if published:
            await log.checkpoint()
        shutil.copytree(tmp_path / "alive", copy)
        await log.close()

    run(main)
    return copy


@pytest.mark.parametrize("published", [False, True])
def test_calls_in_flight_are_closed_as_unknown_and_one_record_says_so(tmp_path: Path, published: bool) -> None:
    dead = crashed(tmp_path, published=published)
    before = verified(dead)
    assert before.ok
    assert [exchange for exchange, _ in before.in_flight] == ["open-0", "open-1", "open-2"]
    assert before.pending == (0 if published else 23)
    log = sequencer(dead)
    assert log.recovery.closed == ("open-0", "open-1", "open-2")
    assert log.recovery.replayed == before.pending
    run(log.close)
    after = verified(dead)
    assert after.ok, after.problems
    assert (after.size, after.pending, after.unknown, after.in_flight) == (27, 0, 3, ())
    *_, first, second, third, last = stored(dead)
    for seq, item in enumerate((first, second, third)):
        assert (item["kind"], item["result"], item["exchange"]) == ("outcome", "unknown", f"open-{seq}")
        assert item["intent"] == seq
        assert (item["route"], item["trace_id"], item["action"]) == ("weather", "c" * 32, "mcp.tools/call")
    assert last["kind"] == "recovery"
    assert last["recovery"] == {"closed": 3, "replayed": before.pending, "torn": False}


def test_what_is_closed_as_unknown_is_settled_at_all_that_it_had_reserved() -> None:
    money = {"key": ["acme"], "name": "month", "period": "2026-11-01T00:00:00Z", "reserved": "0.5", "unit": "usd"}
    more = {"key": ["acme", "w"], "name": "day", "period": "2026-11-22T00:00:00Z", "reserved": "12.25", "unit": "usd"}
    calls = {"key": ["acme"], "name": "calls", "reserved": "1", "unit": "calls"}
    intent = record("intent", "x", budgets=[money, more, calls])
    found = closing(intent, 7)
    assert found["budgets"] == [{**money, "settled": "0.5"}, {**more, "settled": "12.25"}, {**calls, "settled": "1"}]
    assert found["usage"] == {"bytes_in": 0, "bytes_out": 0, "calls": 1, "estimated": True, "usd": "12.25"}
    assert (found["result"], found["intent"]) == ("unknown", 7)
    assert not {"budgets", "usage"} & set(closing(record("intent", "y"), 8))
    assert "usage" not in closing(record("intent", "z", budgets=[calls]), 9)


def test_a_second_start_recovers_nothing_more(tmp_path: Path) -> None:
    dead = crashed(tmp_path)
    run(sequencer(dead).close)
    size = verified(dead).size
    log = sequencer(dead)
    assert (log.recovery.closed, log.recovery.replayed) == ((), 0)
    run(log.close)
    assert verified(dead).size == size


def test_a_clean_stop_leaves_nothing_to_recover(tmp_path: Path) -> None:
    written(tmp_path, 40)
    log = sequencer(tmp_path)
    assert (log.recovery.size, log.recovery.closed, log.recovery.replayed) == (80, (), 0)
    run(log.close)
    assert verified(tmp_path).size == 80


def test_the_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for _ in range(4):
        written(tmp_path, 100)
    report = verified(tmp_path)
    assert report.ok, report.problems
    assert report.size == 800


def test_a_torn_tail_is_dropped_and_told(tmp_path: Path) -> None:
    dead = crashed(tmp_path)
    (path,) = [path for path in segment_paths(dead / "journal") if b"whole-9" in path.read_bytes()]
    data = bytearray(path.read_bytes())
    at = data.rindex(b"whole-9")
    data[at : at + 3] = bytes(3)
    path.write_bytes(data)
    log = sequencer(dead)
    assert log.recovery.torn
    run(log.close)
    after = verified(dead)
    assert after.ok, after.problems
    assert stored(dead)[-1]["recovery"] == {"closed": 3, "replayed": log.recovery.replayed, "torn": True}


def test_open_calls_are_found_in_the_log_itself_when_the_journal_is_gone(tmp_path: Path) -> None:
    """As after restoring a backup of the log directory."""
    dead = crashed(tmp_path, published=True)
    shutil.rmtree(dead / "journal")
    log = sequencer(dead)
    assert log.recovery.closed == ("open-0", "open-1", "open-2")
    run(log.close)
    assert verified(dead).ok


def test_open_calls_are_remembered_over_many_journal_segments(tmp_path: Path) -> None:
    copy = tmp_path / "dead"

    async def main() -> None:
        log = sequencer(tmp_path / "alive", segment_bytes=4096, checkpoint_records=50)
        log.start(asyncio.get_running_loop())
        await log.sequenced(log.submit(record("intent", "long stream")))
        for number in range(300):
            seq = log.submit(record("intent", f"{number}"))
            log.submit(record("outcome", f"{number}"))
            if number % 5 == 0:
                await log.sequenced(seq)
        await eventually(lambda: log.size == 601)
        await log.checkpoint()
        shutil.copytree(tmp_path / "alive", copy)
        await log.close()

    run(main)
    found = replay(copy / "journal", 601)
    assert found.open_from > 0, "the intent is in the newest segment itself: this test shows nothing"
    assert found.open == {"long stream": 0}
    log = sequencer(copy)
    assert log.recovery.closed == ("long stream",)
    run(log.close)
    assert verified(copy).ok


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = sequencer(tmp_path)
    with pytest.raises(DataDirLocked, match="in use by another process"):
        sequencer(tmp_path)
    run(first.close)
    run(sequencer(tmp_path).close)


def test_a_refused_start_does_not_keep_the_lock(tmp_path: Path) -> None:
    written(tmp_path, 1)
    for _ in range(2):
        with pytest.raises(OriginMismatch, match="log of node"):
            sequencer(tmp_path, node="another")
    run(sequencer(tmp_path).close)


def test_a_directory_signed_by_an_unknown_key_is_not_built_upon(tmp_path: Path) -> None:
    written(tmp_path, 3)
    with pytest.raises(LogDamaged, match="not signed by this gateway's key"):
        sequencer(tmp_path, key=OTHER)


def test_a_rotated_key_takes_over_from_a_trusted_one(tmp_path: Path) -> None:
    written(tmp_path, 3)
    old, new = VerifierKey.of(NODE, KEY), VerifierKey.of(NODE, OTHER)
    log = sequencer(tmp_path, key=LogKeys((OTHER,), (str(old),)))
    run(log.close)
    assert verify(tmp_path / "log", [str(new)]).ok
    assert not verify(tmp_path / "log", [str(old)]).ok
    assert (tmp_path / "log" / "vkey").read_text().strip() == str(new)
    assert (tmp_path / "log" / "vkeys").read_text().split() == [str(new), str(old)]


@pytest.mark.parametrize("name", ["tile/0/000.p/6", "tile/entries/000.p/6", "checkpoint"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_changed_edge_is_not_built_upon(tmp_path: Path, name: str, how: str) -> None:
    written(tmp_path, 3)
    path = tmp_path / "log" / name
    if how == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
    before = sorted((item.name, item.read_bytes()) for item in (tmp_path / "log").rglob("*") if item.is_file())
    with pytest.raises(LogDamaged):
        sequencer(tmp_path)
    after = sorted((item.name, item.read_bytes()) for item in (tmp_path / "log").rglob("*") if item.is_file())
    assert after == before, "a damaged log was touched"


def test_a_changed_tile_above_the_leaves_is_not_built_upon(tmp_path: Path) -> None:
    written(tmp_path, 300)
    path = tmp_path / "log" / "tile" / "1" / "000.p" / "2"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(LogDamaged, match="do not hash to the checkpoint's root"):
        sequencer(tmp_path)


def test_a_damaged_journal_is_not_built_upon(tmp_path: Path) -> None:
    dead = crashed(tmp_path)
    (path,) = [path for path in segment_paths(dead / "journal") if b"open-1" in path.read_bytes()]
    data = bytearray(path.read_bytes())
    data[data.index(b"open-1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        sequencer(dead)


def test_a_lost_journal_of_unpublished_entries_is_told_by_who_knows_them(tmp_path: Path) -> None:
    """Without the journal nobody can know that more was acknowledged, but an older journal beside a newer log can."""
    dead = crashed(tmp_path)
    log = dead / "log"
    for name in ("tile", "checkpoint"):
        path = log / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = sequencer(dead)
    assert again.recovery.replayed == 23, "the journal rebuilds tiles that were lost before their checkpoint"
    run(again.close)
    assert verified(dead).ok


def test_an_interrupted_creation_of_a_segment_does_no_harm(tmp_path: Path) -> None:
    written(tmp_path, 3)
    (tmp_path / "journal" / "segment-009").write_bytes(bytes(100))
    written(tmp_path, 200)
    assert verified(tmp_path).size == 406


def test_leftovers_beyond_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    """A crash between a tile and its checkpoint; the bytes differ here so that the overwriting shows."""
    dead = crashed(tmp_path, whole=150)
    leftover = dead / "log" / "tile" / "0" / "000"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(bytes(8192))
    run(sequencer(dead).close)
    assert verified(dead).ok


def test_recovery_with_ten_thousand_pending_records_is_quick(tmp_path: Path) -> None:
    dead = crashed(tmp_path, whole=5000)
    loop_time = asyncio.new_event_loop()
    begun = loop_time.time()
    log = sequencer(dead)
    assert loop_time.time() - begun < 3.0
    loop_time.close()
    assert log.recovery.replayed == 10_003
    run(log.close)
    assert verified(dead).ok
