"""When a budget's period begins and ends. Sans I/O: epoch seconds come in, whole ones.

1. An hour is one of UTC. A day begins at local midnight of the budget's zone and `anchor` hours on the clock later, a
month on its first day and `anchor` days later; where the clock is put forward over that time, when it is put forward;
where it comes twice, the first time. 2. Periods of a budget neither overlap nor leave a gap, whatever the zone's clocks
do. 3. `Periods` never goes back: who puts the clock back gets no period twice. 4. A rolling period and a total have
neither beginning nor end.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from gateway.core.accounts import Budget

_HOUR: Final = 3600


class Span:
    """A period: `period` as `Account.period` has it, and epoch seconds; `ends` 0: never."""

    __slots__ = ("begins", "ends", "period")

    def __init__(self, period: str, begins: int, ends: int) -> None:
        self.period: Final = period
        self.begins: Final = begins
        self.ends: Final = ends


def running(budget: Budget, epoch: float) -> Span:
    """The period that a moment is in."""
    if budget.period == "hour":
        begins = int(epoch // _HOUR) * _HOUR
        return _span(begins, begins + _HOUR)
    if budget.period == "day":
        return _days(budget, epoch)
    if budget.period == "month":
        return _months(budget, epoch)
    return Span("", 0, 0)  # 4


def before(budget: Budget, span: Span) -> Span | None:
    """The period before that one; None where there is none."""
    return running(budget, span.begins - 1) if span.ends else None


class Periods:
    """The running period of one budget, asked for each call."""

    __slots__ = ("_budget", "_span")

    def __init__(self, budget: Budget) -> None:
        self._budget: Final = budget
        self._span = Span("", 0, 0)

    def at(self, epoch: float) -> Span:
        span = self._span
        if epoch < span.ends or (span.ends == 0 and span.begins < 0):
            return span  # 3: also of a time before it began
        found = running(self._budget, epoch)
        self._span = Span("", -1, 0) if found.ends == 0 else found
        return self._span


def _span(begins: int, ends: int) -> Span:
    return Span(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begins)), begins, ends)


def _days(budget: Budget, epoch: float) -> Span:
    zone = _zone(budget.zone)
    day = datetime.fromtimestamp(epoch, zone).date()
    one = timedelta(days=1)
    while epoch < _moment(day, budget.anchor, zone):
        day -= one
    while epoch >= _moment(day + one, budget.anchor, zone):
        day += one
    return _span(_moment(day, budget.anchor, zone), _moment(day + one, budget.anchor, zone))


def _months(budget: Budget, epoch: float) -> Span:
    zone = _zone(budget.zone)
    local = datetime.fromtimestamp(epoch, zone)
    month = local.year * 12 + local.month - 1
    while epoch < _first(month, budget.anchor, zone):
        month -= 1
    while epoch >= _first(month + 1, budget.anchor, zone):
        month += 1
    return _span(_first(month, budget.anchor, zone), _first(month + 1, budget.anchor, zone))


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # also where the machine knows no zones


def _first(month: int, anchor: int, zone: tzinfo) -> int:
    """`month` is counted from year 0."""
    return _moment(date(month // 12, month % 12 + 1, 1 + anchor), 0, zone)


def _moment(day: date, hour: int, zone: tzinfo) -> int:
    """1: of a time that does not exist, fold 0 has the offset before: that is the moment of the change."""
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=zone).timestamp())
