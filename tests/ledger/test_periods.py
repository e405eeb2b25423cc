"""Periods tile the time: no gap, no overlap, in any zone, whatever its clocks do; and they never go back."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.accounts import Budget
from gateway.ledger.periods import Periods, Span, before, running

ZONES = [
    "UTC", "Europe/Oslo", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut",
    "Africa/Cairo", "Pacific/Apia", "America/Havana", "Asia/Kathmandu", "Antarctica/Troll",
]  # fmt: skip
MOMENTS = st.integers(946_684_800, 2_208_988_800)  # 2000 to 2040


def budget(period: str, zone: str = "UTC", anchor: int = 0) -> Budget:
    return Budget("b", ("subject.org",), "calls", 10, period, zone=zone, anchor=anchor)


def epoch(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def bounds(found: Span, zone: str = "UTC") -> tuple[str, str]:
    said = [datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat()[:16] for at in (found.begins, found.ends)]
    return said[0], said[1]


@settings(deadline=None)
@given(st.sampled_from(["hour", "day", "month"]), st.sampled_from(ZONES), st.integers(0, 27), MOMENTS)
def test_periods_tile_the_time(period: str, zone: str, anchor: int, now: int) -> None:
    of = budget(period, zone, anchor % 24 if period == "day" else anchor)
    found = running(of, now)
    assert found.begins <= now < found.ends
    assert running(of, found.begins).begins == found.begins
    assert running(of, found.ends - 1).ends == found.ends
    assert running(of, found.ends).begins == found.ends
    earlier = before(of, found)
    assert earlier is not None
    assert earlier.ends == found.begins
    assert found.period == datetime.fromtimestamp(found.begins, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 23), MOMENTS)
def test_a_day_begins_at_its_hour_on_the_clock_or_when_that_is_skipped(zone: str, anchor: int, now: int) -> None:
    found = running(budget("day", zone, anchor), now)
    begins = datetime.fromtimestamp(found.begins, ZoneInfo(zone))
    skipped = datetime.fromtimestamp(found.begins - 1, ZoneInfo(zone)).utcoffset() != begins.utcoffset()
    assert (begins.hour, begins.minute) == (anchor, 0) or skipped


@pytest.mark.parametrize(
    ("period", "zone", "anchor", "now", "expected"),
    [
        ("day", "Europe/Oslo", 0, "2026-03-29T12:00", ("2026-03-29T00:00", "2026-03-30T00:00")),
        ("day", "Europe/Oslo", 2, "2026-03-29T12:00", ("2026-03-29T03:00", "2026-03-30T02:00")),
        ("day", "America/New_York", 6, "2026-11-01T05:59", ("2026-10-31T06:00", "2026-11-01T06:00")),
        ("day", "Asia/Beirut", 0, "2026-03-29T12:00", ("2026-03-29T01:00", "2026-03-30T00:00")),
        ("month", "UTC", 0, "2028-02-29T23:59", ("2028-02-01T00:00", "2028-03-01T00:00")),
        ("month", "UTC", 27, "2027-02-27T23:59", ("2027-01-28T00:00", "2027-02-28T00:00")),
        ("month", "UTC", 14, "2026-12-20T00:00", ("2026-12-15T00:00", "2027-01-15T00:00")),
        ("month", "Asia/Kolkata", 0, "2026-11-01T00:00", ("2026-11-01T00:00", "2026-12-01T00:00")),
    ],
)
def test_what_a_calendar_says(period: str, zone: str, anchor: int, now: str, expected: tuple[str, str]) -> None:
    assert bounds(running(budget(period, zone, anchor), epoch(now, zone)), zone) == expected


def test_a_day_on_which_clocks_change_has_its_own_length() -> None:
    lengths = [
        found.ends - found.begins
        for now in ("2026-03-29T12:00", "2026-10-25T12:00", "2026-06-01T12:00")
        for found in [running(budget("day", "Europe/Oslo"), epoch(now))]
    ]
    assert lengths == [23 * 3600, 25 * 3600, 24 * 3600]


def test_a_day_that_a_country_left_out_is_not_there() -> None:
    """Samoa went from 29 to 31 December 2011."""
    found = running(budget("day", "Pacific/Apia"), epoch("2011-12-29T12:00", "Pacific/Apia"))
    assert bounds(found, "Pacific/Apia") == ("2011-12-29T00:00", "2011-12-31T00:00")


def test_totals_and_rolling_periods_neither_begin_nor_end() -> None:
    for period in ("total", "rolling"):
        of = budget(period)
        assert (running(of, 5).period, running(of, 5).ends) == ("", 0)
        assert before(of, running(of, 5)) is None
        periods = Periods(of)
        assert periods.at(10) is periods.at(5)


@settings(deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=20))
def test_periods_never_go_back_whatever_the_clock_does(moments: list[int]) -> None:
    of = budget("day", "Europe/Oslo")
    periods = Periods(of)
    newest = 0
    for now in moments:
        newest = max(newest, now)
        found = periods.at(now)
        assert found.begins == running(of, newest).begins
        assert found is periods.at(found.ends - 1)
