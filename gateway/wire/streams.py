"""The open streams of the process: whoever may no longer call loses its stream within a second (ruling 4).

Three things end one: the caller's credential ended; its route lets no anonymous caller in any more; what it calls, or
itself, was blocked.

One background loop asks twice a second for all of them; a stream that moves is asked at each event too. Nothing here is
touched by an answer that came in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.core.exchange import Exchange
from gateway.core.snapshot import Route, Snapshot

IDLE_SECONDS = 0.5


class Streams:
    def __init__(self, current: Callable[[], Snapshot], barred: Callable[[Exchange], str]) -> None:
        """`barred` tells why an exchange may not go on, whoever's it is; "" while it may."""
        self._current = current
        self._barred = barred
        self._open: dict[str, tuple[Exchange, asyncio.Task[object] | None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ended(self, exchange: Exchange) -> str:
        """Why this stream may not go on, "" while it may. By the newest snapshot, not the pinned one: a revocation must
        reach what is already under way."""
        principal, current = exchange.principal, self._current()
        if principal is None or not current.authenticator.alive(principal):
            return "revoked: the caller's credential ended while its stream was open"
        if current is not exchange.snapshot and principal.type == "anonymous" and _asks_now(current, exchange.route):
            return "revoked: the route asks for a credential now, and this stream was opened without one"
        return self._barred(exchange)

    @contextmanager
    def watched(self, exchange: Exchange) -> Iterator[None]:
        """While open, the current task is cancelled once the exchange may not go on."""
        self._open[exchange.id] = (exchange, asyncio.current_task())
        try:
            yield
        finally:
            del self._open[exchange.id]

    def sweep(self) -> None:
        """Ends what must end now. Called by `watch`, and by whoever revokes and does not want to wait."""
        for exchange, task in list(self._open.values()):
            if not exchange.revoked and (why := self.ended(exchange)):
                exchange.revoked = True
                exchange.result = "error"
                exchange.fault = why
                if task is not None:
                    task.cancel()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            self.sweep()


def _asks_now(current: Snapshot, route: Route) -> bool:
    """A route that was taken away ends nothing that is under way; one that nobody may call without a name does."""
    now = current.routes.named(route.name)
    return now is not None and now.auth == "required"
