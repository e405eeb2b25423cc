"""Which records a question means: seqs out of the index (portions.py), newest first, one step at a time.

Facets are exact: what is found by them need not be looked at. Where a portion lies across the edge of a time range, and
among the records of an exchange, the records themselves are asked. The newest portions are searched first and ever more
at a time, so that a page of what is common costs no more than the page.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from gateway.core.query import QueryFailed, RecordQuery
from gateway.stores.facets import facts_of

_OF_EXCHANGE = "SELECT seq, intent FROM exchanges WHERE exchange = ?"
_FIRST_SINCE = "SELECT MIN(start) FROM portions WHERE last >= ?"
_LAST_UNTIL = "SELECT MAX(start) FROM portions WHERE first <= ?"
_NEWEST = "SELECT MAX(start) FROM portions"
_PORTIONS = "SELECT start, count, first, last, NULL FROM portions WHERE start BETWEEN ? AND ? ORDER BY start DESC"
_POSTINGS = (
    "SELECT start, count, first, last, offsets FROM postings JOIN portions USING (start)"
    " WHERE facet IN (SELECT id FROM facets WHERE {terms}) AND start BETWEEN ? AND ? ORDER BY start DESC"
)
_MEMBERS = ("subject", "action", "route", "kind", "effect", "reason")
_LOOKED_AT = 256  # records of an exchange, in one step

WINDOW, WINDOW_MOST = 65_536, 1_048_576  # records searched in one step: first, and later

Records: TypeAlias = "Callable[[Sequence[int]], Iterable[dict[str, Any]]]"


class Search:
    """One question. `records` reads what seqs stand for. Raises sqlite3.Error, and QueryFailed after `deadline`
    (`time.monotonic`)."""

    def __init__(self, query: RecordQuery, reader: sqlite3.Connection, records: Records, deadline: float) -> None:
        self._query = query
        self._reader = reader
        self._records = records
        self._deadline = deadline
        self._before = query.before if query.before is not None else 2**62
        self._terms = [name for name in _MEMBERS if getattr(query, name) is not None]
        self._values: list[str] = [getattr(query, name) for name in self._terms]

    def seqs(self) -> Iterator[int]:
        """Newest first, without end until there is no more."""
        if self._query.exchange is not None:
            yield from self._of_exchange()
            return
        edges = self._edges()
        if edges is None:
            return
        low, high = edges
        width = WINDOW
        while high >= low:
            bottom = max(low, high - width + 1)
            yield from self._window(bottom, high)
            high, width = bottom - 1, min(4 * width, WINDOW_MOST)

    def _of_exchange(self) -> Iterator[int]:
        self._in_time()
        rows = self._reader.execute(_OF_EXCHANGE, (self._query.exchange,)).fetchall()
        found = sorted({seq for row in rows for seq in row if seq is not None and seq < self._before}, reverse=True)
        for at in range(0, len(found), _LOOKED_AT):
            yield from self._meant(found[at : at + _LOOKED_AT])

    def _edges(self) -> tuple[int, int] | None:
        """The first and the last portion that can hold what is meant."""
        self._in_time()
        low = self._one(_FIRST_SINCE, self._query.since) if self._query.since is not None else 0
        high = self._one(_LAST_UNTIL, self._query.until) if self._query.until is not None else self._one(_NEWEST)
        return None if low is None or high is None else (low, min(high, self._before - 1))

    def _one(self, statement: str, *values: str) -> int | None:
        found: int | None = self._reader.execute(statement, values).fetchone()[0]
        return found

    def _window(self, low: int, high: int) -> Iterator[int]:
        """What is meant of the portions that start there."""
        self._in_time()
        terms = " AND ".join(f"{name} = ?" for name in self._terms)
        statement = _POSTINGS.format(terms=terms) if terms else _PORTIONS
        rows = self._reader.execute(statement, (*self._values, low, high)).fetchall()
        at = 0
        while at < len(rows):
            start, count, first, last, _ = rows[at]
            found: list[int] = []
            while at < len(rows) and rows[at][0] == start:
                offsets = range(count) if rows[at][4] is None else array("H", rows[at][4])
                found += [start + offset for offset in offsets if start + offset < self._before]
                at += 1
            found.sort(reverse=True)
            since, until = self._query.since, self._query.until
            whole = (since is None or since <= first) and (until is None or last <= until)
            yield from found if whole else self._meant(found)

    def _meant(self, seqs: Sequence[int]) -> Iterator[int]:
        """Those whose records have all that is asked for."""
        self._in_time()
        query = self._query
        for seq, record in zip(seqs, self._records(seqs), strict=True):
            facet, exchange, when = facts_of(record)
            if (
                (query.exchange is None or exchange == query.exchange)
                and all(getattr(facet, name) == getattr(query, name) for name in self._terms)
                and (query.since is None or when >= query.since)
                and (query.until is None or when <= query.until)
            ):
                yield seq

    def _in_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time")
