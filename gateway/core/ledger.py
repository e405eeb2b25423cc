"""The ports of the ledger: who counts, who knows what an exchange asks for, what a call may cost.

Whoever counts (in memory, in the process that owns the counters, in Redis) implements `Counters`; `Ledger` asks it for
an exchange. The words are those of accounts.py. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING
from typing import Protocol as Port

from gateway.core.accounts import (
    Account,
    Adjustment,
    Ask,
    Balance,
    Budget,
    Charge,
    ChargeAsk,
    Given,
    Standing,
    Worst,
)

if TYPE_CHECKING:
    from gateway.core.canonical import Json
    from gateway.core.exchange import Call, Exchange
    from gateway.core.reasons import Refusal


class Counters(Port):
    """Who counts: in memory (ledger/counters.py), in the process that owns them, in Redis. One contract suite
    (tests/ports/test_counters.py) holds for all."""

    def take(self, ask: Ask) -> Given | Awaitable[Given]:
        """All of it or none, atomically over every node. Raises CountersUnavailable: nothing was taken, or what was
        taken under this id comes back by itself. Asking twice under one id is a fault."""
        ...

    def grow(self, id: str, charges: Sequence[ChargeAsk]) -> Given | Awaitable[Given]:
        """More of accounts that the id holds already, all or none. Raises CountersUnavailable."""
        ...

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        """Gives the id's places back and puts each charge's `settled` in the place of its `reserved`. Once; at once or,
        where a counter is elsewhere, queued: it gets there also when that is away for a while. Never raises or waits.
        """
        ...

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        """Raises CountersUnavailable."""
        ...

    async def adjust(self, adjustment: Adjustment) -> None:
        """Counts it, once for its id; what is reserved stays. Raises CountersUnavailable."""
        ...

    async def check(self) -> None:
        """As core.ports.Checked. Raises CountersUnavailable."""
        ...


class Totals(Port):
    """What counters are filled from when they begin with nothing (stores/usage.py: the log, summed up)."""

    async def standing(self, wanted: Sequence[tuple[Budget, str]]) -> Standing:
        """All accounts of each budget in the period that began then (as Account.period has it), with everything that
        the log had when it was asked. Raises StoreFailed (core/reasons.py)."""
        ...


class Ledger(Port):
    """All limits and budgets of a snapshot (ledger/): what an exchange asks for, what it is told, what it came to."""

    @property
    def budgets(self) -> Sequence[Budget]: ...

    def take(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        """Puts charges, headers and facts on the exchange; on refusal nothing stays taken."""
        ...

    def grow(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        """A stream has used what `exchange.usage` and its reader say by now: reserves on, ahead of it. Nothing is done
        while that fits in what is reserved. A Refusal: it does not, what came last must not be sent."""
        ...

    def remaining(self, exchange: Exchange, call: Call) -> dict[str, Json]:
        """Policy's `context.budget`: what was left when last heard of, by the budget's name. Never authoritative."""
        ...

    def settle(self, exchange: Exchange) -> None:
        """Closes everything the exchange holds, at what its usage came to; the facts stay on the exchange for its
        record. Once; never raises or waits."""
        ...


class Pricing(Port):
    """What calls cost (ledger/prices.py). One immutable revision of the price list; a Snapshot has it."""

    @property
    def listed(self) -> bool:
        """False: there is no price list, `cost` is always None."""
        ...

    @property
    def revision(self) -> str:
        """Names the list, "" where there is none."""
        ...

    def listing(self) -> list[Json]:
        """The list's rows, as people wrote them: prices as decimal strings of dollars, tokens by the million."""
        ...

    def worst(self, exchange: Exchange, output: int = 0) -> Worst:
        """The most that this call may come to; of a stepwise one, with so many tokens of output seen, to the end of its
        next step."""
        ...

    def reads(self, exchange: Exchange) -> bool:
        """Whether what the answer says of its own cost counts for this call."""
        ...

    def cost(self, exchange: Exchange) -> int | None:
        """Micro-dollars that the exchange's usage comes to, rounded up; None where there is no price for it. Whether
        the call has to be paid for is not asked here (settlement.py)."""
        ...
