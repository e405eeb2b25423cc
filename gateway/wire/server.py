"""The front: uvicorn with a protocol that takes nothing for granted. One `Front` per plane, several in one process.

The rule: every request an application here sees came through head.py; there is no other way in (h11, HTTP/2 and
uvicorn's own proxy headers are off). A Front opens its socket in `start`, installs no signal handler, runs no loop of
its own, and ends in `drain`: no newcomers, what is under way may finish, what is left after the grace is cut.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from uvicorn.lifespan.off import LifespanOff

from gateway.core.ports import Clock
from gateway.wire.connection import FrontProtocol
from gateway.wire.door import GOING_DOWN, Door, FrontEvents, FrontLimits
from gateway.wire.tls_listener import Handshake, TlsListener, bound

__all__ = ["CannotListen", "Front", "FrontEvents", "FrontLimits", "make_server", "server_tls"]

WS_MESSAGE_BYTES = 4 * 1024 * 1024  # as much as a judged body may have
CUT_SECONDS = 5.0  # what tasks have to settle once they are cut
BACKLOG = 2048

_log = logging.getLogger("tollgate.front")


class CannotListen(Exception):
    """The address cannot be served; `args[0]` says which, why, and what to do."""


def make_server(
    app: Callable[..., Any],
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    ws_message_bytes: int = WS_MESSAGE_BYTES,
) -> uvicorn.Server:
    """A uvicorn server that is loaded and not started; `Front` runs it."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=FrontProtocol,
        ws="websockets-sansio",
        ws_max_size=ws_message_bytes,
        ws_per_message_deflate=False,  # nothing to inflate, nothing to bomb
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,  # uvicorn's own lines tell whole query strings
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # the front adds one where the application has none
        backlog=BACKLOG,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = LifespanOff(config)
    return server


class Front:
    """One listening plane."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        host: str,
        port: int,
        limits: FrontLimits,
        events: FrontEvents,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        ws_message_bytes: int = WS_MESSAGE_BYTES,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """`sockets` listen already, where another process opened the port (wire/shared.py)."""
        self._given = sockets
        self.host = host.removeprefix("[").removesuffix("]")
        self._wanted_port = port
        self._server = make_server(app, host=self.host, port=port, tls=tls, ws_message_bytes=ws_message_bytes)
        self._listeners: list[asyncio.Server | TlsListener] = []
        self.door = Door(limits, events, clock)  # which all connections of this listener share

    @property
    def port(self) -> int:
        """The port that is listened on; with port 0, the one that was given."""
        sockets = [item for listener in self._listeners for item in listener.sockets]
        return int(sockets[0].getsockname()[1]) if sockets else self._wanted_port

    @property
    def exchanges(self) -> int:
        """Applications' tasks that are running."""
        return len(self._server.server_state.tasks)

    async def start(self) -> None:
        """Listens. Raises CannotListen."""
        config, state, loop = self._server.config, self._server.server_state, asyncio.get_running_loop()

        def connect(arriving: Handshake | None = None) -> asyncio.Protocol:
            made = FrontProtocol(config=config, server_state=state, app_state={"door": self.door}, _loop=loop)
            made.arriving = arriving
            return made

        try:
            if config.ssl is not None:
                sockets = list(self._given) or await bound(self.host, self._wanted_port, BACKLOG)
                self._listeners = [TlsListener(sockets, self.door, config.ssl, connect)]
            elif self._given:
                self._listeners = [
                    await loop.create_server(connect, sock=item, backlog=BACKLOG) for item in self._given
                ]
            else:
                self._listeners = [await loop.create_server(connect, self.host, self._wanted_port, backlog=BACKLOG)]
        except OSError as error:
            raise CannotListen(why_not(self.host, self._wanted_port, error)) from error
        self._server.started = True

    async def drain(self, grace_seconds: float) -> None:
        """Stops listening, lets what is under way finish for `grace_seconds`, cuts the rest. Idempotent."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self.door.closing = True
        for guest in tuple(self.door.inside):
            if isinstance(guest, FrontProtocol):
                guest.shutdown()
        if not await self._empty(grace_seconds):
            await self._cut()

    async def _cut(self) -> None:
        tasks = self._server.server_state.tasks
        _log.warning("%d exchanges are cut: they outlasted the grace period", len(tasks))
        for guest in tuple(self.door.inside):
            if not isinstance(guest, FrontProtocol):
                guest.give_way("leaving")  # a WebSocket: close code 1012
        for task in tuple(tasks):
            task.cancel(GOING_DOWN)
        if not await self._empty(CUT_SECONDS):
            for guest in tuple(self.door.inside):
                guest.abort()
            await self._empty(CUT_SECONDS)

    async def _empty(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.door.emptied()
                while running := [task for task in self._server.server_state.tasks if not task.done()]:
                    await asyncio.wait(running)
        except TimeoutError:
            return False
        return True


def server_tls(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later, forward-secret AEAD ciphers, HTTP/1.1 only; with `client_ca` a client certificate is required.
    Raises CannotListen that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise CannotListen(f"tls.cert {cert} with tls.key {key} cannot be used: {error}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise CannotListen(f"tls.client_ca {client_ca} cannot be used: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> bytes:
    """An encrypted key would otherwise ask on the terminal and hang a service."""
    raise ValueError("the key is encrypted; give a key without a passphrase, readable by the gateway only")


def why_not(host: str, port: int, error: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another process; stop it, or choose another address with `listen`"
    if error.errno == errno.EACCES:
        return f"{where} may not be opened by this user; choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where} is not an address of this machine; correct `listen`"
    return f"{where} cannot be opened: {error}"
