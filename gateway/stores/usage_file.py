"""The book of usage as a file, read by whoever checks it: every sum of accounts, and usage of some days, of one moment.

Works beside a running gateway and changes nothing. Whoever reads it believes none of it: it is compared with the log.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.core.accounts import scale
from gateway.stores.sqlite import StoreFailed

_POSITION: Final = "SELECT seq FROM position"
_SETTLED: Final = "SELECT budget, unit, period, key, settled FROM settled"
_USED: Final = (
    "SELECT org, type, resource, sum(calls), sum(input_tokens), sum(output_tokens), sum(bytes_in), sum(bytes_out), "
    "sum(usd) FROM used WHERE day BETWEEN ? AND ? GROUP BY org, type, resource"
)
_MEASURES: Final = ("calls", "input_tokens", "output_tokens", "bytes_in", "bytes_out", "usd")


@dataclass(frozen=True, slots=True)
class Written:
    """`counted` entries of the log are in it. Accounts by budget, unit, period and key, in the unit; usage by
    organisation, type and resource."""

    counted: int
    settled: dict[tuple[str, str, str, str], Decimal]
    used: dict[tuple[str, str, str], dict[str, Decimal]]


def written(path: Path, first: str, last: str) -> Written:
    """Usage of the days from `first` to `last`, both included. Raises StoreFailed."""
    try:
        database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreFailed(f"{path} cannot be opened: {error}") from None
    try:
        database.execute("BEGIN")
        position = database.execute(_POSITION).fetchone()
        settled = {
            (budget, unit, period, key): Decimal(amount) / scale(unit)
            for budget, unit, period, key, amount in database.execute(_SETTLED)
        }
        used: dict[tuple[str, str, str], dict[str, Decimal]] = {}
        for org, kind, resource, *sums in database.execute(_USED, (first, last)):
            row = {name: Decimal(count) for name, count in zip(_MEASURES, sums, strict=True)}
            row["usd"] /= scale("usd")
            if any(row.values()):
                used[org, kind, resource] = row
    except sqlite3.Error as error:
        raise StoreFailed(f"{path} cannot be read: {error}") from None
    finally:
        database.close()
    return Written(position[0] + 1 if position else 0, settled, used)
