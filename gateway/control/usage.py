"""`/api/v1/usage`: what was used, summed up by the gateway itself, as JSON or as CSV for a spreadsheet.

1. What is asked by comes from a list; values are compared byte by byte. 2. Money is a decimal string. 3. A cell of the
CSV that a spreadsheet would take for a formula gets an apostrophe before it: names are callers' own.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from datetime import date

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.problem import answer, problem
from gateway.core.accounts import shown
from gateway.core.canonical import Json
from gateway.core.usage import COUNTS, DIMENSIONS, ROWS_MOST, UsageQuery, UsageRow, Usages

PAGE = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Usage:
    def __init__(self, book: Usages) -> None:
        self._book = book

    def ways(self) -> list[Way]:
        return [Way("/api/v1/usage", self.usage)]

    async def usage(self, request: Request) -> Response:
        try:
            query, form = _query(request)
        except ValueError as error:
            return problem(400, str(error))
        page = await self._book.usage(query)
        skip = query.skip + len(page.rows)
        if form == "csv":
            more: dict[str, str] = {"x-next-cursor": str(skip)} if page.more else {}
            headers = {"content-disposition": 'attachment; filename="usage.csv"', "cache-control": "no-store", **more}
            return Response(_csv(query.by, page.rows), headers=headers, media_type="text/csv; charset=utf-8")
        rows: list[Json] = [{**dict(zip(query.by, row.values, strict=True)), **counts(row)} for row in page.rows]
        found: dict[str, Json] = {"by": list(query.by), "rows": rows, "total": counts(page.total)}
        return answer(request, found | {"next": skip if page.more else None, "size": page.seq})


def counts(row: UsageRow) -> dict[str, Json]:
    """What is not 0, and always calls and usd."""
    found: dict[str, Json] = {}
    for name, count in zip(COUNTS, row.counts, strict=True):
        if name == "usd":
            found[name] = shown(count, "usd")
        elif count or name == "calls":
            found[name] = count
    return found


def _csv(by: Sequence[str], rows: Sequence[UsageRow]) -> str:
    text = io.StringIO()
    written = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    written.writerow([*by, *COUNTS])
    for row in rows:
        numbers = [
            shown(count, "usd") if name == "usd" else str(count) for name, count in zip(COUNTS, row.counts, strict=True)
        ]
        written.writerow([*map(_cell, row.values), *numbers])
    return text.getvalue()


def _cell(value: str) -> str:
    """3"""
    return f"'{value}" if value.startswith(_FORMULA) else value


def _query(request: Request) -> tuple[UsageQuery, str]:
    """Raises ValueError that names the parameter."""
    given: dict[str, str] = {}
    known = ("by", "from", "to", "format", "cursor", "limit", *DIMENSIONS)
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise ValueError(f"The parameter {name!r} is not known; there are {', '.join(known)}")
        if name in given:
            raise ValueError(f"The parameter {name} is there twice")
        given[name] = value
    by = tuple(part for part in given.pop("by", "").split(",") if part)
    if not set(by) <= set(DIMENSIONS) or len(set(by)) != len(by):
        raise ValueError(f"by is a list of {', '.join(DIMENSIONS)}, with commas between, none twice")
    start, stop = _day("from", given.pop("from", "")), _day("to", given.pop("to", ""))
    form = given.pop("format", "json")
    if form not in ("json", "csv"):
        raise ValueError("format is json or csv")
    skip = _number("cursor", given.pop("cursor", "0"), 0, 10**9)
    limit = _number("limit", given.pop("limit", str(PAGE)), 1, ROWS_MOST)
    return UsageQuery(by, start, stop, tuple(given.items()), limit, skip), form


def _day(name: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise ValueError(f"{name} is a day of UTC, included, as in 2026-11-22") from None


def _number(name: str, text: str, least: int, most: int) -> int:
    if _NUMBER.fullmatch(text) is None or not least <= int(text) <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}")
    return int(text)
