"""Fetches an agent's card, as the gateway itself: one GET over the upstream's own client, bounded in size.

The address is the upstream's, from the configuration; nothing that a card or a caller says leads anywhere. The caller
of this sets the deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from gateway.core.descriptors import CARD_PATHS
from gateway.core.exchange import Header
from gateway.core.fetching import Fetched
from gateway.core.ports import UpstreamTargets
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.trust.cards import CARD_LIMIT_BYTES

Credentials: TypeAlias = "Callable[[Upstream], Awaitable[Sequence[Header]]]"


class CardFetcher:
    """`credentials` gives the headers that the gateway itself brings to an upstream."""

    def __init__(self, targets: Callable[[], UpstreamTargets], credentials: Credentials) -> None:
        self._targets = targets
        self._credentials = credentials

    async def __call__(self, upstream: Upstream, conditions: Sequence[Header]) -> Fetched:
        """Of the first of its addresses that can be reached. Raises UpstreamFailed. A redirect is an answer like any
        other: it is not followed."""
        *others, last = upstream.members or (upstream,)
        for member in others:
            try:
                return await self._at(member, conditions)
            except UpstreamFailed as failure:
                if failure.sent:
                    raise
        return await self._at(last, conditions)

    async def _at(self, upstream: Upstream, conditions: Sequence[Header]) -> Fetched:
        headers: list[Header] = [
            (b"host", upstream.authority.encode()),
            (b"user-agent", b"tollgate"),
            (b"accept", b"application/json"),
            (b"accept-encoding", b"identity"),
            *((name.lower(), value) for name, value in await self._credentials(upstream)),
            *conditions,
        ]
        client = self._targets().client(upstream)
        answer = await client.send("GET", upstream.path + CARD_PATHS[0], headers, None, idempotent=True)
        try:
            body = b""
            while chunk := await answer.chunk():
                body += chunk
                if len(body) > CARD_LIMIT_BYTES:
                    text = f"its card is larger than {CARD_LIMIT_BYTES} bytes"
                    raise UpstreamFailed(text, error="http_response_body_size", sent=True)
        finally:
            await answer.aclose()
        found = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers)
        return Fetched(answer.status, found, body)
