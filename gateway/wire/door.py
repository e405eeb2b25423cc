"""What one listener shares among its connections: limits, caps, deadlines. One Door per listener, no globals.

The rules: a peer's connections without a complete head are capped per peer, and its oldest gives way, so that nobody
locks anybody out; at the cap on all connections the longest idle one gives way, else the newcomer is told 503.
Deadlines are two numbers on a connection, and one sweep looks at all of them: a timer per request would cost more than
the request.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol as Port

from gateway.core.ports import Clock
from gateway.wire.forwarded import Network
from gateway.wire.head import HeadScanner
from gateway.wire.lines import HeaderLines

NEVER = float("inf")
SWEEP_SECONDS = 0.5  # how coarse a deadline is; shorter only where a limit itself is shorter
LINGER_SECONDS = 2.0  # how long a refused connection is still read, unseen, so that its answer is not reset away
RATE_BYTES = 8192  # per second: what a body or a reader must move on average once its first `body_timeout` is over
GOING_DOWN = "the gateway is going down"  # why a task is cancelled: its caller has not gone, we do
REFUSED_AT_ONCE = 64  # connections beyond the cap that are told so; the others are dropped without a word

_log = logging.getLogger("tollgate.front")


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Contract section 3, `front:`. Times are seconds. `headers` counts fields, `header_bytes` all of them together
    (the request line has its own limit); `trusted_proxies` are the only peers whose forwarding headers are read."""

    header_bytes: int = 32 * 1024
    headers: int = 100
    body_bytes: int = 64 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    keepalive: float = 75.0
    half_open_per_peer: int = 64
    connections: int = 4096
    exchanges: int = 1024
    trusted_proxies: tuple[Network, ...] = ()


class FrontEvents(Port):
    """Told of bytes that made no exchange (contract, ruling 18: one aggregate record per peer and second, by whoever
    implements this). Must only count or queue. `reason` is the rule, e.g. `head.twice`; never anything of the bytes."""

    def bad_bytes(self, peer: str, reason: str) -> None: ...


class Guest(Port):
    """A connection as the door sees it. A deadline is a moment of the monotonic clock."""

    read_deadline: float
    write_deadline: float
    peer_key: str  # what counts as one peer: an address, or an IPv6 network

    def read_expired(self, now: float) -> None: ...

    def write_expired(self, now: float) -> None: ...

    def give_way(self, reason: str) -> None:
        """Close: another connection needs the place."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...


class Door:
    """Counts who is in, closes who is late."""

    __slots__ = (
        "_date", "_emptied", "_half_open", "_second", "_timer", "clock", "closing", "events", "idle", "inside",
        "limits", "lines", "scanner", "sweep_every",
    )  # fmt: skip

    def __init__(self, limits: FrontLimits, events: FrontEvents, clock: Clock) -> None:
        self.limits = limits
        self.events = events
        self.clock = clock
        self.scanner = HeadScanner(
            header_bytes=limits.header_bytes, headers=limits.headers, trusted=limits.trusted_proxies
        )
        self.lines = HeaderLines()
        self.inside: set[Guest] = set()
        self.idle: dict[Guest, None] = {}  # between two requests, longest first
        self.sweep_every = min(
            SWEEP_SECONDS, *(t / 4 for t in (limits.head_timeout, limits.body_timeout, limits.keepalive))
        )
        self.closing = False  # no newcomers; whoever is cut now is cut because we go
        self._half_open: dict[str, dict[Guest, None]] = {}  # per peer, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._second = -1
        self._date = b""

    def enter(self, guest: Guest, instead_of: Guest | None = None) -> bool:
        """Whether there is a place: that of `instead_of`, who is gone then, or one that an idle connection can give up.
        Always counts the guest as in."""
        self.inside.add(guest)
        if instead_of is not None and instead_of in self.inside:
            self.leave(instead_of)
            return True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.sweep_every, self._tick)
        if len(self.inside) <= self.limits.connections:
            return True
        if self.idle:
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            oldest.give_way("connections")
            return True
        return False

    @property
    def crowded(self) -> bool:
        """Whether even being told 503 is too much to give."""
        return len(self.inside) > self.limits.connections + REFUSED_AT_ONCE

    def leave(self, guest: Guest) -> None:
        self.inside.discard(guest)
        self.idle.pop(guest, None)
        self.head_done(guest)
        if not self.inside and self._emptied is not None:
            self._emptied.set()

    def head_begun(self, guest: Guest) -> None:
        """The guest owes a head. Beyond the peer's cap its oldest such connection gives way."""
        mine = self._half_open.setdefault(guest.peer_key, {})
        mine[guest] = None
        if len(mine) > self.limits.half_open_per_peer:
            oldest = next(iter(mine))
            self.head_done(oldest)
            oldest.give_way("half_open")

    def head_done(self, guest: Guest) -> None:
        mine = self._half_open.get(guest.peer_key)
        if mine is not None and guest in mine:
            del mine[guest]
            if not mine:
                del self._half_open[guest.peer_key]

    def date(self) -> bytes:
        """The Date line of this second."""
        second = int(self.clock.time())
        if second != self._second:
            self._second = second
            self._date = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._date

    def half_open(self) -> int:
        """Connections that owe a head, of all peers."""
        return sum(len(mine) for mine in self._half_open.values())

    def sweep(self) -> None:
        """Closes what is late by the clock now."""
        now = self.clock.monotonic()
        for guest in tuple(self.inside):
            try:
                if guest.read_deadline <= now:
                    guest.read_expired(now)
                if guest.write_deadline <= now:
                    guest.write_expired(now)
            except Exception:  # noqa: BLE001 (a background loop: one connection's fault must not end the deadlines)
                _log.exception("a deadline could not be kept")
                guest.abort()

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self.inside:
            self._timer = asyncio.get_running_loop().call_later(self.sweep_every, self._tick)

    async def emptied(self) -> None:
        """Returns when nobody is inside."""
        if self.inside:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
