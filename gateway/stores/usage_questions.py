"""What the book of usage is asked, as SQL over its tables. One connection, one thread at a time.

What a question names (dimensions, columns) comes from lists of our own, never from whoever asks: only values are bound.
Everything one question says is of one moment: it reads in one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from gateway.core.accounts import Account, Budget, Standing, Tally
from gateway.core.usage import COUNTS, Adjusted, UsagePage, UsageQuery, UsageRow
from gateway.stores.settlements import SUM_MOST
from gateway.stores.usage_sums import slices_of

_DIMENSION: Final = {
    "org": "org", "team": "team", "agent": "agent", "subject": "subject", "upstream": "upstream",
    "model": "CASE WHEN type = 'model' THEN resource ELSE '' END",
    "tool": "CASE WHEN type = 'tool' THEN resource ELSE '' END",
    "resource": "resource", "type": "type", "action": "action", "day": "day", "month": "substr(day, 1, 7)",
}  # fmt: skip
# Each part of a sum stays whole: a total of sums that are full may be more than SQLite's whole numbers hold.
_SUMS: Final = ", ".join(f"sum({name} / 1048576), sum({name} % 1048576)" for name in COUNTS)
_SEQ: Final = "SELECT seq FROM position"
_SETTLED: Final = "SELECT key, settled FROM settled WHERE budget = ? AND unit = ? AND period = ?"
_ADJUSTED: Final = (
    "SELECT key, period, moment, most, unset, granted, until, forgiven FROM adjustments "
    "WHERE budget = ? AND unit = ? ORDER BY seq"
)
_ADJUSTED_IDS: Final = "SELECT id FROM adjustments WHERE budget = ? AND unit = ? ORDER BY seq"
_SLICES: Final = "SELECT key, ends, settled FROM slices WHERE budget = ? AND unit = ? AND ends > ? ORDER BY key, ends"
_KEYS: Final = """
SELECT key FROM settled WHERE budget = :budget AND unit = :unit AND period = :period
UNION SELECT key FROM adjustments WHERE budget = :budget AND unit = :unit
"""
_PAGE: Final = (
    f"SELECT key FROM ({_KEYS}) WHERE key > :after AND instr(key, :find) > 0 AND json_array_length(key) = :width "
    "ORDER BY key LIMIT :limit"
)
_HISTORY: Final = (
    "SELECT seq, id, time, action, by, budget, unit, key, period, most, unset, granted, until, forgiven, why "
    "FROM adjustments"
)


class Questions:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def standing(self, wanted: Sequence[tuple[Budget, str]], now: float) -> Standing:
        with self._moment():
            tallies = [tally for budget, period in wanted for tally in self._tallies(budget, period, now)]
            names = dict.fromkeys((budget.name, budget.unit) for budget, _ in wanted)
            known = [ident for of in names for (ident,) in self._database.execute(_ADJUSTED_IDS, of)]
            return Standing(self._seq(), tuple(tallies), tuple(known))

    def tally(self, budget: Budget, period: str, key: str, now: float) -> Tally:
        with self._moment():
            found = [tally for tally in self._tallies(budget, period, now) if tally.account.key == key]
        return found[0] if found else Tally(Account(budget.name, key, period), 0)

    def keys(self, budget: Budget, period: str, find: str, after: str, limit: int) -> list[str]:
        wanted = {
            "budget": budget.name, "unit": budget.unit, "period": period, "after": after, "find": find,
            "width": len(budget.key), "limit": limit,
        }  # fmt: skip
        return [key for (key,) in self._database.execute(_PAGE, wanted)]

    def adjusted(self, budget: Budget, key: str, limit: int) -> list[Adjusted]:
        where = " WHERE budget = ? AND unit = ? AND key = ? ORDER BY seq DESC LIMIT ?"
        return _history(self._database.execute(_HISTORY + where, (budget.name, budget.unit, key, limit)))

    def usage(self, query: UsageQuery) -> UsagePage:
        where, values = _where(query)
        columns = [_DIMENSION[name] for name in query.by]
        with self._moment():
            total = _counts(self._database.execute(f"SELECT {_SUMS} FROM used{where}", values).fetchone())
            rows: list[UsageRow] = []
            if columns:
                groups = ", ".join(columns)
                text = f"SELECT {groups}, {_SUMS} FROM used{where} GROUP BY {groups} ORDER BY {groups} LIMIT ? OFFSET ?"
                for row in self._database.execute(text, (*values, query.limit + 1, query.skip)):
                    rows.append(UsageRow(tuple(row[: len(columns)]), _counts(row[len(columns) :])))
            return UsagePage(tuple(rows[: query.limit]), UsageRow((), total), len(rows) > query.limit, self._seq())

    def _tallies(self, budget: Budget, period: str, now: float) -> Iterator[Tally]:
        of = (budget.name, budget.unit)
        settled: dict[str, int] = dict(self._database.execute(_SETTLED, (*of, period)))
        slices: dict[str, list[tuple[int, int]]] = {}
        rolling = budget.period == "rolling"
        if rolling:
            for key, ends, amount in self._database.execute(_SLICES, (*of, int(now) - budget.window)):
                slices.setdefault(key, []).append((ends, amount))
        made: dict[str, _Adjusting] = {}
        for key, begun, moment, most, unset, granted, until, forgiven in self._database.execute(_ADJUSTED, of):
            one = made.setdefault(key, _Adjusting())
            if most is not None or unset:
                one.most, one.set_at = (None if unset else most), moment
                one.then = one.most if begun <= period else one.then
            if begun == period:
                one.begun = True
                one.forgiven += forgiven
                if not until:
                    one.granted += granted
                elif until > now:
                    one.grants.append((granted, until))
        for key in sorted({*settled, *slices, *made}):
            if len(json.loads(key)) != len(budget.key):
                continue  # of a former key of this budget
            one = made.get(key) or _Adjusting()
            parts = slices_of(slices.get(key, ()))
            came = sum(amount for _, amount in parts) if rolling else settled.get(key, 0) - one.forgiven
            account = Account(budget.name, key, period)
            begun = one.begun or key in settled
            yield Tally(account, came, one.most, one.set_at, one.granted, tuple(one.grants), parts, begun, one.then)

    def _seq(self) -> int:
        found = self._database.execute(_SEQ).fetchone()
        return found[0] + 1 if found else 0

    @contextmanager
    def _moment(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.rollback()


class _Adjusting:
    """What was done to one account."""

    __slots__ = ("begun", "forgiven", "granted", "grants", "most", "set_at", "then")

    def __init__(self) -> None:
        self.most: int | None = None
        self.set_at = 0.0
        self.granted = 0
        self.grants: list[tuple[int, int]] = []
        self.forgiven = 0
        self.begun = False
        self.then: int | None = None


def _where(query: UsageQuery) -> tuple[str, list[str]]:
    parts, values = [], []
    for sign, day in ((">=", query.start), ("<=", query.stop)):
        if day:
            parts.append(f"day {sign} ?")
            values.append(day)
    for name, value in query.only:
        parts.append(f"{_DIMENSION[name]} = ?")
        values.append(value)
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), values


def _counts(row: Sequence[int | None]) -> tuple[int, ...]:
    pairs = zip(row[::2], row[1::2], strict=True)
    return tuple(min(SUM_MOST, (high or 0) * 1_048_576 + (low or 0)) for high, low in pairs)


def _history(rows: Iterable[tuple[Any, ...]]) -> list[Adjusted]:
    made: Callable[..., Adjusted] = Adjusted
    return [made(*row[:10], bool(row[10]), *row[11:]) for row in rows]
