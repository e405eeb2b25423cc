"""Questions about records: what the admin plane asks and an index of the log answers.

The log is the truth, an index only finds: it may be behind, it may be rebuilt, it is never asked on the hot path.
Newest first; a cursor is a `seq`, so a page stays what it was while records arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol as Port

from gateway.core.canonical import Json

PAGE_MOST = 500  # records are up to 64 KiB each: a page stays below 32 MiB


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """All given members must hold, each compared byte by byte. `since` and `until` (both inclusive) are RFC 3339 UTC
    with six digits, as records carry them. `before`: only records whose seq is smaller."""

    exchange: str | None = None
    subject: str | None = None
    action: str | None = None
    route: str | None = None
    kind: str | None = None
    effect: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`cursor` is the `before` of the next page, None when there is none."""

    records: tuple[dict[str, Json], ...]
    cursor: int | None


class QueryFailed(Exception):
    """The index cannot answer this now; `args[0]` says why and what to do."""


class Records(Port):
    """An index over the log's records (stores/)."""

    async def find(self, query: RecordQuery) -> RecordPage:
        """Raises QueryFailed."""
        ...

    @property
    def behind(self) -> int:
        """How many committed records are not indexed yet."""
        ...


class Entries(Port):
    """The log's entries, for an index that catches up and reads what it found (log/)."""

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        """(seq, entry) from `start` up to but without `stop`, as far as they are there, in order. Any thread."""
        ...
