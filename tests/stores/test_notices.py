"""What was told and is still to be told, on disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from gateway.core.notices import Alert, Place
from gateway.core.reasons import StoreFailed
from gateway.stores import notices
from gateway.stores.notices import KEPT_SECONDS, SqliteAlertBook, SqlitePlaces

NOW = 1_790_000_000.0


def alert(key: str) -> Alert:
    return Alert(key, "stop", "2026-09-21T14:13:20.000000Z", "b", "Title", "Text", {"key": ["a", None]})


def book(folder: Path) -> SqliteAlertBook:
    numbers = itertools.count(1)
    return SqliteAlertBook(folder / "alerts.sqlite", lambda: f"{next(numbers):03d}")


def test_a_place_is_kept_and_its_file_is_its_owner_s(tmp_path: Path) -> None:
    places = SqlitePlaces(tmp_path / "events.sqlite")
    assert places.found() is None
    places.keep(Place(-1, b""))
    places.keep(Place(41, b"digest"))
    places.close()
    again = SqlitePlaces(tmp_path / "events.sqlite")
    assert again.found() == Place(41, b"digest")
    again.close()
    assert (tmp_path / "events.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_letter_is_what_was_noted_and_waits_until_it_was_sent(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.note([alert("one"), alert("two"), alert("one")], {"calls": 2}, Place(3, b"d"), ["a", "b"], NOW)
    it.close()
    it = book(tmp_path)
    assert it.found() == Place(3, b"d")
    first, second = it.due("a", NOW, 50)
    assert (first.alert, first.tries, first.since) == (alert("one"), 0, NOW)
    it.failed([first], NOW + 5)
    assert it.due("a", NOW + 4, 50) == [second]
    assert [letter.tries for letter in it.due("a", NOW + 5, 50)] == [1, 0]
    it.sent([first, second])
    assert it.due("a", NOW + 9, 50) == []
    assert len(it.due("b", NOW, 50)) == 2
    it.close()


def test_a_channel_has_no_more_letters_than_its_bound_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "LETTERS_MOST", 3)
    it = book(tmp_path)
    it.note([alert(str(n)) for n in range(5)], {}, Place(0, b""), ["a"], NOW)
    assert [letter.alert.key for letter in it.due("a", NOW, 50)] == ["0", "1", "2"]
    assert it.tallies() == {"dropped a": 2}
    it.close()


def test_that_something_was_told_is_known_for_longer_than_any_period(tmp_path: Path) -> None:
    it = book(tmp_path)
    for after, letters in ((0.0, 1), (KEPT_SECONDS - 1, 1), (KEPT_SECONDS + 1, 1), (KEPT_SECONDS + 2, 2)):
        it.note([alert("one")], {}, Place(0, b""), ["a"], NOW + after)
        assert len(it.due("a", NOW + after, 50)) == letters
    it.close()


def test_a_digest_begins_the_tallies_anew_and_says_when_the_next_is_due(tmp_path: Path) -> None:
    it = book(tmp_path)
    assert it.digest_due() is None
    it.digest(None, ["a"], NOW + 10, NOW)
    it.note([], {"calls": 2}, Place(0, b""), ["a"], NOW)
    it.note([], {"calls": 3, "usd": 7}, Place(1, b""), ["a"], NOW)
    assert (it.digest_due(), it.tallies()) == (NOW + 10, {"calls": 5, "usd": 7})
    it.digest(alert("digest"), ["a"], NOW + 20, NOW + 10)
    assert (it.digest_due(), it.tallies()) == (NOW + 20, {})
    assert [letter.alert.key for letter in it.due("a", NOW + 10, 50)] == ["digest"]
    it.close()


def test_a_note_that_fails_is_not_half_written(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.note([], {}, Place(0, b"0"), [], NOW)
    with pytest.raises(StoreFailed):
        it.note([alert("one")], {"calls": "many"}, Place(1, b"1"), ["a"], NOW)  # type: ignore[dict-item]
    assert (it.found(), it.due("a", NOW, 9), it.tallies()) == (Place(0, b"0"), [], {})
    it.note([alert("one")], {}, Place(1, b"1"), ["a"], NOW)
    assert len(it.due("a", NOW, 9)) == 1
    it.close()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"not a database, but as long as a page of one would have to be" * 99)
    with pytest.raises(StoreFailed, match=r"events\.sqlite"):
        SqlitePlaces(tmp_path / "events.sqlite")
