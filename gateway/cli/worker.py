"""A worker's process, which its owner starts: `python -P -c ... SOCKET LISTENER...`, all of them inherited descriptors.

The rule: nothing is read from the command line, the environment or the disk that the owner could say; signals that
mean the whole gateway go to the owner, which tells its workers what to do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Iterator, Sequence

from gateway import config
from gateway.app_worker import WorkerApp
from gateway.assembly_workers import Begin, unpacked
from gateway.cli.serve import run_loop, secrets_of, settle_memory
from gateway.core import posting
from gateway.telemetry import log_to
from gateway.wire.post import SocketPost, connected


class Worker:
    """One worker's life."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._listeners = listeners
        self._app: WorkerApp | None = None
        self._settings: config.Settings | None = None
        self._gone = asyncio.Event()
        self._post: SocketPost | None = None

    async def run(self, sock: socket.socket) -> int:
        await connected(sock, self._lost, self._ready)
        await self._gone.wait()  # the owner closes when it has heard the last word, or has died
        if self._app is not None:
            await self._app.ended.wait()
        return 0

    def _ready(self, post: SocketPost) -> None:
        self._post = post
        post.asked(posting.BEGIN, self._begin)

    def _begin(self, said: bytes) -> Awaitable[bytes]:
        """In one step: what the owner says behind it finds who hears it."""
        found: Begin = unpacked(said)
        self._settings = found.settings
        log_to(sys.stderr, found.settings.telemetry.level, self._secrets)
        assert self._post is not None
        self._app = WorkerApp(found, self._post, self._listeners)
        return self._begun(self._app)

    async def _begun(self, app: WorkerApp) -> bytes:
        revision = await app.start()
        settle_memory()
        return revision

    def _lost(self) -> None:
        self._gone.set()
        if self._app is not None:
            self._app.orphaned()

    def _secrets(self) -> Iterator[str]:
        if self._settings is not None:
            yield from secrets_of(self._settings)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptors = [int(word) for word in sys.argv[1:]]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    sock, *listeners = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    for listener in listeners:
        listener.setblocking(False)
    code = run_loop(Worker(listeners).run(sock))
    sys.stderr.flush()
    os._exit(code)  # whatever a thread of an engine still does is nobody's any more
