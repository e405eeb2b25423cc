"""Which records a question means, newest first: those not yet indexed, then those of the index's portions.

The index (portions.py) only says where to look. Each record is looked at itself: first for the bytes that a wanted
value has in canonical JSON, then parsed. A portion that cannot hold what is meant is passed over without its records.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import orjson

from gateway.core.query import QueryFailed, RecordQuery
from gateway.stores.facets import MEMBERS, code_of, facet_of, moment_of, second_of

_PORTIONS = (
    "SELECT n, pairs, CASE WHEN :moment IS NULL THEN NULL ELSE codes END FROM portions WHERE n < :below"
    " AND (:since IS NULL OR last >= :since) AND (:until IS NULL OR first <= :until)"
    " AND (:moment IS NULL OR (low <= :moment AND high >= :moment)) ORDER BY n DESC LIMIT :rows"
)
_SUBJECT = "SELECT id FROM subjects WHERE subject = ?"
_FACETS = "SELECT id FROM facets WHERE {terms}"
ROWS, ROWS_MOST = 16, 4096  # portions picked in one step: first, and later

Bundle: TypeAlias = "Callable[[int], Sequence[tuple[int, bytes]]]"
Found: TypeAlias = "Iterator[tuple[int, dict[str, Any]]]"


class Search:
    """One question. `width`: entries in a portion. `bundle` reads those of one, by its number. Raises sqlite3.Error,
    and QueryFailed after `deadline` (`time.monotonic`)."""

    def __init__(
        self, query: RecordQuery, reader: sqlite3.Connection, width: int, bundle: Bundle, deadline: float
    ) -> None:
        self._query = query
        self._reader = reader
        self._width = width
        self._bundle = bundle
        self._deadline = deadline
        self._before = query.before if query.before is not None else 2**62
        self._wanted = [(at, value) for at, name in enumerate(MEMBERS) if (value := getattr(query, name)) is not None]
        self._marks: list[bytes] = []
        self._code: int | None = None
        self._subject: int | None = None
        self._facets: frozenset[int] | None = None
        self._needle = b""  # the subject's number as a portion has it

    def records(self, start: int, tail: Sequence[tuple[int, bytes]]) -> Found:
        """(seq, record), newest first, without end until there is no more. `tail`: the entries from seq `start` on,
        where the index ends."""
        values = [value for _, value in self._wanted]
        if self._query.exchange is not None:
            values.append(self._query.exchange)
        try:
            self._marks = [orjson.dumps(value) for value in values]
            if self._query.since is not None and self._query.until is not None:
                self._marks.append(b'"time":' + orjson.dumps(_beginning(self._query.since, self._query.until))[:-1])
        except orjson.JSONEncodeError:
            return  # a lone surrogate: no record has one
        yield from self._meant(tail)
        for n in self._portions(start // self._width):
            yield from self._meant(self._bundle(n))

    def _portions(self, below: int) -> Iterator[int]:
        """Those below number `below` that may hold what is meant, newest first."""
        if not self._known():
            return
        query = self._query
        asked = {
            "since": None if query.since is None else second_of(query.since),
            "until": None if query.until is None else second_of(query.until),
            "moment": None if query.exchange is None else moment_of(query.exchange),
        }
        self._code = None if query.exchange is None else code_of(query.exchange)
        below, rows = min(below, -(-self._before // self._width)), ROWS
        while True:
            self._in_time()
            found = self._reader.execute(_PORTIONS, {**asked, "below": below, "rows": rows}).fetchall()
            for n, pairs, codes in found:
                if codes is not None and self._code not in array("I", codes):
                    continue
                if self._may_hold(pairs):
                    yield n
            if len(found) < rows:
                return
            below, rows = found[-1][0], min(4 * rows, ROWS_MOST)

    def _known(self) -> bool:
        """Finds the numbers of what is wanted; False if some of it never occurred."""
        if self._query.subject is not None:
            row = self._reader.execute(_SUBJECT, (self._query.subject,)).fetchone()
            if row is None:
                return False
            self._subject = row[0]
            self._needle = array("I", row).tobytes()
        others = [(MEMBERS[at], value) for at, value in self._wanted if MEMBERS[at] != "subject"]
        if not others:
            return True
        statement = _FACETS.format(terms=" AND ".join(f"{name} = ?" for name, _ in others))
        self._facets = frozenset(row[0] for row in self._reader.execute(statement, [value for _, value in others]))
        return bool(self._facets)

    def _may_hold(self, pairs: bytes) -> bool:
        """Whether a portion with these pairs has one that is wanted."""
        if self._needle not in pairs:  # says no for most where somebody rare is sought, and is quick
            return False
        numbers = array("I", pairs)
        subjects, facets = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        if self._facets is None:
            return self._subject is None or self._subject in subjects
        if self._subject is None:
            return not self._facets.isdisjoint(facets)
        return any(who == self._subject and what in self._facets for who, what in zip(subjects, facets, strict=True))

    def _meant(self, entries: Sequence[tuple[int, bytes]]) -> Found:
        """Those that have all that is asked for."""
        self._in_time()
        query = self._query
        for seq, entry in reversed(entries):
            if seq >= self._before or not all(mark in entry for mark in self._marks):
                continue
            record = orjson.loads(entry)
            facet = facet_of(record)
            if (
                (query.exchange is None or record.get("exchange") == query.exchange)
                and all(facet[member] == value for member, value in self._wanted)
                and (query.since is None or record["time"] >= query.since)
                and (query.until is None or record["time"] <= query.until)
            ):
                yield seq, record

    def _in_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time")


def _beginning(first: str, second: str) -> str:
    """What both begin with, and so all that lies between them."""
    at = 0
    while at < min(len(first), len(second)) and first[at] == second[at]:
        at += 1
    return first[:at]
