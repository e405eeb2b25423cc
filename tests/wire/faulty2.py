"""An HTTP/2 server whose every stream is played by a coroutine of the test; sans-I/O `h2` on the other side."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from gateway.core.snapshot import Upstream
from tests.wire.faulty import Peer, Server


class Stream:
    """The upstream's end of one exchange."""

    def __init__(self, connection: Connection, number: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.connection = connection
        self.number = number
        self.headers = headers
        self._data: asyncio.Queue[bytes | None] = asyncio.Queue()

    def header(self, name: bytes) -> bytes:
        return dict(self.headers)[name]

    async def body(self) -> bytes:
        parts = []
        while (part := await self._data.get()) is not None:
            parts.append(part)
        return b"".join(parts)

    async def begin(self, *headers: tuple[bytes, bytes], status: bytes = b"200", end: bool = False) -> None:
        self.connection.h2.send_headers(self.number, [(b":status", status), *headers], end_stream=end)
        await self.connection.flush()

    async def send(self, data: bytes, *, end: bool = False) -> None:
        while data:
            window = min(self.connection.h2.local_flow_control_window(self.number), 16384)
            if window <= 0:
                await self.connection.moved.wait()
                self.connection.moved.clear()
                continue
            part, data = data[:window], data[window:]
            self.connection.h2.send_data(self.number, part, end_stream=end and not data)
            await self.connection.flush()
        if end and not data and self.connection.h2.streams.get(self.number) is not None:
            stream = self.connection.h2.streams[self.number]
            if stream.open or not stream.closed:
                try:
                    self.connection.h2.end_stream(self.number)
                except h2.exceptions.ProtocolError:
                    return
                await self.connection.flush()


StreamPlay = Callable[[Stream], Awaitable[None]]


class Connection:
    def __init__(self, peer: Peer, play: StreamPlay) -> None:
        self.peer = peer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.moved = asyncio.Event()
        self._play = play
        self._streams: dict[int, Stream] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def flush(self) -> None:
        await self.peer.send(self.h2.data_to_send())

    async def serve(self) -> None:
        self.h2.initiate_connection()
        await self.flush()
        try:
            while data := await self.peer.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                await self.flush()
        finally:
            for task in self._tasks:
                task.cancel()
            for found in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(found, AssertionError):
                    raise found

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            stream = Stream(self, event.stream_id, list(event.headers))
            self._streams[event.stream_id] = stream
            self._tasks.append(asyncio.create_task(self._played(stream)))
        elif isinstance(event, h2.events.DataReceived):
            self._streams[event.stream_id]._data.put_nowait(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._streams[event.stream_id]._data.put_nowait(None)
        elif isinstance(event, h2.events.WindowUpdated):
            self.moved.set()

    async def _played(self, stream: Stream) -> None:
        await self._play(stream)


def server(play: StreamPlay, *, tls: ssl.SSLContext | None = None) -> Server:
    async def serve(peer: Peer) -> None:
        await Connection(peer, play).serve()

    return Server(serve, tls=tls)


def speaking2(found: Server, **changes: Any) -> Upstream:
    return found.upstream(http="2", **changes)
