"""What looks wrong in a price list that can be read: told by `tollgate check` and at a reload, never refused for.

1. A pattern whose rows leave days out between them, or none of which is in force. 2. Two wildcards, equally specific,
that fit the same names: which counts is decided by their order. 3. A row for an upstream that is not there. 4. A price
a thousand times off those of its neighbours: most likely by the thousand tokens, or for one. 5. A long or special call
that is cheaper than the plain one, or lacks the discount for cached input that the plain one has; a cache that is
dearer to read than to do without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, pairwise
from statistics import median_low
from typing import Final

from gateway.ledger.price_rows import Level, Rates, Row

FAR_OFF: Final = 1000


def lint(rows: Sequence[Row], now: float, upstreams: Collection[str] | None = None) -> list[str]:
    """One line for each finding. `upstreams`: those of the configuration, None where they are not known."""
    found = [*_gaps(rows, now), *_ambiguous(rows)]
    if upstreams is not None:
        found += [
            f"{_of(row)}: no upstream is called {row.upstream}"
            for row in rows
            if row.upstream and row.upstream not in upstreams
        ]
    return [*found, *_far_off(rows), *_odd(rows)]


def _of(row: Row) -> str:
    return f"{row.kind} {row.pattern}" + (f" at {row.upstream}" if row.upstream else "")


def _gaps(rows: Sequence[Row], now: float) -> Iterator[str]:
    """Rule 1."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.pattern, row.upstream), []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: row.begins)
        for one, other in pairwise(group):
            if one.ends and one.ends < other.begins:
                days = (other.begins - one.ends) // 86400
                yield f"{_of(one)}: without a price for {days} days before its last one begins"
        if not any(row.in_force(now) for row in group):
            yield f"{_of(group[0])}: no price is in force today"


def _ambiguous(rows: Sequence[Row]) -> Iterator[str]:
    """Rule 2."""
    wild = list({(row.kind, row.pattern, row.upstream): row for row in rows if "*" in row.pattern}.values())
    for one, other in combinations(wild, 2):
        if one.kind == other.kind and one.upstream == other.upstream and one.rank == other.rank and _meet(one, other):
            yield f"{_of(one)}: {other.pattern} fits the same names and is as specific; the one written first counts"


def _meet(one: Row, other: Row) -> bool:
    """Whether some name fits both; what stands between two wildcards of one pattern is not looked at."""
    (head, *_, tail), (first, *_, last) = one.pattern.split("*"), other.pattern.split("*")
    return (head.startswith(first) or first.startswith(head)) and (tail.endswith(last) or last.endswith(tail))


def _far_off(rows: Sequence[Row]) -> Iterator[str]:
    """Rule 4. The neighbours are all others of the kind."""
    for kind in ("models", "tools", "agents", "http"):
        named = [(row, name, price) for row in rows if row.kind == kind for name, price in _prices(row) if price]
        for what in ("input", "output", "per_call"):
            prices = [price for _, name, price in named if name == what]
            if len(prices) < 3:
                continue
            middle = median_low(prices)
            for row, name, price in named:
                if name == what and (price >= middle * FAR_OFF or price * FAR_OFF <= middle):
                    yield f"{_of(row)}: {what} is more than {FAR_OFF} times off the others: for how many tokens is it?"


def _prices(row: Row) -> list[tuple[str, int]]:
    if not row.levels:
        return [("per_call", row.per_call)]
    rates = row.levels[0].rates
    return [("input", rates.input), ("output", rates.output)]


def _odd(rows: Sequence[Row]) -> Iterator[str]:
    """Rule 5."""
    for row in rows:
        if not row.levels:
            continue
        plain = row.levels[0].rates
        if plain.cached > plain.input:
            yield f"{_of(row)}: cached input is dearer than input"
        yield from _levels(row, "", row.levels, plain)
        for name, levels in row.services.items():
            yield from _levels(row, f" of {name}", levels, levels[0].rates)
            if plain.cached < plain.input and levels[0].rates.cached == levels[0].rates.input:
                yield f"{_of(row)}: {name} has no price for cached input: it counts as input"


def _levels(row: Row, which: str, levels: Sequence[Level], plain: Rates) -> Iterator[str]:
    for level in levels[1:]:
        where = f"{_of(row)}: above {level.above}{which}"
        if level.rates.input < plain.input or level.rates.output < plain.output:
            yield f"{where} it is cheaper"
        if plain.cached < plain.input and level.rates.cached == level.rates.input:
            yield f"{where} there is no price for cached input: it counts as input"
