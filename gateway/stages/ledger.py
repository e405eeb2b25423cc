"""All limits and budgets of the exchange, in one all-or-nothing call.

What is taken stands in `exchange.places` and `exchange.charges`; Meter gives it back. On refusal nothing stays taken.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Refusal


class Ledger:
    name = "ledger"

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        said = exchange.snapshot.ledger.take(exchange)
        if said is None:
            return CONTINUE
        return said if isinstance(said, Refusal) else _later(said)


async def _later(said: Awaitable[Refusal | None]) -> Verdict:
    """Whoever counts is elsewhere."""
    refusal = await said
    return CONTINUE if refusal is None else refusal
