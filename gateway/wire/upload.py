"""A request body that nobody judges, on its way from the front to the upstream: chunk by chunk, as it comes.

Its digest and size are known when it ends, and stand on the exchange then. It never holds more than one chunk. Under a
budget each chunk is asked for before it goes on, and the body ends where there is no room. (In a file of its own
because the compiled build has no asynchronous generators; this one is not compiled.)
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from gateway.core.exchange import Exchange
from gateway.core.reasons import Refusal, Spoiled
from gateway.wire.ration import grown

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def upload(exchange: Exchange, receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes; its digest and size are known when it ends."""
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            if isinstance(spoiled := message.get("refusal"), Refusal):
                exchange.refusal, exchange.status = spoiled, spoiled.http_status
                exchange.result, exchange.fault = "error", "the request's body was refused under way"
            raise asyncio.CancelledError("no more of the body")
        chunk: bytes = message["body"]
        more = message.get("more_body", False)
        if chunk:
            digest.update(chunk)
            exchange.usage.bytes_in += len(chunk)
            if exchange.charges and (refusal := await grown(exchange)) is not None:
                raise Spoiled(refusal, used=True)
            yield chunk
    exchange.request_digest = "sha256:" + digest.hexdigest()
