"""The index over the log: finds what is there, pages stay, it catches up, and begins anew for another log."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.ids import Ids
from gateway.core.query import QueryFailed, RecordPage, RecordQuery
from gateway.stores import following, portions, records, search
from gateway.stores.records import RecordIndex
from gateway.stores.sqlite import StoreFailed


class ListedEntries:
    """A log in memory; `shown` is how much of it can be read, as a log's files may be behind its commits."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.shown: int | None = None
        self.reads: list[tuple[int, int | None]] = []

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        self.reads.append((start, stop))
        end = min(len(self.entries) if stop is None else stop, len(self.entries) if self.shown is None else self.shown)
        return [(seq, self.entries[seq]) for seq in range(start, end)]

    def append(self, **members: Any) -> tuple[int, bytes]:
        seq = len(self.entries)
        record = {"v": 1, "seq": seq, "kind": "intent", "time": f"2026-11-22T12:00:{seq % 60:02d}.000000Z"} | members
        self.entries.append(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
        return seq, self.entries[-1]


@pytest.fixture
def log() -> ListedEntries:
    return ListedEntries()


@pytest.fixture
def index(tmp_path: Path, log: ListedEntries) -> Iterator[RecordIndex]:
    made = RecordIndex(tmp_path / "index.db", log)
    made.start()
    yield made
    made.close()


def find(index: RecordIndex, **members: Any) -> RecordPage:
    return asyncio.run(index.find(RecordQuery(**members)))


def seqs(index: RecordIndex, **members: Any) -> list[Any]:
    return [record["seq"] for record in find(index, **members).records]


def test_what_was_committed_before_the_question_is_found_newest_first(index: RecordIndex, log: ListedEntries) -> None:
    index.committed([log.append(exchange="x"), log.append(exchange="y"), log.append(exchange="x", kind="outcome")])
    index.committed([log.append(exchange="z", parent="x")])
    page = find(index, exchange="x")
    assert [(record["seq"], record["kind"]) for record in page.records] == [(2, "outcome"), (0, "intent")]
    assert page.cursor is None
    assert index.behind == 0


def test_every_filter_finds_by_its_member_exactly(index: RecordIndex, log: ListedEntries) -> None:
    index.committed(
        [
            log.append(subject={"id": "a"}, action="mcp.tools/call", route="w", decision={"effect": "allow"}),
            log.append(subject={"id": "A"}, action="mcp.tools/list", route="w", decision={"effect": "deny"}),
            log.append(subject={"id": "a "}, kind="refusal", route="f", refusal={"reason": "rate_limited"}),
            log.append(kind="activation"),
        ]
    )
    assert seqs(index, subject="a") == [0]
    assert seqs(index, action="mcp.tools/list") == [1]
    assert seqs(index, route="w") == [1, 0]
    assert seqs(index, effect="deny") == [1]
    assert seqs(index, effect="allow") == [0]
    assert seqs(index, kind="refusal") == [2]
    assert seqs(index, kind="activation") == [3]
    assert seqs(index, reason="rate_limited") == [2]
    assert seqs(index, subject="a", action="mcp.tools/list") == []
    assert seqs(index, subject="a' OR 1=1 --") == []
    assert seqs(index) == [3, 2, 1, 0]


def test_a_time_range_holds_both_ends(index: RecordIndex, log: ListedEntries) -> None:
    index.committed([log.append() for _ in range(10)])
    assert seqs(index, since="2026-11-22T12:00:03.000000Z", until="2026-11-22T12:00:05.000000Z") == [5, 4, 3]
    assert seqs(index, since="2027-01-01T00:00:00.000000Z") == []
    assert seqs(index, until="2025-01-01T00:00:00.000000Z") == []


def test_pages_stay_what_they_were_while_records_arrive(index: RecordIndex, log: ListedEntries) -> None:
    index.committed([log.append() for _ in range(7)])
    first = find(index, limit=3)
    index.committed([log.append() for _ in range(5)])
    second = find(index, limit=3, before=first.cursor)
    third = find(index, limit=3, before=second.cursor)
    got = [record["seq"] for page in (first, second, third) for record in page.records]
    assert got == [6, 5, 4, 3, 2, 1, 0]
    assert third.cursor is None


def test_pages_of_every_question_hold_what_a_look_at_every_record_finds(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the plainest oracle: small portions and steps, times out of order, exchanges that stay open."""
    monkeypatch.setattr(records, "PORTION", 8)
    monkeypatch.setattr(records, "KEPT", 3)
    monkeypatch.setattr(search, "ROWS", 2)
    monkeypatch.setattr(search, "ROWS_MOST", 16)
    source = random.Random(7)
    made: list[dict[str, Any]] = []
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    while len(made) < 600:
        batch = []
        for _ in range(source.randrange(1, 30)):
            members: dict[str, Any] = {
                "exchange": f"{source.randrange(80):02d}{'x' * 34}",
                "kind": source.choice(["intent", "intent", "outcome", "refusal", "admin"]),
                "time": f"2026-11-22T12:{(len(made) // 10 + source.randrange(3)) % 60:02d}:00.000000Z",
                "subject": {"id": source.choice("abcdefgh")},
                "route": source.choice("wwwwv"),
                "decision": {"effect": source.choice(["allow", "allow", "deny"])},
            }
            batch.append(log.append(**members))
            made.append(json.loads(batch[-1][1]))
        index.committed(batch)
        if source.random() < 0.3:
            find(index)
    for _ in range(150):
        asked: dict[str, Any] = {
            name: value
            for name, value in (
                ("exchange", f"{source.randrange(90):02d}{'x' * 34}"),
                ("kind", source.choice(["intent", "outcome", "recovery"])),
                ("subject", source.choice("abi")), ("route", source.choice("wv")), ("effect", "deny"),
                ("since", f"2026-11-22T12:{source.randrange(60):02d}:00.000000Z"),
                ("until", f"2026-11-22T12:{source.randrange(60):02d}:00.000000Z"), ("before", source.randrange(600)),
            )
            if source.random() < 0.3
        }  # fmt: skip
        expected = [item["seq"] for item in reversed(made) if meant(item, asked)]
        limit = source.choice([9, 100, 500])
        got: list[Any] = []
        page = find(index, limit=limit, **asked)
        got += [record["seq"] for record in page.records]
        while page.cursor is not None:
            page = find(index, limit=limit, **(asked | {"before": page.cursor}))
            assert page.records, "a cursor leads to a page"
            got += [record["seq"] for record in page.records]
        assert got == expected, asked
    index.close()


def meant(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    return (
        all(record[name] == asked[name] for name in ("exchange", "kind", "route") if name in asked)
        and ("subject" not in asked or record["subject"]["id"] == asked["subject"])
        and ("effect" not in asked or record["decision"]["effect"] == asked["effect"])
        and asked.get("since", "") <= record["time"] <= asked.get("until", "3")
        and record["seq"] < asked.get("before", 1000)
    )


def test_a_hole_in_what_is_handed_over_is_read_from_the_log(index: RecordIndex, log: ListedEntries) -> None:
    entries = [log.append(exchange="x") for _ in range(10)]
    index.committed(entries[:3] + entries[6:])
    assert seqs(index) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "old",
    [
        "CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER, digest BLOB);"
        "INSERT INTO position VALUES (1, 0, :digest)",
        "CREATE TABLE position (one INTEGER PRIMARY KEY, layout INTEGER, seq INTEGER, digest BLOB);"
        "CREATE TABLE portions (start INTEGER PRIMARY KEY, count INTEGER);"
        "INSERT INTO position VALUES (1, 2, 0, :digest)",
    ],
)
def test_a_file_of_an_earlier_layout_is_begun_anew(tmp_path: Path, log: ListedEntries, old: str) -> None:
    _, entry = log.append(exchange="x")
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as database:
        database.executescript(old.replace(":digest", f"x'{hashlib.sha256(entry).hexdigest()}'"))
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    index.committed([log.append(exchange="x") for _ in range(300)])
    assert seqs(index, exchange="x", limit=500) == list(range(300, -1, -1))
    index.close()


def test_a_start_catches_up_from_its_last_portion(tmp_path: Path, log: ListedEntries) -> None:
    first = RecordIndex(tmp_path / "index.db", log)
    first.start()
    first.committed([log.append() for _ in range(600)])
    assert len(seqs(first, limit=500)) == 500
    first.close()
    for _ in range(3):
        log.append(exchange="late")
    log.reads.clear()
    second = RecordIndex(tmp_path / "index.db", log)
    second.start()
    second.committed([log.append(exchange="late")])
    assert seqs(second, exchange="late") == [603, 602, 601, 600]
    assert log.reads[0] == (511, 512), "the last that has a row is compared"
    assert log.reads[1][0] == 512, "what is behind it is read"
    assert min(start for start, _ in log.reads) == 511
    second.close()


def test_an_index_of_another_log_is_begun_anew(tmp_path: Path, log: ListedEntries) -> None:
    first = RecordIndex(tmp_path / "index.db", log)
    first.start()
    first.committed([log.append(exchange="old") for _ in range(300)])
    assert len(seqs(first, limit=500)) == 300
    first.close()
    log.entries.clear()
    entries = [log.append(exchange="new"), log.append(exchange="new")]
    second = RecordIndex(tmp_path / "index.db", log)
    second.start()
    second.committed([log.append(exchange="new")])
    assert seqs(second, exchange="old") == []
    assert len(seqs(second, exchange="new")) == len(entries) + 1
    second.close()


def test_a_broken_index_is_begun_anew(tmp_path: Path, log: ListedEntries) -> None:
    (tmp_path / "index.db").write_bytes(b"no database at all" * 999)
    log.append(exchange="x")
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    index.committed([log.append(exchange="x")])
    assert seqs(index, exchange="x") == [1, 0]
    index.close()


def test_a_gap_is_read_from_the_log_and_never_skipped(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = RecordIndex(tmp_path / "index.db", log, lambda: len(log.entries))
    monkeypatch.setattr(records, "ASK_SECONDS", 0.3)
    lost = [log.append() for _ in range(4)]
    log.shown = 0
    index.start()
    index.committed([log.append(), log.append()])
    assert seqs(index) == []
    assert index.behind == len(lost) + 2, "the log does not show what is missing yet"
    log.shown = None
    monkeypatch.setattr(records, "ASK_SECONDS", 10.0)
    assert seqs(index) == [5, 4, 3, 2, 1, 0]
    index.close()


def test_a_question_waits_for_what_was_submitted_before_it(tmp_path: Path, log: ListedEntries) -> None:
    index = RecordIndex(tmp_path / "index.db", log, lambda: len(log.entries))
    index.start()
    assert seqs(index) == []
    entry = log.append(exchange="x")
    timer = threading.Timer(0.1, index.committed, ([entry],))
    timer.start()
    assert seqs(index, exchange="x") == [0]
    timer.join()
    index.close()


def test_only_a_full_portion_has_a_row_and_the_rest_is_found_as_well(
    index: RecordIndex, log: ListedEntries, tmp_path: Path
) -> None:
    for count, rows in ((255, 0), (1, 1), (100, 1), (500, 3)):
        index.committed([log.append(exchange=f"x{len(log.entries)}") for _ in range(count)])
        newest = len(log.entries) - 1
        assert seqs(index, exchange=f"x{newest}") == [newest]
        assert seqs(index, exchange="x0") == [0]
        assert index.behind == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as beside:
            assert beside.execute("SELECT COUNT(*) FROM portions").fetchone() == (rows,)


def test_what_is_rare_is_found_without_reading_what_is_not(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT", 1)
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    for at in range(40 * 256):
        rare: dict[str, Any] = {}
        if at == 1000:
            rare = {"subject": {"id": "rare"}, "kind": "outcome"}
        if at in (5, 3000, 9000):
            rare = {"refusal": {"reason": "fault"}, "kind": "refusal"}
        log.append(**{"exchange": f"{at // 2:05d}", "subject": {"id": "often"}} | rare)
    index.committed([(seq, entry) for seq, entry in enumerate(log.entries)])
    assert seqs(index, limit=1)
    for asked, found, read in (
        ({"subject": "rare"}, [1000], 1),
        ({"reason": "fault"}, [9000, 3000, 5], 3),
        ({"reason": "fault", "until": "2026-11-22T11:00:00.000000Z"}, [], 0),
        ({"subject": "rare", "reason": "fault"}, [], 0),
        ({"subject": "rare", "kind": "intent"}, [], 0),
        ({"subject": "often", "reason": "denied"}, [], 0),
        ({"subject": "nobody"}, [], 0),
        ({"exchange": "00501"}, [1003, 1002], 1),
        ({"exchange": "00900", "subject": "rare"}, [], 0),
        ({"exchange": "99999"}, [], 0),
        ({"exchange": "\ud800"}, [], 0),
    ):
        log.reads.clear()
        assert seqs(index, **asked) == found, asked
        assert len(log.reads) == read, asked
    index.close()


def test_an_outcome_that_comes_hours_later_is_found_with_its_intent(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT", 1)
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    ids = Ids(lambda: 1_795_000_000.0 + len(log.entries) / 10, random.Random(1).randbytes)
    long = ids.new()
    log.append(exchange=long)
    for _ in range(60 * 256):
        log.append(exchange=ids.new())
        if len(log.entries) % 256 == 200:  # somebody's stream ends in each portion, so each spans hours
            log.append(exchange=Ids(lambda: 1_795_000_000.0, random.Random(len(log.entries)).randbytes).new())
    log.append(exchange=long, kind="outcome")
    last = len(log.entries) - 1
    for _ in range(300):
        log.append(exchange=ids.new())
    index.committed([(seq, entry) for seq, entry in enumerate(log.entries)])
    assert seqs(index, limit=1) == [len(log.entries) - 1]
    log.reads.clear()
    assert seqs(index, exchange=long) == [last, 0]
    assert len(log.reads) <= 4, "portions that span its time but do not have it are passed over"
    index.close()


def test_a_portion_is_read_from_the_log_when_memory_has_let_go_of_it(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT", 2)
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    index.committed([log.append() for _ in range(6 * 256)])
    assert len(seqs(index, limit=500)) == 500
    log.reads.clear()
    assert len(seqs(index, limit=500, before=900)) == 500
    assert log.reads == [(768, 1024), (512, 768), (256, 512)], "a portion is a bundle of the log"
    log.shown = 600
    with pytest.raises(QueryFailed, match="not in the log"):
        find(index, limit=500, before=900)
    index.close()


def test_what_is_handed_over_after_it_was_read_from_the_log_is_there_once(tmp_path: Path, log: ListedEntries) -> None:
    entries = [log.append() for _ in range(700)]
    index = RecordIndex(tmp_path / "index.db", log, lambda: len(log.entries))
    index.start()
    assert len(seqs(index, limit=500)) == 500
    index.committed([*entries[100:], log.append()])
    assert seqs(index, limit=500) == list(range(700, 200, -1))
    assert seqs(index, limit=500, before=201) == list(range(200, -1, -1))
    index.close()


def test_numbers_of_what_recurs_are_kept_in_bounds(
    index: RecordIndex, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "_KNOWN_MOST", 20)
    index.committed(
        [log.append(subject={"id": f"s{seq % 90}"}, action=f"a{seq % 70}", exchange="x") for seq in range(600)]
    )
    assert seqs(index, subject="s7", action="a7") == [7]
    writes = index._writes
    for known in (writes._pairs, writes._subjects, writes._facets):
        assert 0 < len(known) <= 20


def test_memory_for_indexed_portions_is_bounded_by_bytes(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT_BYTES", 2_000_000)
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    for _ in range(8):
        index.committed([log.append(action="x" * 2000) for _ in range(256)])
        assert len(seqs(index, limit=500)) == min(500, len(log.entries))
        assert sum(len(entry) for bundle, _ in index._kept.values() for _, entry in bundle) <= 2_000_000
    assert len(index._kept) == 3
    index.close()


def test_a_listener_that_is_flooded_keeps_its_memory_bounded(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "DROP_BYTES", 10_000)
    index = RecordIndex(tmp_path / "index.db", log)
    for _ in range(100):
        index.committed([log.append() for _ in range(20)])
        assert sum(len(entry) for _, entry in index._following._pending) <= 10_000 + 20 * 200
    index.start()
    assert len(seqs(index, limit=500)) == 500
    assert index.behind == 0
    index.close()


def test_rows_that_cannot_be_written_are_written_later_and_the_index_says_so_meanwhile(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(records, "GROUP", 4)
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    index.committed([log.append() for _ in range(300)])
    assert len(seqs(index, limit=500)) == 300
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as beside:
        beside.execute("CREATE TRIGGER full BEFORE INSERT ON portions BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        index.committed([log.append(subject={"id": "new"}) for _ in range(300)])
        until(lambda: index._following.failed, "the failure is seen")
        with pytest.raises(StoreFailed, match="disk full"):
            asyncio.run(index.check())
        assert len(seqs(index, subject="new", limit=500)) == 300, "what has no row yet is in memory"
        index.committed([log.append(subject={"id": "new"}) for _ in range(3000)])
        seen = len(caplog.records)
        until(lambda: len(caplog.records) > seen + 10, "it is tried again")
        assert len(index._tail) <= 5 * records.PORTION, "no more is taken"
        assert index.behind > 2000
        beside.execute("DROP TRIGGER full")
    until(lambda: not index.behind and not index._following.failed, "it is made up for")
    assert seqs(index, subject="new", limit=500, before=1000) == list(range(999, 499, -1))
    asyncio.run(index.check())
    index.close()


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def test_a_search_that_takes_too_long_is_refused(
    tmp_path: Path, log: ListedEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = RecordIndex(tmp_path / "index.db", log)
    index.start()
    index.committed([log.append(route="w") for _ in range(20_000)])
    assert len(seqs(index)) == 100
    monkeypatch.setattr(records, "ASK_SECONDS", 0.0)
    with pytest.raises(QueryFailed, match="narrow it"):
        find(index, route="nowhere")
    monkeypatch.setattr(records, "ASK_SECONDS", 2.0)
    assert len(seqs(index)) == 100, "the next question is answered"
    index.close()


def test_the_sequencers_thread_hands_over_while_questions_are_asked(index: RecordIndex, log: ListedEntries) -> None:
    def sequence() -> None:
        for _ in range(200):
            index.committed([log.append(exchange="x") for _ in range(5)])

    thread = threading.Thread(target=sequence)
    thread.start()
    counts = []
    while thread.is_alive():
        counts.append(len(seqs(index, limit=500)))
    thread.join()
    assert counts == sorted(counts)
    page = find(index, limit=500)
    rest = find(index, limit=500, before=page.cursor)
    assert len(page.records) + len(rest.records) == 1000
