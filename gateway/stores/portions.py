"""How the index of records is kept in SQLite, and how it grows.

A row per record would cost more than all the rest of a record. So a row stands for a portion: as many neighbours as the
log keeps in one file, with what occurs among them (facets.py). A question picks portions; their records are read and
looked at. What recurs is written once and named by number: a portion has pairs of a subject and of all else that
records are sought by, so that who is sought with what is found without looking at everybody's. Nothing written is ever
changed. A file of another layout is begun anew.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from typing import Any, Final

from gateway.stores.facets import Facet, Portion
from gateway.stores.following import set_position

SCHEMA = """
CREATE TABLE IF NOT EXISTS subjects (id INTEGER PRIMARY KEY, subject TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS facets (
    id INTEGER PRIMARY KEY, action TEXT, route TEXT, kind TEXT NOT NULL, effect TEXT, reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS by_members ON facets (action, route, kind, effect, reason);
CREATE TABLE IF NOT EXISTS portions (
    n INTEGER PRIMARY KEY, first TEXT NOT NULL, last TEXT NOT NULL, low TEXT NOT NULL, high TEXT NOT NULL,
    pairs BLOB NOT NULL, codes BLOB NOT NULL
) STRICT;
"""
LAYOUT = 3
PORTION = 256  # entries, as in a bundle of the log
_ADD_SUBJECT: Final = "INSERT INTO subjects (subject) VALUES (?)"
_FIND_SUBJECT: Final = "SELECT id FROM subjects WHERE subject = ?"
_ADD_FACET: Final = "INSERT INTO facets (action, route, kind, effect, reason) VALUES (?, ?, ?, ?, ?)"
_FIND_FACET: Final = (
    "SELECT id FROM facets WHERE action IS ? AND route IS ? AND kind IS ? AND effect IS ? AND reason IS ?"
)
_ADD_PORTION: Final = "INSERT INTO portions (n, first, last, low, high, pairs, codes) VALUES (?, ?, ?, ?, ?, ?, ?)"
_KNOWN_MOST = 16_384  # subjects, and facets, whose ids are kept in memory

NOBODY: Final = 0  # the number of a subject that is not there


class PortionWriter:
    """Owned by one thread at a time."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._pairs: dict[Facet, tuple[int, int]] = {}
        self._subjects: dict[Facet, int] = {}
        self._facets: dict[Facet, int] = {}

    def add(self, n: int, portions: Sequence[Portion], seq: int, entry: bytes) -> None:
        """Portions from number `n` on, at least one, the last of which ends with this entry, in one transaction.
        Raises sqlite3.Error: nothing was written."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            rows = [
                (number, item.first, item.last, item.low, item.high, self._numbers(item), bytearray(item.codes))
                for number, item in enumerate(portions, n)
            ]
            self._database.executemany(_ADD_PORTION, rows)
            set_position(self._database, LAYOUT, seq, entry)
            self._database.execute("COMMIT")
        except sqlite3.Error:
            for known in (self._pairs, self._subjects, self._facets):
                known.clear()  # ids of rows that are not there
            self._database.rollback()
            raise

    def _numbers(self, portion: Portion) -> bytearray:
        """Those of the subjects, then those of what goes with each. (sqlite3 looks for an adapter of each `bytes`, at
        more than the rest of a row costs; of a `bytearray` it does not.)"""
        pairs = [self._pair(facet) for facet in portion.facets]
        return bytearray(array("I", [who for who, _ in pairs] + [what for _, what in pairs]))

    def _pair(self, facet: Facet) -> tuple[int, int]:
        pair = self._pairs.get(facet)
        if pair is None:
            who = NOBODY if facet[0] is None else self._number(self._subjects, facet[:1], _FIND_SUBJECT, _ADD_SUBJECT)
            pair = who, self._number(self._facets, facet[1:], _FIND_FACET, _ADD_FACET)
            _remember(self._pairs, facet, pair)
        return pair

    def _number(self, known: dict[Facet, int], members: Facet, find: str, add: str) -> int:
        found = known.get(members)
        if found is None:
            row = self._database.execute(find, members).fetchone()
            found = row[0] if row else self._database.execute(add, members).lastrowid
            if found is None:
                raise sqlite3.DatabaseError("a row has no number")
            _remember(known, members, found)
        return found


def _remember(known: dict[Facet, Any], members: Facet, found: Any) -> None:
    if len(known) >= _KNOWN_MOST:
        known.clear()
    known[members] = found
