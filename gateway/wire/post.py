"""One end of a socket between two processes of a gateway: frames, gathered by the turn of the loop.

A frame is 4 bytes length of what follows the head, 1 byte kind, 8 bytes number, payload. 1. All that is said within one
turn of the loop is one write. 2. A frame is taken whole or not at all. 3. A question is answered under its number, `=`
with the answer or `!` with why there is none. 4. A frame that is none, or of an unknown kind, ends the connection: both
sides are of one version, so it is a fault. 5. When the connection is lost, every question ends with PostGone and
whoever wanted to know is told, once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, cast

from gateway.core.posting import Asked, PostGone, PostRefused, Told

_HEAD: Final = struct.Struct(">IcQ")
FRAME_BYTES: Final = 128 * 1024 * 1024  # a policy with its data is the largest thing that is said
_ANSWER: Final = b"="
_REFUSAL: Final = b"!"

_log = logging.getLogger("tollgate.post")


class SocketPost(asyncio.Protocol):
    """Implements `Post`. Belongs to one event loop. `lost` is called when the other side is gone. `spare` is the same
    socket once more: what a process said before it died is read also when writing to it failed first."""

    def __init__(self, lost: Callable[[], None], spare: socket.socket) -> None:
        self._lost = lost
        self._spare = spare
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._read = bytearray()
        self._told: dict[int, Told] = {}
        self._asked: dict[int, Asked] = {}
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._answering: set[asyncio.Future[bytes]] = set()
        self._number = 0
        self._gone = False

    def told(self, kind: bytes, what: Told) -> None:
        self._told[kind[0]] = what

    def asked(self, kind: bytes, what: Asked) -> None:
        self._asked[kind[0]] = what

    def tell(self, kind: bytes, number: int, said: bytes) -> None:
        if self._gone:
            return
        if not self._out:
            self._loop.call_soon(self._flush)  # 1
        self._out.append(_HEAD.pack(len(said), kind, number))
        if said:
            self._out.append(said)

    def ask(self, kind: bytes, said: bytes) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._gone:
            future.set_exception(PostGone("the other process is gone"))
            return future
        self._number += 1
        self._questions[self._number] = future
        self.tell(kind, self._number, said)
        return future

    @property
    def backlog(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def gone(self) -> bool:
        return self._gone

    def close(self) -> None:
        """What was said still goes out."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        read = self._read
        read += data
        at, end = 0, len(read)
        try:
            while end - at >= _HEAD.size:
                length, kind, number = _HEAD.unpack_from(read, at)
                if length > FRAME_BYTES:
                    raise ValueError(f"a frame of {length} bytes")
                behind = at + _HEAD.size + length
                if behind > end:
                    break  # 2
                self._take(kind, number, bytes(read[at + _HEAD.size : behind]))
                at = behind
        except Exception:  # noqa: BLE001 (rule 4: whatever it is, nothing behind it can be believed)
            _log.exception("the other process said what makes no sense")
            if self._transport is not None:
                self._transport.abort()
        del read[:at]

    def eof_received(self) -> None:
        return None  # which closes

    def connection_lost(self, error: Exception | None) -> None:
        """5."""
        if error is not None:
            self._read_rest()
        self._spare.close()
        self._gone = True
        questions, self._questions = self._questions, {}
        for future in questions.values():
            if not future.done():
                future.set_exception(PostGone("the other process is gone"))
        for pending in tuple(self._answering):
            pending.cancel()
        self._lost()

    def _read_rest(self) -> None:
        try:
            while data := self._spare.recv(1024 * 1024):
                self.data_received(data)
        except OSError:
            return

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._gone:
            self._transport.write(b"".join(out))

    def _take(self, kind: bytes, number: int, said: bytes) -> None:
        told = self._told.get(kind[0])
        if told is not None:
            told(number, said)
        elif kind in (_ANSWER, _REFUSAL):
            future = self._questions.pop(number, None)
            if future is not None and not future.done():  # 3
                if kind == _ANSWER:
                    future.set_result(said)
                else:
                    future.set_exception(PostRefused(said.decode("utf-8", "replace")))
        else:
            self._answer(self._asked[kind[0]], number, said)

    def _answer(self, asked: Asked, number: int, said: bytes) -> None:
        try:
            found = asked(said)
        except Exception as error:  # noqa: BLE001 (it is the answer)
            self._refuse(number, error)
            return
        if isinstance(found, bytes):
            self.tell(_ANSWER, number, found)
            return
        pending = asyncio.ensure_future(_awaited(found))
        self._answering.add(pending)

        def done(task: asyncio.Future[bytes]) -> None:
            self._answering.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                self.tell(_ANSWER, number, task.result())
            elif isinstance(error, Exception):
                self._refuse(number, error)

        pending.add_done_callback(done)

    def _refuse(self, number: int, error: Exception) -> None:
        self.tell(_REFUSAL, number, (str(error) or type(error).__name__).encode("utf-8", "replace"))


async def _awaited(found: Awaitable[bytes]) -> bytes:
    return await found


async def connected(
    sock: socket.socket, lost: Callable[[], None], ready: Callable[[SocketPost], None] = lambda post: None
) -> SocketPost:
    """This end of a pair of sockets, which it owns from now on. `ready` is called before anything is heard."""
    sock.setblocking(False)
    spare = sock.dup()
    spare.setblocking(False)

    def made() -> SocketPost:
        post = SocketPost(lost, spare)
        ready(post)
        return post

    _, post = await asyncio.get_running_loop().create_unix_connection(made, sock=sock)
    return post
