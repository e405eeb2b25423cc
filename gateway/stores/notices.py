"""What was told of the log and what is still to be told, in SQLite: the ports Places and AlertBook.

The rule: each step is one transaction, on disk when it returns, so that a crash repeats at most the step it cut and an
alert that was told is never told again. Letters are bounded per channel: what does not fit is counted, never kept.
SQL is spelled out here. The files may be deleted: then telling begins anew behind what the log has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.core.canonical import Json
from gateway.core.notices import Adjusted, Alert, Letter, Place
from gateway.core.reasons import StoreFailed
from gateway.stores.sqlite import connect

LETTERS_MOST = 1000  # waiting for one channel: a receiver that was away a week must not get a flood
KEPT_SECONDS = 400 * 86400.0  # how long it is known that something was told: longer than any period

_PLACES = """
CREATE TABLE IF NOT EXISTS place (
    one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT
"""
_SCHEMA = (
    _PLACES
    + """;
CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY, account TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_of ON told (account) WHERE account != '';
CREATE TABLE IF NOT EXISTS letters (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, channel TEXT NOT NULL, alert TEXT NOT NULL,
    tries INTEGER NOT NULL, since REAL NOT NULL, due REAL NOT NULL, UNIQUE (channel, id)
) STRICT;
CREATE TABLE IF NOT EXISTS tallies (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digest (one INTEGER PRIMARY KEY CHECK (one = 1), due REAL NOT NULL) STRICT
"""
)
_FOUND = "SELECT seq, digest FROM place"
_KEEP = "INSERT OR REPLACE INTO place (one, seq, digest) VALUES (1, ?, ?)"
_TELL = "INSERT OR IGNORE INTO told (key, account, at) VALUES (?, ?, ?)"
_ANEW = "DELETE FROM told WHERE account = ? AND account != ''"
_FORGET = "DELETE FROM told WHERE at < ?"
_COUNT = "SELECT count(*) FROM letters WHERE channel = ?"
_POST = "INSERT OR IGNORE INTO letters (id, channel, alert, tries, since, due) VALUES (?, ?, ?, 0, ?, ?)"
_DUE = "SELECT id, alert, tries, since FROM letters WHERE channel = ? AND due <= ? ORDER BY n LIMIT ?"
_SENT = "DELETE FROM letters WHERE channel = ? AND id = ?"
_AGAIN = "UPDATE letters SET tries = tries + 1, due = ? WHERE channel = ? AND id = ?"
_TALLY = "INSERT INTO tallies (name, n) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"
_TALLIES = "SELECT name, n FROM tallies ORDER BY name"
_DIGEST_DUE = "SELECT due FROM digest"
_NEXT_DIGEST = "INSERT OR REPLACE INTO digest (one, due) VALUES (1, ?)"

_Found = TypeVar("_Found")


class SqlitePlaces:
    """The Places port."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = connect(path, _PLACES, durable=True)

    def found(self) -> Place | None:
        return _failing(self._path, lambda: _place(self._database))

    def keep(self, place: Place) -> None:
        _failing(self._path, lambda: self._database.execute(_KEEP, (place.seq, place.digest)))

    def close(self) -> None:
        self._database.close()


class SqliteAlertBook:
    """The AlertBook port. `new` makes the ids of letters."""

    def __init__(self, path: Path, new: Callable[[], str]) -> None:
        self._path = path
        self._new = new
        self._database = connect(path, _SCHEMA, durable=True)

    def found(self) -> Place | None:
        return _failing(self._path, lambda: _place(self._database))

    def note(
        self,
        news: Sequence[Alert | Adjusted],
        tallies: Mapping[str, int],
        place: Place,
        channels: Sequence[str],
        now: float,
    ) -> None:
        def write(database: sqlite3.Connection) -> None:
            for item in news:
                if isinstance(item, Adjusted):
                    database.execute(_ANEW, (item.account,))
                elif database.execute(_TELL, (item.key, item.account, now)).rowcount:
                    self._post(item, channels, now)
            database.executemany(_TALLY, tallies.items())
            database.execute(_FORGET, (now - KEPT_SECONDS,))
            database.execute(_KEEP, (place.seq, place.digest))

        self._transaction(write)

    def due(self, channel: str, now: float, most: int) -> list[Letter]:
        rows = _failing(self._path, lambda: self._database.execute(_DUE, (channel, now, most)).fetchall())
        return [Letter(ident, channel, _alert(text), tries, since) for ident, text, tries, since in rows]

    def sent(self, letters: Sequence[Letter]) -> None:
        self._transaction(lambda database: database.executemany(_SENT, [(it.channel, it.id) for it in letters]))

    def failed(self, letters: Sequence[Letter], again_at: float | None) -> None:
        if again_at is None:
            self.sent(letters)
            return
        rows = [(again_at, item.channel, item.id) for item in letters]
        self._transaction(lambda database: database.executemany(_AGAIN, rows))

    def digest_due(self) -> float | None:
        row = _failing(self._path, lambda: self._database.execute(_DIGEST_DUE).fetchone())
        return None if row is None else float(row[0])

    def digest(self, alert: Alert | None, channels: Sequence[str], next_due: float, now: float) -> None:
        def write(database: sqlite3.Connection) -> None:
            if alert is not None:
                database.execute("DELETE FROM tallies")
                self._post(alert, channels, now)
            database.execute(_NEXT_DIGEST, (next_due,))

        self._transaction(write)

    def tallies(self) -> Mapping[str, int]:
        return dict(_failing(self._path, lambda: self._database.execute(_TALLIES).fetchall()))

    def close(self) -> None:
        self._database.close()

    def _post(self, alert: Alert, channels: Sequence[str], now: float) -> None:
        text, ident = _text(alert), self._new()
        for channel in channels:
            [[waiting]] = self._database.execute(_COUNT, (channel,))
            if waiting >= LETTERS_MOST:
                self._database.execute(_TALLY, (f"dropped {channel}", 1))
            else:
                self._database.execute(_POST, (ident, channel, text, now, now))

    def _transaction(self, write: Callable[[sqlite3.Connection], object]) -> None:
        def whole() -> None:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                write(self._database)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._database.rollback()
                raise

        _failing(self._path, whole)


def _place(database: sqlite3.Connection) -> Place | None:
    row: tuple[int, bytes] | None = database.execute(_FOUND).fetchone()
    return None if row is None else Place(*row)


def _failing(path: Path, ask: Callable[[], _Found]) -> _Found:
    try:
        return ask()
    except sqlite3.Error as error:
        raise StoreFailed(f"{path} does not answer: {error}") from error


def _text(alert: Alert) -> str:
    said: dict[str, Json] = {
        "key": alert.key,
        "kind": alert.kind,
        "time": alert.time,
        "about": alert.about,
        "title": alert.title,
        "text": alert.text,
        "facts": dict(alert.facts),
    }
    return json.dumps(said)


def _alert(text: str) -> Alert:
    return Alert(**json.loads(text))
