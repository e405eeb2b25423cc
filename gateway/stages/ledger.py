"""All limits of the exchange, in one all-or-nothing call.

What is taken stands in `exchange.permits`; Meter gives it back. On refusal nothing stays taken.
"""

from __future__ import annotations

from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE, Verdict


class Ledger:
    name = "ledger"

    def __call__(self, exchange: Exchange) -> Verdict:
        refusal = exchange.snapshot.limiter.take(exchange)
        return CONTINUE if refusal is None else refusal
