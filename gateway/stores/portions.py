"""How the index of records is kept in SQLite, and how it grows.

A row per record and member would cost more than all the rest of a record. So neighbours are indexed together: a portion
is a run of seqs with its span of time, and for each facet (facets.py) that occurs in it the offsets of its records. An
exchange has a row of its own, one for both its records when they are in one portion. Nothing written is ever changed.
Few statements with many rows each: sqlite3 gives up the interpreter at each one, and getting it back from a busy event
loop costs more than the rows.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from array import array
from collections.abc import Sequence
from itertools import chain

from gateway.stores.facets import Facet, FactReader

SCHEMA = """
CREATE TABLE IF NOT EXISTS facets (
    id INTEGER PRIMARY KEY, subject TEXT, action TEXT, route TEXT, kind TEXT NOT NULL, effect TEXT, reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS by_members ON facets (subject, action, route, kind, effect, reason);
CREATE TABLE IF NOT EXISTS postings (
    facet INTEGER NOT NULL, start INTEGER NOT NULL, offsets BLOB NOT NULL, PRIMARY KEY (facet, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS portions (
    start INTEGER PRIMARY KEY, count INTEGER NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_first ON portions (first, start);
CREATE INDEX IF NOT EXISTS by_last ON portions (last, start);
CREATE TABLE IF NOT EXISTS exchanges (
    exchange TEXT NOT NULL, seq INTEGER NOT NULL, intent INTEGER, PRIMARY KEY (exchange, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
"""
POSITION = "SELECT seq, digest FROM position WHERE layout = 2"  # a file of the first layout has no such column
_SET_POSITION = "INSERT OR REPLACE INTO position (one, layout, seq, digest) VALUES (1, 2, ?, ?)"
_ADD_FACET = "INSERT INTO facets (subject, action, route, kind, effect, reason) VALUES (?, ?, ?, ?, ?, ?)"
_FIND_FACET = (
    "SELECT id FROM facets"
    " WHERE subject IS ? AND action IS ? AND route IS ? AND kind IS ? AND effect IS ? AND reason IS ?"
)
_ADD_PORTION = "INSERT INTO portions (start, count, first, last) VALUES (?, ?, ?, ?)"
_ADD_POSTINGS = "INSERT INTO postings (facet, start, offsets) VALUES "
_ADD_EXCHANGES = "INSERT INTO exchanges (exchange, seq, intent) VALUES "

PORTION = 1024  # records: an offset fits 16 bits, a page of the file holds a posting or two
_ROWS = 256  # per statement
_SLICE = 256  # records read before the event loop is let in
_PAUSE_SECONDS = 0.001  # less would give it back before the loop woke
_FACETS_MOST = 16_384  # whose ids are kept in memory


class PortionWriter:
    """Owned by one thread at a time."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._reader = FactReader()
        self._facets: dict[Facet, int] = {}

    def add(self, portion: Sequence[tuple[int, bytes]]) -> None:
        """At most PORTION contiguous (seq, entry), in one transaction. Raises sqlite3.Error: nothing was written."""
        start, (last, entry) = portion[0][0], portion[-1]
        postings: dict[Facet, array[int]] = {}
        exchanges: list[tuple[str, int, int | None]] = []
        opened: dict[str, int] = {}
        times: list[str] = []
        read = self._reader.read
        for seq, data in portion:
            facet, exchange, when = read(seq, data)
            times.append(when)
            offsets = postings.get(facet)
            if offsets is None:
                offsets = postings[facet] = array("H")
            offsets.append(seq - start)
            if exchange is not None:
                if facet.kind == "intent" and exchange not in opened:
                    opened[exchange] = seq
                else:
                    exchanges.append((exchange, seq, opened.pop(exchange, None)))
            if not (seq + 1) % _SLICE:
                time.sleep(_PAUSE_SECONDS)
        exchanges += [(exchange, seq, None) for exchange, seq in opened.items()]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            rows = [(self._facet(facet), start, offsets.tobytes()) for facet, offsets in postings.items()]
            self._insert(_ADD_POSTINGS, rows)
            self._insert(_ADD_EXCHANGES, exchanges)
            self._database.execute(_ADD_PORTION, (start, len(portion), min(times), max(times)))
            self._database.execute(_SET_POSITION, (last, hashlib.sha256(entry).digest()))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            self._facets.clear()  # ids of rows that are not there
            self._database.rollback()
            raise

    def _facet(self, facet: Facet) -> int:
        known = self._facets.get(facet)
        if known is None:
            found = self._database.execute(_FIND_FACET, facet).fetchone()
            known = found[0] if found else self._database.execute(_ADD_FACET, facet).lastrowid
            if known is None:
                raise sqlite3.DatabaseError("a facet has no id")
            if len(self._facets) >= _FACETS_MOST:
                self._facets.clear()
            self._facets[facet] = known
        return known

    def _insert(self, statement: str, rows: Sequence[tuple[object, object, object]]) -> None:
        for at in range(0, len(rows), _ROWS):
            part = rows[at : at + _ROWS]
            self._database.execute(statement + ",".join(["(?, ?, ?)"] * len(part)), list(chain.from_iterable(part)))
