"""Sends the judged bytes to the upstream and waits for the head of its answer.

What leaves is what was judged: the original body, the raw target behind the upstream's own path, the canonical headers
without the caller's credential. Errors of the upstream become refusals with a Proxy-Status that tells them apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from gateway.core.exchange import Exchange, Header
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Clock, UpstreamTargets
from gateway.core.reasons import Refusal, Spoiled, UpstreamFailed, upstream_refusal
from gateway.stages.kept import kept


class Forward:
    name = "forward"

    def __init__(
        self,
        targets: UpstreamTargets,
        connect: Callable[[Exchange, str], Awaitable[None]],
        headers: Callable[[Exchange], Iterable[Header]],
        clock: Clock,
        pseudonym: str,
    ) -> None:
        """`connect` opens a WebSocket and puts it on the exchange; `pseudonym` is our name in Proxy-Status."""
        self._targets = targets
        self._connect = connect
        self._headers = headers
        self._clock = clock
        self._pseudonym = pseudonym

    async def __call__(self, exchange: Exchange) -> Verdict:
        call, upstream, head = exchange.call, exchange.upstream, exchange.head
        body = call.body if call.body is not None else exchange.body
        started = self._clock.monotonic()
        try:
            if head.websocket:
                exchange.sent = True
                await self._connect(exchange, target(exchange))
                return CONTINUE
            if call.listing == "skills" and (found := kept(exchange)) is not None:
                if isinstance(found, Refusal):
                    return found
                exchange.answer = found
                return CONTINUE
            exchange.sent = True  # until it is known that nothing was
            exchange.answer = answer = await self._targets.client(upstream).send(
                head.method,
                target(exchange),
                self._headers(exchange),
                body if exchange.body_stream is None else exchange.body_stream,
                body_bytes=exchange.body_bytes,
                idempotent=call.idempotent,
                stream=call.stream,
            )
        except UpstreamFailed as error:
            exchange.sent = error.sent
            exchange.result = "timeout" if error.timeout else "upstream_gone"
            return upstream_refusal(upstream.name, error, self._pseudonym)
        except Spoiled as spoiled:  # the body's last piece was held back: the upstream has no whole request
            exchange.result, exchange.sent = "error", False
            return spoiled.refusal
        if answer.status == 401 and upstream.source is not None:
            upstream.source.rejected(exchange)
        exchange.upstream_ms = (self._clock.monotonic() - started) * 1000
        exchange.upstream_address = answer.address
        return CONTINUE


def target(exchange: Exchange) -> str:
    """The upstream's path, what follows the route's own path, and the caller's query, all as they stand: an empty query
    is not the same as none."""
    head = exchange.head
    path = exchange.upstream.path + exchange.route.rest(head.path)
    if not path.startswith("/"):
        path = "/" + path
    return path + head.target[len(head.path) :]
