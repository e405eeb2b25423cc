"""WebSockets towards upstreams (RFC 6455): the opening handshake and one open socket.

Rules, numbered as in the code:
1. The upstream is asked before the caller is upgraded: what it declines, the caller gets as an HTTP answer.
2. The handshake is read as strictly as any other head; no extension is offered, so none may be used, and only a
   subprotocol that was offered may be chosen. Frames and their limits are the sans-I/O `websockets` protocol's.
3. Reading stops while the reader is behind; of pings that cannot be answered in time, only the last one is.
4. However it ends, the transport is closed within `CLOSE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.wire.dial import dial
from gateway.wire.http1_connection import Connection
from gateway.wire.http1_head import bad_head, check_names, encode_head, fields

CLOSE_SECONDS = 5.0  # for the upstream's half of the closing handshake
DECLINED_BYTES = 64 * 1024  # kept of the body of an answer that declines the upgrade
READ_HIGH_BYTES = 64 * 1024  # messages held for a reader that is behind, besides what one read brought

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_UPGRADE = b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
_OWN = frozenset({b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept",
                  b"sec-websocket-protocol"})  # fmt: skip
_SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


@dataclass(frozen=True, slots=True)
class Declined:
    """The upstream's own HTTP answer to the handshake; `body` is cut at `DECLINED_BYTES`."""

    status: int
    headers: list[Header]
    body: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Closed:
    """How a socket ended: 1005 without a code, 1006 without a closing handshake."""

    code: int
    reason: str


def sendable(code: int) -> bool:
    """Whether a close frame may carry this code."""
    return code in _SENDABLE or 3000 <= code < 5000


def fitting(reason: str) -> str:
    """At most the 123 bytes that a close frame has room for."""
    return reason.encode()[:123].decode("utf-8", "ignore")


class UpstreamSocket(asyncio.Protocol):
    """One open WebSocket. One reader, one writer."""

    __slots__ = (
        "__weakref__",
        "_broken",
        "_choked",
        "_closed",
        "_closer",
        "_drained",
        "_loop",
        "_messages",
        "_parts",
        "_paused",
        "_pong",
        "_protocol",
        "_size",
        "_text",
        "_transport",
        "_waiter",
        "address",
        "headers",
        "subprotocol",
        "touched",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, address: str, headers: list[Header], subprotocol: str | None,
        max_message_bytes: int, loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._loop = loop
        self._protocol = Protocol(Side.CLIENT, max_size=max_message_bytes)
        self._messages: deque[str | bytes] = deque()
        self._size = 0
        self._parts: list[bytes] = []
        self._text = False
        self._broken = False
        self._closed: Closed | None = None
        self._closer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._choked = False
        self._paused = False
        self._pong: bytes | None = None
        self.address = address
        self.headers = headers  # of the 101, end-to-end ones
        self.subprotocol = subprotocol
        self.touched = loop.time()  # when the upstream last sent anything

    @property
    def held(self) -> bool:
        """Whether nothing is read now, because the reader is behind: silence is not the upstream's then."""
        return self._paused

    @property
    def unsent(self) -> int:
        """Bytes that the upstream has not taken yet."""
        return self._transport.get_write_buffer_size()

    async def receive(self) -> str | bytes | Closed:
        """The next message, of the kind it was sent as. After the last one, how the socket ended."""
        while not self._messages:
            if self._closed is not None:
                return self._closed
            self._waiter = waiter = self._loop.create_future()
            await waiter
        message = self._messages.popleft()
        self._size -= len(message)
        if self._paused and not self._messages:
            self._paused = False
            self.touched = self._loop.time()
            self._transport.resume_reading()
        return message

    async def send(self, message: str | bytes) -> bool:
        """Returns when the upstream is ready for more; False when the socket has ended."""
        if self._closed is not None or self._protocol.state is not State.OPEN:
            return False
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()
        while self._choked and self._closed is None:
            self._drained = self._loop.create_future()
            await self._drained
        return True

    def ping(self) -> None:
        if self._closed is None and not self._choked:
            self._protocol.send_ping(b"")
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begins the closing handshake, or ends what did not begin one. Codes that cannot be sent become 1001, and
        1005 a close without a code. Idempotent."""
        if self._closed is None and self._protocol.state is State.OPEN:
            try:
                if code == CloseCode.NO_STATUS_RCVD:
                    self._protocol.send_close()
                else:
                    self._protocol.send_close(code if sendable(code) else CloseCode.GOING_AWAY, fitting(reason))
                self._flush()
            except ProtocolError:
                self.abort()
        self._end(Closed(code, reason))

    def abort(self) -> None:
        self._end(Closed(CloseCode.ABNORMAL_CLOSURE, ""))
        self._transport.abort()

    # -- what the transport tells

    def data_received(self, data: bytes) -> None:
        self.touched = self._loop.time()
        protocol = self._protocol
        protocol.receive_data(data)
        for frame in protocol.events_received():
            self._take(cast(Frame, frame))
        self._flush()
        if self._broken or protocol.parser_exc is not None:
            self._end(Closed(CloseCode.ABNORMAL_CLOSURE, "the upstream broke the WebSocket protocol"))
            self._transport.close()  # whoever breaks it is not waited for
        if self._size > READ_HIGH_BYTES and not self._paused:  # 3
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closer is not None:
            self._closer.cancel()
        self._closer = None
        self._end(Closed(CloseCode.ABNORMAL_CLOSURE, ""), timer=False)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._pong is not None:
            self._transport.write(self._pong)
            self._pong = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- frames

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            if opcode is not Opcode.CONT:
                self._text = opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._whole()
        elif opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            self._end(Closed(received.code, received.reason) if received is not None else Closed(1006, ""))

    def _whole(self) -> None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        message: str | bytes = data
        if self._text:
            try:
                message = data.decode()
            except UnicodeDecodeError:
                self._protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
                self._broken = True
                return
        if self._closed is None and not self._broken:
            self._messages.append(message)
            self._size += len(message)

    def _flush(self) -> None:
        writes = self._protocol.data_to_send()
        if self._transport.is_closing():
            return
        for data in writes:
            if not data:  # both sides are done
                self._transport.close()
            elif self._choked and data[0] & 0x0F == Opcode.PONG:
                self._pong = data  # 3
            else:
                self._transport.write(data)

    def _end(self, closed: Closed, *, timer: bool = True) -> None:
        """The first word on how it ended stands."""
        if self._closed is None:
            self._closed = closed
            if timer:
                self._closer = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)  # 4
            if self._paused:  # a closing handshake must still be read
                self._paused = False
                self._transport.resume_reading()
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and (self._messages or self._closed is not None):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class _Nobody:
    """The home of a connection that no pool keeps."""

    def released(self, connection: Connection) -> None:
        connection.abort()

    def lost(self, connection: Connection) -> None:
        pass


async def connect(
    upstream: Upstream,
    target: str,
    headers: Sequence[Header],
    subprotocols: Sequence[str],
    *,
    tls: ssl.SSLContext | None,
    max_message_bytes: int,
    entropy: Callable[[int], bytes],
) -> UpstreamSocket | Declined:
    """An open socket, or the answer that declined it (1). Raises UpstreamFailed, `http_upgrade_failed` for a handshake
    that is not one. `headers` as for `HttpClient.send`; its own `Sec-WebSocket-*` members are replaced."""
    loop = asyncio.get_running_loop()
    key = base64.b64encode(entropy(16))
    own = [pair for pair in headers if pair[0] not in _OWN]
    check_names(own)
    if subprotocols:
        own.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("latin-1", "replace")))
    framing = (
        b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n"
    )
    head = encode_head("GET", target, own, framing)
    connection = await dial(upstream, tls, lambda: Connection(_Nobody(), upstream.timeouts, loop), loop)
    opened: list[UpstreamSocket] = []
    switched = False

    def switch(raw: bytes, rest: bytes) -> None:
        nonlocal switched
        found, subprotocol = _agreed(raw, key, subprotocols)
        switched = True
        transport = connection.transport
        socket = UpstreamSocket(transport, connection.address, found, subprotocol, max_message_bytes, loop)
        transport.set_protocol(socket)
        opened.append(socket)
        if rest:
            socket.data_received(rest)

    try:
        async with asyncio.timeout(upstream.timeouts.response):
            answer = connection.begin(head, b"", bodiless=False, stream=False, sent=True, switch=switch)
            await answer.arrive()
            if opened:
                return opened.pop()
            body = b""
            while len(body) < DECLINED_BYTES and (chunk := await answer.chunk()):
                body += chunk
            return Declined(answer.status, answer.headers, body[:DECLINED_BYTES], answer.address)
    except TimeoutError:
        text = "no answer to the handshake in time"
        raise UpstreamFailed(text, error="http_response_timeout", sent=True, timeout=True) from None
    finally:
        for socket in opened:  # cancelled just now
            socket.abort()
        if not switched:
            connection.abort()


def _agreed(raw: bytes, key: bytes, subprotocols: Sequence[str]) -> tuple[list[Header], str | None]:
    """The 101's end-to-end headers and its subprotocol. Raises UpstreamFailed (2)."""
    found = fields(raw)
    by: dict[bytes, list[bytes]] = {}
    for name, value in found:
        by.setdefault(name, []).append(value)
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    listed = [item.strip().lower() for item in b",".join(by.get(b"connection", [])).split(b",")]
    chosen = by.get(b"sec-websocket-protocol", [])
    if [item.lower() for item in by.get(b"upgrade", [])] != [b"websocket"] or b"upgrade" not in listed:
        raise bad_head("the upgrade is not one to WebSocket", "http_upgrade_failed")
    if by.get(b"sec-websocket-accept") != [accept]:
        raise bad_head("the handshake's answer does not fit its key", "http_upgrade_failed")
    if b"sec-websocket-extensions" in by:
        raise bad_head("an extension was chosen that nobody offered", "http_upgrade_failed")
    if len(chosen) > 1 or any(item.decode("latin-1") not in subprotocols for item in chosen):
        raise bad_head("a subprotocol was chosen that nobody offered", "http_upgrade_failed")
    dropped = _OWN | {b"connection", b"upgrade", b"content-length", b"transfer-encoding", *listed}
    return [pair for pair in found if pair[0] not in dropped], chosen[0].decode("latin-1") if chosen else None
