"""Whether the upstream is known to fail: then nobody waits for it, and it is left alone.

It stands behind the ledger, so that a refused call holds no probe, and before anything is made or written down for the
call. What it takes is a Trial in `exchange.permits`; how the call ended counts when that is released. An upstream that
has no breaker costs one comparison.
"""

from __future__ import annotations

from gateway.core.breaking import Breaking
from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE, Verdict


class Breaker:
    name = "breaker"

    def __init__(self, breakers: Breaking) -> None:
        self._breakers = breakers

    def __call__(self, exchange: Exchange) -> Verdict:
        if exchange.upstream.breaker is None:
            return CONTINUE
        refusal = self._breakers.admit(exchange)
        return CONTINUE if refusal is None else refusal
