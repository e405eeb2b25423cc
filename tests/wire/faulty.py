"""A real server on a free loopback port whose every connection is played by a coroutine of the test.

`run` plays a story on asyncio's own loop and on uvloop, under a deadline, and then looks that no task and no descriptor
is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import uvloop

from gateway.core.snapshot import Timeouts, Upstream, UpstreamTls

DEADLINE_SECONDS = 30.0  # of a whole story: nothing here takes one second unless it hangs
HOST = [(b"host", b"upstream.test")]


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))  # what a process opens once is no leak
        before = descriptors()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_bounded(story))
        assert descriptors() <= before  # less when something of an earlier test was collected just now


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _bounded(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await story()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def until(true: Callable[[], bool]) -> None:
    """Returns when it holds; the story's deadline stands behind it."""
    while not true():  # noqa: ASYNC110 (what is waited for is somebody else's, often the kernel's)
        await asyncio.sleep(0.001)


class Peer:
    """The upstream's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of one request. Raises IncompleteReadError when the other side is gone."""
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
            return head, body
        length = 0
        for line in lower.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the other side has ended the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Ends the connection with RST."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Play = Callable[[Peer], Awaitable[None]]


class Server:
    """`async with Server(play) as server`: `server.upstream()` is what a client needs to reach it."""

    def __init__(self, play: Play, *, tls: ssl.SSLContext | None = None) -> None:
        self._play = play
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.open = 0
        self.faults: list[BaseException] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.faults:
            raise self.faults[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._play(Peer(reader, writer, self.connections))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        except BaseException as fault:  # noqa: BLE001 (raised when the story ends)
            self.faults.append(fault)
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    def upstream(self, **changes: Any) -> Upstream:
        return upstream(self.port, **changes)


def upstream(
    port: int,
    *,
    scheme: str = "http",
    host: str = "127.0.0.1",
    connect: float = 5.0,
    response: float = 5.0,
    idle: float = 5.0,
    stream_idle: float | None = None,
    tls: UpstreamTls | None = None,
    **changes: Any,
) -> Upstream:
    return Upstream(
        name="u",
        protocol="http",
        scheme=scheme,
        host=host,
        port=port,
        authority=f"{host}:{port}",
        path="",
        timeouts=Timeouts(connect, response, idle, stream_idle),
        tls=tls or UpstreamTls(),
        **changes,
    )


def answer(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def echo(peer: Peer) -> Awaitable[None]:
    """Answers each request with its own body, for as long as the client likes."""

    async def play() -> None:
        while True:
            _, body = await peer.request()
            await peer.send(answer(body))

    return play()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
