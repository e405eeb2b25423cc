"""Questions about what was used: summed up by whom, of what and when, and the accounts of budgets with their history.

The log is the truth; a book of usage (stores/usage.py) sums it up and answers. Days are UTC, by the time of the record
that closed the exchange. Money is micro-dollars here; whoever shows it makes a decimal string of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Port

from gateway.core.accounts import Account, Adjustment, Balance, Budget, Tally
from gateway.core.canonical import Json

DIMENSIONS: Final = (
    "org", "team", "agent", "subject", "upstream", "model", "tool", "resource", "type", "action", "day", "month",
)  # fmt: skip
"""By what usage is summed up. `model` and `tool` are the resource's id where it is one, else ""; `resource` is any."""

COUNTS: Final = (
    "calls", "refusals", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens",
    "cache_write_1h_tokens", "reasoning_tokens", "image_tokens", "image_output_tokens", "audio_tokens",
    "audio_output_tokens", "bytes_in", "bytes_out", "usd", "estimated", "unpriced", "unknown",
)  # fmt: skip
"""What is counted of each: `usd` in micro-dollars; `estimated`, `unpriced` and `unknown` are numbers of calls."""

ROWS_MOST: Final = 10_000  # of one page


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """`start` and `stop` are days (2026-11-22), both included, "" for open ends; `only` are (dimension, value), all of
    which must hold, compared byte by byte. Rows are in the order of their values, `skip` of them left out."""

    by: tuple[str, ...]
    start: str = ""
    stop: str = ""
    only: tuple[tuple[str, str], ...] = ()
    limit: int = 1000
    skip: int = 0


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`values` in the order of `UsageQuery.by`, `counts` in that of COUNTS."""

    values: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsagePage:
    """`total` is over everything that the question means, also what is not on this page. `seq`: how far the log was
    counted."""

    rows: tuple[UsageRow, ...]
    total: UsageRow
    more: bool
    seq: int


@dataclass(frozen=True, slots=True)
class Adjusted:
    """One adjustment of an account, as its record has it; amounts in the ledger's whole numbers."""

    seq: int
    id: str
    time: str
    action: str
    by: str
    budget: str
    unit: str
    key: str
    period: str
    most: int | None
    unset: bool
    granted: int
    until: int
    forgiven: int
    why: str


@dataclass(frozen=True, slots=True)
class Running:
    """A budget's running period: `period` as Account.period has it, and epoch seconds; `ends` 0: never."""

    period: str
    begins: int
    ends: int


class AccountDesk(Port):
    """The budgets in force and who counts them, for whoever administers them (assembly_usage.py)."""

    @property
    def budgets(self) -> Sequence[Budget]: ...

    @property
    def limits(self) -> list[dict[str, Json]]:
        """The limits in force, as they are shown."""
        ...

    @property
    def shared(self) -> bool:
        """Whether balances are of several gateways together."""
        ...

    def running(self, budget: Budget) -> Running: ...

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        """Raises CountersUnavailable."""
        ...

    async def adjust(self, adjustment: Adjustment) -> bool:
        """False: nobody could be told of it now; it is told of again until somebody can. Its record is there."""
        ...


class Usages(Port):
    """A book of usage. Raises QueryFailed (core/query.py) where it cannot answer now."""

    async def usage(self, query: UsageQuery) -> UsagePage: ...

    async def keys(self, budget: Budget, period: str, *, find: str, after: str, limit: int) -> list[str]:
        """The accounts of a budget in the period that began then, by `key_text`, ascending: those that contain `find`,
        behind `after`."""
        ...

    async def tally(self, budget: Budget, period: str, key: str) -> Tally:
        """What the log says of one account; all 0 where it says nothing."""
        ...

    async def adjusted(self, budget: Budget, key: str, limit: int) -> list[Adjusted]:
        """The newest adjustments of an account, in all its periods, newest first."""
        ...
