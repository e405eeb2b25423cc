"""The HTTP/1.1 client of one upstream: a bounded pool of connections, last in first out (the `HttpClient` port).

Rules, numbered as in the code:
1. What is sent is exactly what was given; framing alone is added, and nothing is followed, decompressed or guessed.
2. A connection that has been idle is used only if nothing waits on its socket, and a request is repeated once at most:
   on a fresh connection, when a reused one ended without a byte of an answer, and only if the call is idempotent.
3. At most `PoolLimits.connections` are open; at most `waiters` wait for one, no longer than the connect deadline.
4. One timer per pool looks at every deadline; it runs only while something is open.
5. A call that is cancelled ends its connection; a place or a connection that was promised to it goes to the next.
It must never hand a connection to an exchange before the last one has ended on both sides.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.wire.dial import dial
from gateway.wire.http1_answer import Answer
from gateway.wire.http1_connection import Connection
from gateway.wire.outgoing import Fixed, Outgoing

ONE_WRITE_BYTES = 64 * 1024  # up to here head and body leave in one write; above, copying costs more than a call
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})  # these say Content-Length: 0 when they have none (RFC 9110 8.6)
_TICKS = 8  # how many times the timer looks within the shortest deadline

_Waiter: TypeAlias = "asyncio.Future[Connection | None]"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """`keepalive` is seconds an idle connection is kept: below the 5 s after which common servers close theirs, since a
    call that is not idempotent cannot be repeated when the two cross."""

    connections: int = 1024  # as many as the front admits exchanges: open streams must not starve calls
    idle: int = 128
    waiters: int = 1024
    keepalive: float = 4.0


class Http1Client:
    """`tls` is the one context of this upstream, None for plain TCP."""

    def __init__(self, upstream: Upstream, tls: ssl.SSLContext | None, limits: PoolLimits = PoolLimits()) -> None:
        self.upstream = upstream
        self._tls = tls
        self._limits = limits
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._open = 0  # connections, and places promised for one
        self._waiters: deque[tuple[_Waiter, float]] = deque()
        self._retired = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        times = upstream.timeouts
        shortest = min(times.connect, times.response, times.idle, times.stream_idle or times.idle, limits.keepalive)
        self._period = min(max(shortest / _TICKS, 0.005), 0.25)

    @property
    def in_flight(self) -> int:
        return self._open - len(self._idle)

    @property
    def ticking(self) -> bool:
        return self._timer is not None

    async def send(
        self,
        method: str,
        target: str,
        headers: Iterable[Header],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        body_bytes: int | None = None,
        idempotent: bool = False,
        stream: bool = False,
    ) -> Answer:
        if method == "CONNECT":
            raise UpstreamFailed("CONNECT is not forwarded", error="http_request_error", sent=False)
        whole = body if isinstance(body, bytes) else b""
        streamed = body if body is not None and not isinstance(body, bytes) else None
        if not isinstance(headers, Outgoing):
            headers = Outgoing(Fixed(list(headers)), [])
        head = headers.head(method, target, _framing(method, body, body_bytes))
        if whole and len(whole) <= ONE_WRITE_BYTES:
            head, whole = head + whole, b""
        fresh = False
        while True:
            connection = None if fresh else self._rested()
            if connection is None:
                connection = await self._obtain(fresh)
            repeatable = connection.reused and idempotent and not fresh and streamed is None
            answer = connection.begin(head, whole, bodiless=method == "HEAD", stream=stream, sent=streamed is None)
            if streamed is not None:
                connection.upload(answer, streamed, body_bytes)
            try:
                await answer.arrive()
            except asyncio.CancelledError:
                answer.close()  # 5
                raise
            except UpstreamFailed as failure:
                if not repeatable or answer.touched or failure.timeout:  # 2
                    raise
                fresh = True
                continue
            return answer

    def retire(self) -> None:
        """No connection is kept from now on; exchanges under way end as they may."""
        self._retired = True
        for connection in tuple(self._idle):
            connection.abort()

    async def aclose(self) -> None:
        self._closed = True
        self.retire()
        for connection in tuple(self._all):
            connection.give_up(UpstreamFailed("the gateway shuts down", error="connection_terminated", sent=True))
        for waiter, _ in self._waiters:
            if not waiter.done():
                waiter.set_exception(_full("the gateway shuts down", timeout=False))
        self._waiters.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.sleep(0)  # lets the transports close

    # -- the pool's side of a connection

    def released(self, connection: Connection) -> None:
        """The exchange on it ended well: the next waiter gets it, or it rests."""
        keep = self._limits.keepalive
        if connection.keep_seconds is not None:
            keep = min(keep, connection.keep_seconds - 1)  # it closes when we would ask
        if self._retired or keep <= 0:
            connection.abort()
            return
        connection.deadline = asyncio.get_running_loop().time() + keep
        if self._waiters and self._promise(connection):
            return
        if len(self._idle) >= self._limits.idle:
            self._idle[0].abort()
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection in self._all:  # not one that ended while it was dialled
            self._all.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._vacate()

    # -- getting a connection

    def _rested(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet():  # 2
                return connection
            connection.abort()
        return None

    async def _obtain(self, fresh: bool) -> Connection:
        while True:
            if self._open >= self._limits.connections and fresh and self._idle:
                self._idle[0].abort()
            if self._open < self._limits.connections:
                self._open += 1
                return await self._dial()
            connection = await self._wait()
            if connection is None:
                return await self._dial()
            if connection.quiet():
                return connection
            connection.abort()

    async def _dial(self) -> Connection:
        """Opens a connection; its place was counted before."""
        loop = asyncio.get_running_loop()
        kept = False
        try:
            connection = await dial(
                self.upstream, self._tls, lambda: Connection(self, self.upstream.timeouts, loop), loop
            )
            if self._closed or not connection.quiet():
                connection.abort()
                raise UpstreamFailed("the connection ended at once", error="connection_terminated", sent=False)
            self._all.add(connection)
            kept = True
        finally:
            if not kept:  # whatever ended it, the place goes to the next
                self._vacate()
        self._arm(loop)
        return connection

    async def _wait(self) -> Connection | None:
        """A connection that came free, or None for a promised place."""
        if len(self._waiters) >= self._limits.waiters:  # 3
            raise _full(f"{len(self._waiters)} calls wait for a connection already", timeout=False)
        if self._closed:
            raise _full("the gateway shuts down", timeout=False)
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._waiters.append((waiter, loop.time() + self.upstream.timeouts.connect))
        self._arm(loop)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # 5
                promised = waiter.result()
                if promised is None:
                    self._vacate()
                else:
                    self.released(promised)
            raise

    def _vacate(self) -> None:
        self._open -= 1
        if self._waiters and self._promise(None):
            self._open += 1

    def _promise(self, connection: Connection | None) -> bool:
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    # -- deadlines

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_later(self._period, self._tick)

    def _tick(self) -> None:  # 4
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for connection in tuple(self._all):
            if now >= connection.deadline:
                connection.expire()
        while self._waiters and now >= self._waiters[0][1]:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_full("no connection came free in time", timeout=True))
        if self._all or self._waiters:
            self._arm(loop)


def _framing(method: str, body: bytes | AsyncIterator[bytes] | None, body_bytes: int | None) -> bytes:
    if isinstance(body, bytes):
        return b"content-length: %d\r\n" % len(body)
    if body is None:
        return b"content-length: 0\r\n" if method in _WITH_BODY else b""
    return b"transfer-encoding: chunked\r\n" if body_bytes is None else b"content-length: %d\r\n" % body_bytes


def _full(text: str, *, timeout: bool) -> UpstreamFailed:
    return UpstreamFailed(text, error="connection_limit_reached", sent=False, timeout=timeout)
