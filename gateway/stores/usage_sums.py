"""How the book of usage is kept in SQLite, and how a batch of sums gets into it.

`used` has a row per day, caller, upstream, resource and action; `settled` one per account, everything that was ever
settled on it; `slices` when that was, for accounts without a period of their own; `adjustments` what administrators
did. A book of another layout is begun anew. Slices get coarser with age: a minute for two days, an hour for two months,
then a day; each counts at its end, so that none ever leaves a window too early.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from gateway.stores.following import set_position
from gateway.stores.settlements import SLICE_SECONDS, SUM_MOST, Slice, Sums, adjusted

LAYOUT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS used (
    day TEXT NOT NULL, org TEXT NOT NULL, team TEXT NOT NULL, agent TEXT NOT NULL, subject TEXT NOT NULL,
    upstream TEXT NOT NULL, type TEXT NOT NULL, resource TEXT NOT NULL, action TEXT NOT NULL,
    calls INTEGER NOT NULL, refusals INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, cache_write_1h_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, image_tokens INTEGER NOT NULL, image_output_tokens INTEGER NOT NULL,
    audio_tokens INTEGER NOT NULL, audio_output_tokens INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL, usd INTEGER NOT NULL, estimated INTEGER NOT NULL, unpriced INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    PRIMARY KEY (day, org, team, agent, subject, upstream, type, resource, action)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settled (
    budget TEXT NOT NULL, unit TEXT NOT NULL, period TEXT NOT NULL, key TEXT NOT NULL, settled INTEGER NOT NULL,
    PRIMARY KEY (budget, unit, period, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slices (
    budget TEXT NOT NULL, unit TEXT NOT NULL, key TEXT NOT NULL, ends INTEGER NOT NULL, settled INTEGER NOT NULL,
    PRIMARY KEY (budget, unit, key, ends)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS adjustments (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, moment REAL NOT NULL, time TEXT NOT NULL, action TEXT NOT NULL,
    by TEXT NOT NULL, budget TEXT NOT NULL, unit TEXT NOT NULL, period TEXT NOT NULL, key TEXT NOT NULL, most INTEGER,
    unset INTEGER NOT NULL, granted INTEGER NOT NULL, until INTEGER NOT NULL, forgiven INTEGER NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_account ON adjustments (budget, unit, key);
"""
_ADD_USED: Final = f"""
INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET calls = min({SUM_MOST}, calls + excluded.calls),
    refusals = min({SUM_MOST}, refusals + excluded.refusals),
    input_tokens = min({SUM_MOST}, input_tokens + excluded.input_tokens),
    output_tokens = min({SUM_MOST}, output_tokens + excluded.output_tokens),
    cached_tokens = min({SUM_MOST}, cached_tokens + excluded.cached_tokens),
    cache_write_tokens = min({SUM_MOST}, cache_write_tokens + excluded.cache_write_tokens),
    cache_write_1h_tokens = min({SUM_MOST}, cache_write_1h_tokens + excluded.cache_write_1h_tokens),
    reasoning_tokens = min({SUM_MOST}, reasoning_tokens + excluded.reasoning_tokens),
    image_tokens = min({SUM_MOST}, image_tokens + excluded.image_tokens),
    image_output_tokens = min({SUM_MOST}, image_output_tokens + excluded.image_output_tokens),
    audio_tokens = min({SUM_MOST}, audio_tokens + excluded.audio_tokens),
    audio_output_tokens = min({SUM_MOST}, audio_output_tokens + excluded.audio_output_tokens),
    bytes_in = min({SUM_MOST}, bytes_in + excluded.bytes_in),
    bytes_out = min({SUM_MOST}, bytes_out + excluded.bytes_out), usd = min({SUM_MOST}, usd + excluded.usd),
    estimated = estimated + excluded.estimated, unpriced = unpriced + excluded.unpriced,
    unknown = unknown + excluded.unknown
"""
_ADD_SETTLED: Final = (
    "INSERT INTO settled VALUES (?, ?, ?, ?, ?) "
    f"ON CONFLICT DO UPDATE SET settled = min({SUM_MOST}, settled + excluded.settled)"
)
_ADD_SLICE: Final = (
    "INSERT INTO slices VALUES (?, ?, ?, ?, ?) "
    f"ON CONFLICT DO UPDATE SET settled = min({SUM_MOST}, settled + excluded.settled)"
)
_ADD_ADJUSTMENT: Final = "INSERT INTO adjustments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NEWEST_SLICES: Final = (
    "SELECT ends, settled FROM slices WHERE budget = ? AND unit = ? AND key = ? AND ends <= ? AND settled > 0 "
    "ORDER BY ends DESC"
)
_SET_SLICE: Final = "UPDATE slices SET settled = ? WHERE budget = ? AND unit = ? AND key = ? AND ends = ?"
_FOLD: Final = (
    "INSERT INTO slices SELECT budget, unit, key, (ends + ? - 1) / ? * ?, sum(settled) FROM slices "
    "WHERE ends <= ? AND ends % ? <> 0 GROUP BY 1, 2, 3, 4 "
    f"ON CONFLICT DO UPDATE SET settled = min({SUM_MOST}, settled + excluded.settled)"
)
_FOLDED: Final = "DELETE FROM slices WHERE ends <= ? AND ends % ? <> 0"
_HOUR: Final = 3600
_DAY: Final = 86_400
_AGES: Final = ((2 * _DAY, _HOUR), (62 * _DAY, _DAY))


class SumsWriter:
    """Owned by one thread at a time."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._folded = 0  # the hour in which slices were folded last

    def add(self, sums: Sums, seq: int, entry: bytes) -> None:
        """A batch that ends with this entry, in one transaction. Raises sqlite3.Error: nothing was written."""
        run = self._database.execute
        many = self._database.executemany
        run("BEGIN IMMEDIATE")
        try:
            many(_ADD_USED, [(*dims, *counts) for dims, counts in sums.used.items()])
            many(_ADD_SETTLED, [(*account, settled) for account, settled in sums.settled.items()])
            self._add_slices(sums.slices)
            for at, record in sums.adjustments:
                self._adjust(at, record)
            if sums.newest // _HOUR > self._folded:
                self._fold(sums.newest)
            set_position(self._database, LAYOUT, seq, entry)
            run("COMMIT")
        except sqlite3.Error:
            self._database.rollback()
            raise
        self._folded = max(self._folded, sums.newest // _HOUR)

    def _add_slices(self, slices: Mapping[Slice, int]) -> None:
        self._database.executemany(_ADD_SLICE, [(*part, settled) for part, settled in slices.items()])

    def _adjust(self, seq: int, record: dict[str, Any]) -> None:
        made, (budget, unit, period, key) = adjusted(record)
        moment = datetime.fromisoformat(record["time"]).timestamp()
        subject = record.get("subject") or {}
        self._database.execute(
            _ADD_ADJUSTMENT,
            (
                seq, record["id"], moment, record["time"], record.get("action", ""), subject.get("id", ""), budget,
                unit, period, key, made["most"], made["unset"], made["granted"], made["until"], made["forgiven"],
                str(record.get("reason", "")),
            ),
        )  # fmt: skip
        forgiven = made["forgiven"]
        if not period and isinstance(forgiven, int) and forgiven:
            self._forgive((budget, unit, key), int(moment), forgiven)

    def _forgive(self, account: tuple[str, str, str], moment: int, forgiven: int) -> None:
        """The newest up to then: they are what a window had. What other logs settled of it is owed to them."""
        ends = moment - moment % SLICE_SECONDS + SLICE_SECONDS
        for at, settled in self._database.execute(_NEWEST_SLICES, (*account, ends)).fetchall():
            taken = min(settled, forgiven)
            self._database.execute(_SET_SLICE, (settled - taken, *account, at))
            forgiven -= taken
            if not forgiven:
                return
        self._add_slices({(*account, ends): -forgiven})

    def _fold(self, newest: int) -> None:
        for age, width in _AGES:
            before = newest - age
            self._database.execute(_FOLD, (width, width, width, before, width))
            self._database.execute(_FOLDED, (before, width))


def slices_of(rows: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """As a Tally has them, without those that came to nothing."""
    return tuple((ends, settled) for ends, settled in rows if settled)
