"""Following the log: in order, nothing twice, nothing left out; what its followers share (theirs tell more)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from gateway.stores import following
from gateway.stores.following import Entry, Follower, Following, set_position

SECONDS = 10.0


class Log:
    """In memory; `shown` is how much of it can be read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.shown: int | None = None

    def read(self, start: int, stop: int | None) -> Iterable[Entry]:
        return self.entries[: self.shown][start:stop]

    def grow(self, count: int) -> list[Entry]:
        first = len(self.entries)
        self.entries += [(seq, b"entry %d" % seq) for seq in range(first, first + count)]
        return self.entries[first:]


class Taker:
    """Writes down the seqs that it is given. `broken`: it cannot; `full`: it is not to be given any."""

    def __init__(self, path: Path, log: Log, takes_last: bool = True, submitted: Callable[[], int] = lambda: 0) -> None:
        follower = Follower(
            "the list", "list", "list-asked", "CREATE TABLE IF NOT EXISTS seqs (seq INTEGER) STRICT;", 1, "SELECT 1",
            pending=100, pending_bytes=1000, batch=7, batch_bytes=50, takes_last=takes_last,
        )  # fmt: skip
        self.taken: list[int] = []
        self.sizes: list[int] = []
        self.broken = self.full = False
        self.following = Following(path, follower, log, submitted, self.take, self.ready)
        self.writer, _ = self.following.open()

    def ready(self) -> None:
        if self.full:
            raise sqlite3.OperationalError("full")

    def take(self, entries: list[Entry]) -> None:
        if self.broken:
            raise sqlite3.OperationalError("broken")
        self.sizes.append(len(entries))
        self.taken += [seq for seq, _ in entries]
        if entries:
            set_position(self.writer, 1, *entries[-1])
            self.following.reached(entries[-1][0] + 1)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def taker(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taker]:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.01)
    made = Taker(tmp_path / "list.sqlite", log)
    yield made
    made.following.close()


def test_holes_and_what_was_there_before_come_from_the_log_in_bounded_batches(taker: Taker, log: Log) -> None:
    log.grow(20)
    taker.following.start()
    taker.following.committed(log.grow(3))
    assert taker.following.wait(SECONDS) == ""
    first, *_, last = log.grow(5)
    taker.following.committed([first, last])
    taker.following.committed(log.grow(2))
    assert taker.following.wait(SECONDS) == ""
    assert taker.taken == list(range(30))
    assert max(taker.sizes) <= 7
    assert taker.following.behind == 0


def test_a_round_that_fails_says_why_and_is_made_up_for(taker: Taker, log: Log) -> None:
    taker.following.start()
    assert taker.following.wait(SECONDS) == ""
    taker.broken = True
    taker.following.committed(log.grow(3))
    assert taker.following.wait(SECONDS) == "OperationalError: broken"
    assert taker.following.behind == 3
    taker.broken = False
    taker.following.committed(log.grow(1))
    with taker.following._changed:
        assert taker.following._changed.wait_for(lambda: not taker.following.behind, SECONDS)
    assert taker.taken == [0, 1, 2, 3]
    assert taker.following.failed == ""


def test_nothing_is_taken_before_it_is_ready(taker: Taker, log: Log) -> None:
    taker.full = True
    taker.following.committed(log.grow(3))
    taker.following.start()
    assert taker.following.wait(SECONDS) == "OperationalError: full"
    assert taker.sizes == []


def test_what_the_log_does_not_show_yet_is_waited_for(tmp_path: Path, log: Log) -> None:
    taker = Taker(tmp_path / "list.sqlite", log, submitted=lambda: len(log.entries))
    log.grow(4)
    log.shown = 2
    taker.following.start()
    assert taker.following.wait(0.1) == "it is 2 records behind; ask again in a while"
    log.shown = None
    taker.following.committed(log.grow(1))
    assert taker.following.wait(SECONDS) == ""
    assert taker.taken == [0, 1, 2, 3, 4]
    taker.following.close()


@pytest.mark.parametrize("takes_last", [True, False])
def test_what_waits_at_the_end_is_taken_where_that_is_wanted(
    tmp_path: Path, log: Log, takes_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FLUSH_SECONDS", 60.0)
    taker = Taker(tmp_path / "list.sqlite", log, takes_last)
    taker.following.start()
    assert taker.following.wait(SECONDS) == ""
    taker.following.committed(log.grow(3))
    taker.following.close()
    assert taker.taken == ([0, 1, 2] if takes_last else [])


def test_a_file_goes_on_where_it_ends_and_only_with_its_own_log(tmp_path: Path, log: Log) -> None:
    for expected in ([0, 1, 2], [3, 4]):
        taker = Taker(tmp_path / "list.sqlite", log)
        taker.following.start()
        taker.following.committed(log.grow(len(expected)))
        assert taker.following.wait(SECONDS) == ""
        assert taker.taken == expected
        taker.following.close()
    other = Log()
    other.entries = [(seq, b"other %d" % seq) for seq in range(9)]
    taker = Taker(tmp_path / "list.sqlite", other)
    taker.following.start()
    assert taker.following.wait(SECONDS) == ""
    assert taker.taken == list(range(9))
    taker.following.close()
