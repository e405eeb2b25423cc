"""Sends the judged bytes to the upstream and waits for the head of its answer.

What leaves is what was judged: the original body, the raw target behind the upstream's own path, the canonical headers
without the caller's credential. Errors of the upstream become refusals with a Proxy-Status that tells them apart. An
upstream with several addresses, or with retries, is asked through attempts.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from gateway.core.exchange import Exchange, Header
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Clock, UpstreamAnswer, UpstreamTargets
from gateway.core.reasons import Refusal, Spoiled, StoreFailed, UpstreamFailed, store_refusal, upstream_refusal
from gateway.stages.attempts import Attempts
from gateway.stages.kept import kept


class Forward:
    name = "forward"

    def __init__(
        self,
        targets: UpstreamTargets,
        connect: Callable[[Exchange, str], Awaitable[None]],
        headers: Callable[[Exchange], Iterable[Header]],
        attempts: Attempts,
        clock: Clock,
        pseudonym: str,
    ) -> None:
        """`connect` opens a WebSocket and puts it on the exchange; `pseudonym` is our name in Proxy-Status."""
        self._targets = targets
        self._connect = connect
        self._headers = headers
        self._attempts = attempts
        self._clock = clock
        self._pseudonym = pseudonym

    async def __call__(self, exchange: Exchange) -> Verdict:
        upstream, websocket = exchange.upstream, exchange.head.websocket
        if exchange.call.listing == "skills" and not websocket and (found := kept(exchange)) is not None:
            if isinstance(found, Refusal):
                return found
            exchange.answer = found
            return CONTINUE
        started = self._clock.monotonic()
        exchange.sent = True  # until it is known that nothing was
        try:
            answer = await self._begun(exchange, websocket)
        except UpstreamFailed as error:
            exchange.sent = exchange.sent and (error.sent or exchange.attempts > 1)
            exchange.result = "timeout" if error.timeout else "upstream_gone"
            return upstream_refusal(upstream.name, error, self._pseudonym)
        except Spoiled as spoiled:  # the body's last piece was held back: the upstream has no whole request
            exchange.result, exchange.sent = "error", spoiled.used
            return spoiled.refusal
        except StoreFailed as wrong:  # where a session lives cannot be known
            exchange.result, exchange.sent = "error", False
            return store_refusal(wrong)
        if answer is not None:
            exchange.answer = answer
            if answer.status == 401 and upstream.source is not None:
                upstream.source.rejected(exchange)
            exchange.upstream_ms = (self._clock.monotonic() - started) * 1000
            exchange.upstream_address = answer.address
        if exchange.trial is not None:
            exchange.trial.arrived()
        return CONTINUE

    def _begun(self, exchange: Exchange, websocket: bool) -> Awaitable[UpstreamAnswer | None]:
        once = self._open if websocket else self._send
        if exchange.upstream.members or exchange.upstream.retries is not None:
            return self._attempts.run(exchange, once)
        return once(exchange)

    def _send(self, exchange: Exchange) -> Awaitable[UpstreamAnswer]:
        call, head = exchange.call, exchange.head
        body = call.body if call.body is not None else exchange.body
        return self._targets.client(exchange.upstream).send(
            head.method,
            target(exchange),
            self._headers(exchange),
            body if exchange.body_stream is None else exchange.body_stream,
            body_bytes=exchange.body_bytes,
            idempotent=call.idempotent,
            stream=call.stream,
        )

    async def _open(self, exchange: Exchange) -> UpstreamAnswer | None:
        await self._connect(exchange, target(exchange))
        return None


def target(exchange: Exchange) -> str:
    """The upstream's path, what follows the route's own path, and the caller's query, all as they stand: an empty query
    is not the same as none."""
    head = exchange.head
    path = exchange.upstream.path + exchange.route.rest(head.path)
    if not path.startswith("/"):
        path = "/" + path
    return path + head.target[len(head.path) :]
