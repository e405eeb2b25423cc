"""Upstreams that a flow directs while it runs: what they say next is the test's word, what they saw is kept.

`Stage` plays plain HTTP by path on raw connections, and WebSockets beside it. Both live in the test's own event loop;
the gateway has a thread or a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets.asyncio.server as socket_server
from rig import Running

from tests.wire.faulty import Peer, Server, answer

POLICY = """\
package tollgate

default decision := {"decision": true, "context": {"rule": "all", "reason": "all may"}}

decision := {"decision": false, "context": {"rule": "forbidden", "reason": "nobody may"}} if {
    input.context.arguments.params.name == "forbidden"
}
"""
EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOOL_RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def policy(folder: Path, text: str = POLICY, name: str = "policies") -> dict[str, str]:
    """The `policy` section for a bundle of this one file."""
    (folder / name).mkdir()
    (folder / name / "decision.rego").write_text(text)
    return {"bundle": str(folder / name)}


class Stage:
    """`plays[path]` answers one request. `/events` sends one event per `say`, and ends with `say(None)`."""

    def __init__(self) -> None:
        self.plays: dict[str, Callable[[Peer], Awaitable[None]]] = {"/events": self._events}
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.messages: list[str | bytes] = []
        self.socket_codes: list[int | None] = []
        self.cut = asyncio.Event()  # a connection on which an answer was due has ended
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.server = Server(self._play)
        self.sockets_port = 0

    def say(self, event: bytes | None) -> None:
        self._said.put_nowait(event)

    def settings(self, folder: Path, **route: Any) -> dict[str, Any]:
        """Policy, upstreams and routes: /files (HTTP), /tools (MCP), /sockets (WebSocket)."""
        base = f"http://127.0.0.1:{self.server.port}"
        times = {"response": "2s", "idle": "2s"}
        return {
            "policy": policy(folder),
            "upstreams": {
                "files": {"url": base, "protocol": "http", "timeouts": dict(times)},
                "tools": {"url": f"{base}/mcp", "protocol": "mcp", "timeouts": dict(times)},
                "sockets": {"url": f"http://127.0.0.1:{self.sockets_port}", "protocol": "http"},
            },
            "routes": [
                {"name": name, "match": {"path": f"/{name}"}, "upstream": name, **route}
                for name in ("files", "tools", "sockets")
            ],
        }

    async def _play(self, peer: Peer) -> None:
        try:
            while True:
                head, body = await peer.request()
                self.heads.append(head)
                self.bodies.append(body)
                path = head.split(b" ")[1].partition(b"?")[0].decode()
                play = self.plays.get(path)
                if play is None:
                    await peer.send(answer(TOOL_RESULT, b"Content-Type: application/json"))
                else:
                    await play(peer)
        finally:
            self.cut.set()

    async def _events(self, peer: Peer) -> None:
        await peer.send(EVENT_STREAM)
        gone = asyncio.ensure_future(peer.gone())
        try:
            while True:
                said = asyncio.ensure_future(self._said.get())
                await asyncio.wait({said, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not said.done():
                    said.cancel()
                    raise ConnectionError("the gateway left")
                data = said.result()
                await peer.send(b"0\r\n\r\n" if data is None else chunk(b"data: " + data + b"\n\n"))
                if data is None:
                    return
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def socket(self, connection: socket_server.ServerConnection) -> None:
        """Echoes."""
        async for message in connection:
            self.messages.append(message)
            await connection.send(message)
        self.socket_codes.append(connection.close_code)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    async with stage.server, socket_server.serve(stage.socket, "127.0.0.1", 0) as sockets:
        stage.sockets_port = next(iter(sockets.sockets)).getsockname()[1]
        yield stage


class Caller:
    """A raw connection to the gateway: exact bytes, and whether an answer came to its own end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: str, credential: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, str]]:
        """Sends a request, with no credential where it is "", and returns status and headers of the answer."""
        given = [f"content-length: {len(body)}", *headers]
        if credential:
            given.append(f"authorization: Bearer {credential}")
        self.writer.write("\r\n".join([f"{line} HTTP/1.1", "host: 127.0.0.1", *given, "", ""]).encode() + body)
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return int(first.split(" ")[1]), dict(item.lower().split(": ", 1) for item in lines if item)

    async def chunk(self) -> bytes:
        """One chunk; b"" is the proper end. Raises IncompleteReadError or OSError where it was cut."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def event(self) -> bytes:
        return (await self.chunk()).removeprefix(b"data: ").removesuffix(b"\n\n")

    async def is_cut(self) -> bool:
        """Waits for the end of the answer: True when it was not its own."""
        try:
            while await self.chunk():
                pass
        except (asyncio.IncompleteReadError, OSError):
            return True
        return False

    def leave(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield caller
    finally:
        caller.leave()
        with contextlib.suppress(OSError):
            await caller.writer.wait_closed()


def left(gate: Running) -> bool:
    """The caller's connection is gone, and its exchange is not."""
    return not gate.app._front.door.inside and gate.app.status()["exchanges"] == 1
