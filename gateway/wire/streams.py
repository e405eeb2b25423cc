"""The open streams of the process: whoever may no longer call loses its stream within a second (ruling 4).

One background loop asks twice a second for all of them; a stream that moves is asked at each event too. Nothing here is
touched by an answer that came in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.core.exchange import Exchange, Principal
from gateway.core.snapshot import Snapshot

IDLE_SECONDS = 0.5


class Streams:
    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current
        self._open: dict[str, tuple[Exchange, asyncio.Task[object] | None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def alive(self, principal: Principal | None) -> bool:
        """By the newest snapshot, not the pinned one: a revocation must reach what is already under way."""
        return principal is not None and self._current().authenticator.alive(principal)

    @contextmanager
    def watched(self, exchange: Exchange) -> Iterator[None]:
        """While open, the current task is cancelled once the exchange's principal is no longer alive."""
        self._open[exchange.id] = (exchange, asyncio.current_task())
        try:
            yield
        finally:
            del self._open[exchange.id]

    def sweep(self) -> None:
        """Ends what must end now. Called by `watch`, and by whoever revokes and does not want to wait."""
        for exchange, task in list(self._open.values()):
            if not exchange.revoked and not self.alive(exchange.principal):
                exchange.revoked = True
                exchange.result = "error"
                exchange.fault = "revoked: the caller's credential ended while its stream was open"
                if task is not None:
                    task.cancel()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            self.sweep()
