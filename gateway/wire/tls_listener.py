"""TLS connections before they are any: accepted, counted for their peer, and shaken hands with in time.

asyncio tells a protocol of its connection only when the handshake is over; until then nobody would know whose it is. So
a TLS listener accepts by itself. The rules: 1. A handshake is a connection without a head: of its peer's, the oldest
gives way beyond the cap, and it counts among all connections. 2. It ends within `head_timeout`. 3. Whoever finds no
place is dropped: without TLS nothing can be said. 4. When it is over, its place passes to the connection itself.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from gateway.wire.door import NEVER, Door
from gateway.wire.forwarded import is_trusted, peer_key, read_address
from gateway.wire.front_answer import FULL

ROOM_SECONDS = 1.0  # until the next look where there was no descriptor for a connection
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("tollgate.front")


class Handshake:
    """A connection as the door sees it, until TLS stands."""

    __slots__ = ("_door", "_task", "address", "peer_key", "read_deadline", "trusted", "write_deadline")

    def __init__(self, door: Door, host: str) -> None:
        found = read_address(host)
        self._door = door
        self._task: asyncio.Task[None] | None = None
        self.address = "" if found is None else str(found)
        self.peer_key = peer_key(found)
        self.trusted = is_trusted(found, door.limits.trusted_proxies)
        self.read_deadline = door.clock.monotonic() + door.limits.head_timeout
        self.write_deadline = NEVER

    def begin(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def read_expired(self, now: float) -> None:
        self.give_way("tls.late")  # 2

    def write_expired(self, now: float) -> None:
        """Nothing is written before the handshake's own words."""

    def give_way(self, reason: str) -> None:
        self._door.events.bad_bytes(self.address, reason)
        self.abort()

    def abort(self) -> None:
        self.read_deadline = NEVER
        if self._task is not None:
            self._task.cancel()


class TlsListener:
    """Accepts on `sockets`. `connect` makes the protocol of a connection that begins with this handshake."""

    def __init__(
        self,
        sockets: list[socket.socket],
        door: Door,
        tls: ssl.SSLContext,
        connect: Callable[[Handshake], asyncio.Protocol],
    ) -> None:
        self.sockets = sockets
        self._door = door
        self._tls = tls
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._accepting = [self._loop.create_task(self._accept(item), name="tls accept") for item in sockets]
        self._shaking: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """No newcomers, and nobody is waited for whose handshake is not over."""
        for task in (*self._accepting, *self._shaking):
            task.cancel()
        for item in self.sockets:
            item.close()
        self.sockets = []

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, address = await self._loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    _log.error("a connection cannot be accepted: %s", error.strerror)
                    await asyncio.sleep(ROOM_SECONDS)
                elif listening.fileno() < 0:
                    return
                continue  # else it was gone before it was here
            self._arrive(accepted, address[0])

    def _arrive(self, accepted: socket.socket, host: str) -> None:
        door = self._door
        handshake = Handshake(door, host)
        if not door.enter(handshake):
            door.events.bad_bytes(handshake.address, FULL.rule)  # 3
            door.leave(handshake)
            accepted.close()
            return
        task = self._loop.create_task(self._shake(accepted, handshake))
        handshake.begin(task)
        self._shaking.add(task)

        def over(_: asyncio.Task[None]) -> None:
            self._shaking.discard(task)
            door.leave(handshake)
            if task.cancelled() or task.exception() is not None:
                accepted.close()  # also where the task had not even begun

        task.add_done_callback(over)
        if not handshake.trusted:
            door.head_begun(handshake)  # 1

    async def _shake(self, accepted: socket.socket, handshake: Handshake) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: self._connect(handshake), accepted, ssl=self._tls)
        except OSError:  # SSLError is one
            self._door.events.bad_bytes(handshake.address, "tls.handshake")
            accepted.close()


async def bound(host: str, port: int, backlog: int, *, shared: bool = False) -> list[socket.socket]:
    """Listening sockets, one for each address that the name means; `shared`: with others who say so too. Raises
    OSError."""
    means = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(means):
            made = socket.socket(family, kind, protocol)
            found.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(backlog)
    except OSError:
        for made in found:
            made.close()
        raise
    return found
