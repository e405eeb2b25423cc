"""When the digest is due."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from gateway.notices.digest import Daily, digest


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("daily", "now", "due"),
    [
        (Daily(time(8, 0)), "2026-09-21T07:59:59", "2026-09-21T08:00:00"),
        (Daily(time(8, 0)), "2026-09-21T08:00:00", "2026-09-22T08:00:00"),
        (Daily(time(8, 0), "Europe/Oslo"), "2026-09-21T05:00:00", "2026-09-21T06:00:00"),
        (Daily(time(8, 0), "Europe/Oslo"), "2026-12-21T05:00:00", "2026-12-21T07:00:00"),
        (Daily(time(8, 0), "Pacific/Auckland"), "2026-09-21T13:00:00", "2026-09-21T20:00:00"),
        # The clock goes over 02:30 in the night to 2026-03-29, and shows it twice in that to 2026-10-25.
        (Daily(time(2, 30), "Europe/Oslo"), "2026-03-28T12:00:00", "2026-03-29T01:30:00"),
        (Daily(time(2, 30), "Europe/Oslo"), "2026-10-25T00:00:00", "2026-10-25T00:30:00"),
        (Daily(time(2, 30), "Europe/Oslo"), "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
    ],
)
def test_it_is_due_at_its_time_of_day_in_its_zone(daily: Daily, now: str, due: str) -> None:
    assert daily.after(at(now)) == at(due)


def test_it_says_the_most_frequent_first_and_how_many_more_there_are() -> None:
    tallies = {"calls": 12, "refused": 3, "usd": 1_250_000, **{f"stop b{n:02d}": n for n in range(1, 24)}}
    tallies["dropped mail"] = 4
    found = digest(tallies, at("2026-09-21T08:00:00"), most=2)
    assert found.text.split("\n") == [
        "12 calls, 3 refused, 1.25 usd.",
        "calls stopped by a budget: b23 23, b22 22 and 21 more",
        "alerts dropped, for this channel was full: mail 4",
    ]
    assert (found.kind, found.time) == ("digest", "2026-09-21T08:00:00.000000Z")
