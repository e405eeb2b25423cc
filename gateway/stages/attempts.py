"""Sends a call to one of several addresses, and again where that is safe: the longer way through Forward.

1. What names a session or a task goes to the address where that lives, and nowhere else.
2. Where nothing can have arrived (no connection), another address is tried at once: that is no repeat, and costs none.
3. A repeat is of an idempotent call whose body is here, after a connection that failed or ended without an answer, or a
   502, 503 or 504 of which nobody has seen anything. It waits, is paid for from the share of repeats, and goes to
   another address where there is one. An upstream that says when to come back is not asked before.
4. All of it takes no longer than the first answer might have.
5. It is one exchange: one intent before, one outcome behind, which says how often it was sent.
6. A probe of an upstream that failed is one request: it is not repeated.
It must never send what may have arrived and is not idempotent a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.attempts import Addresses, Again, Chosen, authority_of, lives_at
from gateway.core.exchange import Exchange
from gateway.core.ports import Clock, Handles, UpstreamAnswer
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream

_PASSING: Final = frozenset({502, 503, 504})
_HOPELESS: Final = frozenset({"http_request_error", "tls_certificate_error"})  # as wrong the next time
_OURS: Final = frozenset({"http_request_error", "connection_limit_reached"})  # nothing of the address


class Attempts:
    def __init__(
        self,
        addresses: Addresses,
        again: Again,
        handles: Handles,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._addresses = addresses
        self._again = again
        self._handles = handles
        self._clock = clock
        self._sleep = sleep

    async def run(
        self, exchange: Exchange, once: Callable[[Exchange], Awaitable[UpstreamAnswer | None]]
    ) -> UpstreamAnswer | None:
        """What the last attempt gave. Raises UpstreamFailed, StoreFailed, and what `once` does. `exchange.sent` says
        whether a byte of any attempt may have arrived."""
        whole = exchange.upstream
        until = self._clock.monotonic() + whole.timeouts.response
        tried: list[str] = []
        arrived = False
        if whole.retries is not None:
            self._again.called(whole)
        home = await self._home(exchange, whole)
        while True:
            chosen = self._choose(exchange, whole, tried, home)
            exchange.sent = True
            answer: UpstreamAnswer | None = None
            failure: UpstreamFailed | None = None
            try:
                if exchange.attempts == 1:
                    answer = await once(exchange)
                else:
                    answer = await self._within(exchange, once, until)
            except UpstreamFailed as error:
                failure = error
            if failure is not None:
                arrived = arrived or failure.sent
                exchange.sent = arrived
            _tell(chosen, exchange, answer, failure)
            pause = self._again_in(exchange, whole, tried, home, answer, failure, until)
            if pause < 0.0:
                if failure is not None:
                    raise failure
                return answer
            arrived = arrived or answer is not None
            if answer is not None:
                await answer.aclose()
            if chosen is not None:
                chosen.release()
            if pause:
                await self._sleep(pause)
            exchange.attempts += 1

    async def _home(self, exchange: Exchange, whole: Upstream) -> str:
        """The authority where what the call names lives, "" where any will do."""  # 1
        if not whole.members:
            return ""
        for handle in exchange.call.handles:
            found = await self._handles.owner(lives_at(handle), route=exchange.route.name, upstream=whole.name)
            if found is not None:
                return authority_of(found)
        if any(not handle.chosen for handle in exchange.call.handles):
            return whole.authority  # of when the upstream had this one alone
        return ""

    def _choose(self, exchange: Exchange, whole: Upstream, tried: list[str], home: str) -> Chosen | None:
        if not whole.members:
            return None
        chosen = self._addresses.known(whole, home) if home else None
        if chosen is None:
            chosen = self._addresses.choose(whole, tried)
        exchange.permits.append(chosen)
        exchange.upstream = chosen.upstream
        exchange.address = chosen.upstream.authority
        tried.append(exchange.address)
        return chosen

    async def _within(
        self, exchange: Exchange, once: Callable[[Exchange], Awaitable[UpstreamAnswer | None]], until: float
    ) -> UpstreamAnswer | None:
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):  # 4
                return await once(exchange)
        except TimeoutError:
            raise UpstreamFailed("no answer in time", error="http_response_timeout", sent=True, timeout=True) from None

    def _again_in(
        self,
        exchange: Exchange,
        whole: Upstream,
        tried: list[str],
        home: str,
        answer: UpstreamAnswer | None,
        failure: UpstreamFailed | None,
        until: float,
    ) -> float:
        """Seconds until the next attempt; below 0: there is none."""
        left = until - self._clock.monotonic()
        elsewhere = not home and left > 0.0 and len(set(tried)) < len(whole.members)
        if elsewhere and failure is not None and not failure.sent and failure.error != "http_request_error":
            return 0.0  # 2
        settings, call = whole.retries, exchange.call
        if settings is None or exchange.attempts >= settings.attempts or not call.idempotent:
            return -1.0
        if exchange.body_stream is not None or not _passing(answer, failure):
            return -1.0
        if exchange.trial is not None and exchange.trial.probing:  # 6
            return -1.0
        pause = self._again.pause(whole, exchange.attempts + 1)
        if pause >= left or not self._again.allowed(whole):  # 3, 4
            return -1.0
        return max(pause, 0.000001)


def _passing(answer: UpstreamAnswer | None, failure: UpstreamFailed | None) -> bool:
    """Whether it may go well the next time."""
    if failure is not None:
        if failure.sent:
            return failure.error == "connection_terminated" and not failure.timeout
        return failure.error not in _HOPELESS
    if answer is None or answer.status not in _PASSING:
        return False
    return not any(name == b"retry-after" and value.strip() != b"0" for name, value in answer.headers)


def _tell(
    chosen: Chosen | None, exchange: Exchange, answer: UpstreamAnswer | None, failure: UpstreamFailed | None
) -> None:
    if chosen is None:
        return
    if failure is None:
        status = answer.status if answer is not None else int(getattr(exchange.socket, "status", 101))
        chosen.ended(status >= 500)
    elif failure.error not in _OURS:
        chosen.ended(True)
