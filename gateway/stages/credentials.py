"""Who the gateway is for the upstream, where that takes more than a fixed header: a token of its own or for the caller.

It comes behind policy and limits, so that no token endpoint is asked on behalf of somebody who may not call, and before
the intent, so that nothing was to be forwarded yet when there is no token. It must never fall back to the caller's own
credential, nor to none.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.exchange import Exchange, Header
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Refusal


class Credentials:
    name = "credentials"

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        source = exchange.upstream.source
        if source is None:
            return CONTINUE
        found = source.headers(exchange)
        if isinstance(found, Awaitable):
            return self._later(exchange, found)
        return self._verdict(exchange, found)

    async def _later(self, exchange: Exchange, pending: Awaitable[tuple[Header, ...] | Refusal]) -> Verdict:
        return self._verdict(exchange, await pending)

    def _verdict(self, exchange: Exchange, found: tuple[Header, ...] | Refusal) -> Verdict:
        if isinstance(found, Refusal):
            return found
        if not found:
            raise RuntimeError("a source of credentials gave none")
        exchange.granted = found
        return CONTINUE
