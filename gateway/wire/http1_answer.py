"""An upstream's answer over HTTP/1.1, as its reader sees it (the `UpstreamAnswer` port).

The rule it keeps: it owns its bytes. Once its end is here nothing ties it to the connection, so that a late reader or
closer can never touch the next exchange; until then, closing it ends the connection. One reader, one waiting future.
"""

from __future__ import annotations

import asyncio
from typing import Protocol as Port

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1_head import ResponseHead


class Holder(Port):
    """The connection that the answer comes on."""

    address: str

    def abort(self) -> None: ...

    def caught_up(self) -> None: ...


class Answer:
    """One exchange's answer (the `UpstreamAnswer` port)."""

    __slots__ = ("_chunks", "_connection", "_ended", "_failure", "_size", "_taken", "_waiter", "address", "headers",
                 "status", "touched")  # fmt: skip

    def __init__(self, connection: Holder) -> None:
        self.status = 0  # until the head is here
        self.headers: list[Header] = []
        self.address = connection.address
        self.touched = False  # a byte of the answer came
        self._connection: Holder | None = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._taken = False
        self._ended = False
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def complete(self) -> bytes | None:
        if not self._ended or self._taken or self._failure is not None:
            return None
        if len(self._chunks) != 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]

    async def arrive(self) -> None:
        """Returns when the head is here. Raises UpstreamFailed, or what the request's body raised."""
        if self.status == 0 and self._failure is None:
            await self._wait()
        if self._failure is not None:  # also one that came with the head: nobody has seen either yet
            raise self._failure

    async def chunk(self) -> bytes:
        while not self._size:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            await self._wait()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        self._taken = True
        if self._connection is not None:
            self._connection.caught_up()
        return data

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self._chunks.clear()
        self._size = 0
        self._taken = True
        connection, self._connection = self._connection, None
        if connection is not None:
            self._failure = UpstreamFailed("the answer was given up", error="connection_terminated", sent=True)
            self._wake()
            connection.abort()

    def accept(self, head: ResponseHead) -> None:
        self.status = head.status
        self.headers = head.headers.copy()  # a filter may change them; the head may be met again
        self._wake()  # takes effect after this packet: what it holds of the body is there by then

    def deliver(self, data: bytes) -> int:
        """Keeps `data` for the reader; says how much it has not taken yet."""
        self._chunks.append(data)
        self._size += len(data)
        self._wake()
        return self._size

    def end(self) -> None:
        self._ended = True
        self._connection = None
        self._wake()

    def fail(self, failure: BaseException) -> None:
        self._failure = failure
        self._connection = None
        self._wake()

    async def _wait(self) -> None:
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        await waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
