"""The journal under power loss: whatever part of a frame is there, what was acknowledged is read back, nothing else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.log.disk import RealDisk
from gateway.log.journal import Journal, JournalDamaged, Replay, frame, replay, scan
from gateway.log.verify_read import Wrong, journal_entries

SEGMENT = 8192


def empty() -> Replay:
    return Replay(0, (), {}, 0, 0, None, False)


def batch(first: int, count: int, size: int = 40) -> list[bytes]:
    return [f"{seq:04d}".encode() * (size // 4) for seq in range(first, first + count)]


def record_run(directory: Path, batches: int, count: int = 3, segment_bytes: int = SEGMENT) -> list[tuple[Path, int]]:
    """Commits batches; per batch the segment it went to and where it ends there (so: what is durable after it)."""
    directory.mkdir(exist_ok=True)
    journal = Journal(directory, RealDisk(), segment_bytes, empty())
    ends = []
    for number in range(batches):
        journal.prepare()
        journal.append(number * count, batch(number * count, count), {"open": number})
        active = journal._active
        assert active is not None
        ends.append((active.path, active.at))
    journal.close()
    return ends


def read_back(directory: Path, size: int = 0) -> list[bytes]:
    """By the sequencer's reader and by the verifier's, which share no code and must agree."""
    found = replay(directory, size)
    mine = list(found.entries[size - found.start :])
    assert journal_entries(directory, size) == (size, mine)
    return mine


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    record_run(tmp_path, 40)
    assert len(list(tmp_path.iterdir())) > 1, "one segment only: this test shows nothing"
    assert read_back(tmp_path) == batch(0, 120)
    assert read_back(tmp_path, 17) == batch(17, 103)


def test_a_prefix_of_any_length_gives_all_acknowledged_batches_and_no_part_of_another(tmp_path: Path) -> None:
    """R2: the file ends after any byte, or is zero from there on, as a power cut leaves it."""
    source = tmp_path / "source"
    ends = [end for _, end in record_run(source, 4)]
    (path,) = [path for path in source.iterdir() if scan(path, path.read_bytes()) is not None]
    whole = path.read_bytes()
    torn = tmp_path / "torn"
    torn.mkdir()
    for length in range(ends[-1] + 1):
        # A frame is there with its last payload byte; the padding behind it says nothing.
        complete = [end for end in ends if whole[length:end].count(0) == end - length or length >= end]
        for data in (whole[:length], whole[:length] + bytes(len(whole) - length)):
            (torn / "segment-000").write_bytes(data)
            assert read_back(torn) == batch(0, 3 * len(complete)), length


def test_any_lost_sectors_of_the_last_batch_lose_that_batch_only(tmp_path: Path) -> None:
    """R2: a write of several sectors reaches the disk in any order, or in part."""
    source = tmp_path / "source"
    ends = [end for _, end in record_run(source, 3, count=40)]
    (path,) = [path for path in source.iterdir() if scan(path, path.read_bytes()) is not None]
    whole = path.read_bytes()
    sectors = range(ends[1], ends[2], 512)
    assert len(sectors) > 3
    torn = tmp_path / "torn"
    torn.mkdir()
    for mask in range(2 ** len(sectors) - 1):
        data = bytearray(whole)
        for bit, at in enumerate(sectors):
            if not mask >> bit & 1:
                data[at : at + 512] = bytes(512)
        (torn / "segment-000").write_bytes(data)
        assert len(read_back(torn)) == 80, mask


def test_garbage_in_the_last_batch_loses_that_batch_only(tmp_path: Path) -> None:
    ends = [end for _, end in record_run(tmp_path, 3)]
    (path,) = [path for path in tmp_path.iterdir() if scan(path, path.read_bytes()) is not None]
    whole = path.read_bytes()
    payload_end = ends[1] + len(frame(2, 0, 0, b"")) - 512 + 25 + 3 * 42
    for at in range(ends[1], payload_end):
        data = bytearray(whole)
        data[at] ^= 0x41
        path.write_bytes(data)
        assert len(read_back(tmp_path)) == 6, at


def test_damage_before_a_whole_batch_is_told_and_not_cut(tmp_path: Path) -> None:
    """Rule 2: a batch is only written after the one before it was durable, so this is no torn tail."""
    ends = [end for _, end in record_run(tmp_path, 3)]
    (path,) = [path for path in tmp_path.iterdir() if scan(path, path.read_bytes()) is not None]
    data = bytearray(path.read_bytes())
    data[ends[0] + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalDamaged, match="entry 3 was durable"):
        replay(tmp_path, 0)
    assert replay(tmp_path, 6).end == 3, "what a checkpoint covers is not missed"


def test_a_missing_segment_is_told(tmp_path: Path) -> None:
    record_run(tmp_path, 60)
    segments = sorted(
        (found.generation, path) for path in tmp_path.iterdir() if (found := scan(path, path.read_bytes()))
    )
    assert len(segments) > 2
    segments[1][1].unlink()
    with pytest.raises(JournalDamaged, match="neither in tiles nor in the journal"):
        replay(tmp_path, 0)
    with pytest.raises(Wrong, match="does not hold"):
        journal_entries(tmp_path, 0)


def test_a_newer_segment_outweighs_what_failed_in_an_older_one(tmp_path: Path) -> None:
    """Rule 3: the frame of a failed write may be on the disk all the same; it was never acknowledged."""
    journal = Journal(tmp_path, RealDisk(), SEGMENT, empty())
    journal.append(0, batch(0, 3), {})
    journal.append(3, [b"never acknowledged", b"nor this"], {})
    journal.renew(3, {"x": 2})
    found = replay(tmp_path, 0)
    assert (list(found.entries), found.open, found.open_from) == (batch(0, 3), {"x": 2}, 3)
    journal.append(3, batch(3, 2), {})
    journal.close()
    assert read_back(tmp_path) == batch(0, 5)


def test_a_segment_is_reused_only_when_a_checkpoint_covers_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RealDisk(), SEGMENT, empty())
    for number in range(200):
        journal.prepare()
        journal.append(number * 3, batch(number * 3, 3), {})
        if number == 100:
            kept = len(list(tmp_path.iterdir()))
            journal.recycle(150)
            assert read_back(tmp_path, 150) == batch(150, 303 - 150)
        if number > 100:
            journal.recycle(number * 3)
    assert len(list(tmp_path.iterdir())) < kept
    journal.close()
    assert read_back(tmp_path, 597) == batch(597, 3)


def test_the_head_tells_what_was_open(tmp_path: Path) -> None:
    record_run(tmp_path, 30)
    found = replay(tmp_path, 0)
    assert found.open == {"open": found.open_from // 3}


@given(st.binary(max_size=1200))
def test_no_file_content_is_taken_for_entries(data: bytes) -> None:
    assert scan(Path("x"), data) is None


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_a_frame_with_a_wrong_checksum_is_none(payload: bytes, checksum: int) -> None:
    data = bytearray(frame(2, 0, 0, payload))
    right = struct.unpack_from("<I", data, 21)[0]
    struct.pack_into("<I", data, 21, checksum)
    head = frame(1, 0, 1, b'{"open":{}}')
    found = scan(Path("x"), head + bytes(data))
    assert found is not None
    assert zlib.crc32(bytes(data[:21]) + payload) == right
    assert not found.entries


def test_a_head_that_says_nothing_of_open_exchanges_is_damage() -> None:
    with pytest.raises(JournalDamaged, match="open"):
        scan(Path("x"), frame(1, 0, 1, b"[]"))
