"""One connection of the front: bytes become requests, one at a time, or end in one refusal.

What uvicorn's server expects of a protocol comes from its httptools one; of its parsing nothing is used: head.py and
request_body.py read every byte, and a second parser behind them would only be a second opinion. States:
1. HEAD: bytes are collected until a head is whole, and refused as soon as they cannot become one. 2. BODY: bytes belong
to the current request, whether its application wants them or not. 3. BUSY: the request is here, its response is not;
what comes is kept (one read at most) and reading pauses. 4. OVER: answered for the last time; what comes is not looked
at. Nothing is ever read as a request after a refusal or after a response that closes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from gateway.core.exchange import Head
from gateway.core.reasons import Refusal
from gateway.wire.cycle import HIGH_WATER_BYTES, Cycle, http_scope
from gateway.wire.door import LINGER_SECONDS, NEVER, RATE_BYTES, Door
from gateway.wire.forwarded import peer_of
from gateway.wire.front_answer import CROWDED, FAULT, FULL, LATE_BODY, LATE_HEAD, LEAVING, write_answer
from gateway.wire.handshake import FrontWebSocket, fits
from gateway.wire.head import BAD_UPGRADE, HEAD_TOO_LARGE, Scanned
from gateway.wire.request_body import BODY_TOO_LARGE, ChunkedBody, CountedBody
from gateway.wire.target import LINE_BYTES, TARGET_TOO_LONG
from gateway.wire.tls_listener import Handshake

HEAD: Final = 0
BODY: Final = 1
BUSY: Final = 2
OVER: Final = 3

PROGRESS_BYTES = 16 * 1024  # what a slow reader must take in one `body_timeout`
KNOWN_BYTES = 4096  # a longer head is not remembered: 4096 connections must not hold 128 MiB of them

_RESET = struct.pack("ii", 1, 0)


class FrontProtocol(HttpToolsProtocol):
    """One connection of a listener, made by `server.Front`, whose Door comes in the state of the application."""

    arriving: Handshake | None = None  # what this connection was until TLS stood

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.door: Door = self.app_state["door"]
        door = self.door
        self.transport = transport
        self.lines = door.lines
        self.parser = None  # type: ignore[assignment]  # llhttp has no say here, and it would hold this object in a cycle
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self.peer, self.peer_key = peer_of(transport, self.client, self.scheme, door.limits.trusted_proxies)
        self.state = HEAD
        self.pending = b""  # the beginning of a head, or what came behind the current request
        self.skipped = False  # the empty line that may stand before a request line has been passed over
        self.known = b""  # the last head that passed: a client says the same one again and again, and scanning is pure
        self.known_as: Scanned | None = None
        self.known_scope: dict[str, Any] | None = None  # of that head; each request has its own copy
        self.current: Cycle | None = None
        self.body: ChunkedBody | CountedBody | None = None  # the current one, while bytes of it are to come
        self.body_began = 0.0
        self.stalled_bytes = 0  # what waited to be written when the write deadline was set
        self.write_deadline = NEVER
        self.read_deadline = door.clock.monotonic() + door.limits.head_timeout
        self.connections.add(self)
        if not door.enter(self, self.arriving):
            self._turn_away()
        elif not self.peer.trusted:  # a proxy's connections stand for many callers
            door.head_begun(self)

    def _turn_away(self) -> None:
        if self.door.crowded:
            self.door.events.bad_bytes(self.peer.address, FULL.rule)
            self.state = OVER
            self.transport.abort()
        else:
            self._refuse(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.door.leave(self)
        if self.state == HEAD and self.pending:
            self.door.events.bad_bytes(self.peer.address, "head.incomplete")
        self.state = OVER
        self.pending = b""
        self.read_deadline = self.write_deadline = NEVER
        self.flow.resume_writing()
        cycle, self.current = self.current, None
        if cycle is not None:
            cycle.lose()
        if exc is None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            if self.pending:
                self._head(self.pending + data, max(0, len(self.pending) - 3))
            else:
                self._head(data, 0)
        elif state == BODY:
            self._body(data)
        elif state == BUSY:
            self.pending += data
            self.flow.pause_reading()

    # 1: heads

    def _head(self, data: bytes, searched: int) -> None:
        """`data` begins where a request begins; in its first `searched` bytes no head ends."""
        if data[:2] == b"\r\n" and not self.skipped:
            self.skipped = True  # RFC 9112 section 2.2
            data, searched = data[2:], 0
        if self.known_as is not None and data.startswith(self.known):
            self.pending = b""
            self._begin(self.known_as, data, len(self.known))
            return
        end = data.find(b"\r\n\r\n", searched)
        if end < 0:
            self._unfinished(data, searched)
            return
        self.pending = b""
        scanned = self.door.scanner.scan(data[: end + 2], self.peer)
        if isinstance(scanned, Refusal):
            self._refuse(scanned, without_body=data[:5] == b"HEAD ")
            return
        if end < KNOWN_BYTES:
            self.known, self.known_as, self.known_scope = data[: end + 4], scanned, None
        self._begin(scanned, data, end + 4)

    def _unfinished(self, data: bytes, searched: int) -> None:
        refusal = self.door.scanner.early(data, searched)
        if refusal is None:
            line_end = data.find(b"\r\n", 0, LINE_BYTES + 2)
            if line_end < 0:
                refusal = TARGET_TOO_LONG if len(data) > LINE_BYTES + 1 else None
            elif len(data) - line_end > self.door.limits.header_bytes + 3:
                refusal = HEAD_TOO_LARGE
        if refusal is not None:
            self.pending = b""
            self._refuse(refusal)
            return
        if data and not self.pending:
            self.read_deadline = self.door.clock.monotonic() + self.door.limits.head_timeout
            self.door.idle.pop(self, None)
            if not self.peer.trusted:
                self.door.head_begun(self)
        self.pending = data

    def _begin(self, scanned: Scanned, data: bytes, at: int) -> None:
        """The head is whole and good; its body, as far as it is here, begins at `at`."""
        door, head, length = self.door, scanned.head, scanned.length
        door.head_done(self)
        door.idle.pop(self, None)
        without_body = head.method == "HEAD"
        if len(self.tasks) >= door.limits.exchanges:
            self._refuse(CROWDED, without_body)
            return
        if length > door.limits.body_bytes:
            self._refuse(BODY_TOO_LARGE, without_body)
            return
        if head.websocket:
            self._upgrade(head, data[at:])
            return
        scope = self.known_scope if scanned is self.known_as else None
        if scope is None:
            scope = http_scope(scanned, self.peer, self.server, self.client)
            if scanned is self.known_as:
                self.known_scope = scope
        cycle = Cycle(
            self, self.transport, self.flow, scope.copy(), keep_alive=scanned.keep_alive, expects=scanned.expects,
            http10=scanned.http10,
        )  # fmt: skip
        self.current = cycle
        if length == 0 or 0 < length <= len(data) - at:
            if length:
                cycle.chunks.append(data[at : at + length])
            cycle.complete = True
            self._here(data[at + length :])
        else:
            self.state = BODY
            self.body = ChunkedBody(door.limits.body_bytes) if length < 0 else CountedBody(length)
            self.body_began = door.clock.monotonic()
            self.read_deadline = self.body_began + door.limits.body_timeout
            if len(data) > at:
                self._body(data[at:])
                if self.current is None:
                    return  # refused before its application has begun
        cycle.task = task = self.loop.create_task(cycle.run(self.app, self.tasks))
        self.tasks.add(task)

    def _upgrade(self, head: Head, rest: bytes) -> None:
        if rest:
            self._refuse(BAD_UPGRADE)  # frames before the handshake's answer, or a request behind it
            return
        if not fits(head):
            self._refuse(HEAD_TOO_LARGE)
            return
        self.state = OVER
        self.read_deadline = NEVER
        self.flow.resume_reading()
        self.connections.discard(self)
        FrontWebSocket(self.config, self.server_state, self.app_state, self.loop).take_over(self, head)

    # 2: bodies

    def _body(self, data: bytes) -> None:
        cycle, body = self.current, self.body
        if cycle is None or body is None:
            raise RuntimeError("body bytes without a request")
        chunks = cycle.chunks
        rest = body.feed(data, chunks)
        if isinstance(rest, Refusal):
            self._spoiled(rest)
            return
        if cycle.answered:
            chunks.clear()  # nobody wants it; it is read so that the next request is found
        cycle.held += len(data)
        if rest is None:
            self.read_deadline = self.body_began + self.door.limits.body_timeout + body.received / RATE_BYTES
            if cycle.held > HIGH_WATER_BYTES and not cycle.answered:
                self.flow.pause_reading()
            if chunks:
                cycle.fed(complete=False)
            return
        self.body = None
        self._here(rest)
        cycle.fed(complete=True)
        if cycle.answered:
            self._next()

    def _here(self, rest: bytes) -> None:
        """3: the request is here; `rest` came behind it."""
        self.state = BUSY
        self.read_deadline = NEVER
        if rest:
            self.pending = rest
            self.flow.pause_reading()

    def _spoiled(self, refusal: Refusal) -> None:
        """The body of the current request will not be had."""
        cycle = self.current
        self.body = None
        if cycle is None or cycle.answered:
            self._linger()
        elif cycle.task is None:  # its application has not begun: there is no exchange
            self.current = None
            self._refuse(refusal, without_body=cycle.scope["method"] == "HEAD")
        elif cycle.started:
            self._cut(cycle)
            cycle.lose()
        else:
            self.state = OVER
            self.read_deadline = NEVER
            self.flow.resume_reading()
            cycle.refuse(refusal)

    # responses

    def date(self) -> bytes:
        return self.door.date()

    def responded(self, cycle: Cycle) -> None:
        self.server_state.total_requests += 1
        if cycle is not self.current or self.transport.is_closing():
            return
        if not cycle.keep_alive:
            if self.state == BUSY and not self.pending:
                self._close()
            else:
                self._linger()
        elif self.state == BUSY:
            self._next()
        else:
            cycle.chunks.clear()
            self.flow.resume_reading()

    def abandoned(self, cycle: Cycle) -> None:
        if cycle is not self.current or cycle.gone or self.transport.is_closing():
            return
        if not cycle.started:
            refusal = cycle.refusal or (LEAVING if self.door.closing else FAULT)
            self._refuse(refusal, without_body=cycle.scope["method"] == "HEAD", counted=False)
        else:
            self._cut(cycle)

    def _cut(self, cycle: Cycle) -> None:
        """Ends a response that has begun, so that the client sees that it is not whole."""
        if not cycle.ends_by_closing:
            self._linger()
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # an orderly end would say: this was all
        self.transport.abort()

    def _next(self) -> None:
        """The next request, which may already be here."""
        self.state = HEAD
        self.current = None
        self.skipped = False
        data, self.pending = self.pending, b""
        self.read_deadline = self.door.clock.monotonic() + self.door.limits.keepalive
        self.door.idle[self] = None
        self.flow.resume_reading()
        if data:
            self._head(data, 0)

    # 4: the end

    def _refuse(self, refusal: Refusal, without_body: bool = False, counted: bool = True) -> None:
        if counted:
            self.door.events.bad_bytes(self.peer.address, refusal.rule)
        self.transport.write(write_answer(refusal, now=self.door.clock.time(), without_body=without_body))
        self._linger()

    def _linger(self) -> None:
        """Nothing more is said, and what still comes is read unseen for a while: closing over unread bytes would make
        the kernel reset the connection and take the answer with it (RFC 9112 section 9.6)."""
        self.state = OVER
        self.pending = b""
        self.door.head_done(self)
        self.door.idle.pop(self, None)
        self.read_deadline = self.door.clock.monotonic() + LINGER_SECONDS
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        self.state = OVER
        self.read_deadline = NEVER
        self.door.idle.pop(self, None)
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_writing()

    def shutdown(self) -> None:
        """Asked by the server: finish the current request, begin no other."""
        if self.state == HEAD:
            self._close()
        elif self.current is not None:
            self.current.keep_alive = False

    def give_way(self, reason: str) -> None:
        if self.state == HEAD and reason == "half_open":
            self.door.events.bad_bytes(self.peer.address, reason)
            self.pending = b""
        self._close()

    def abort(self) -> None:
        self.transport.abort()

    # deadlines and back-pressure

    def read_expired(self, now: float) -> None:
        if self.state == HEAD:
            if self.pending:
                self.pending = b""
                self._refuse(LATE_HEAD)
            else:
                self._close()
        elif self.state == BODY:
            cycle = self.current
            if self.flow.read_paused or (cycle is not None and cycle.expects and not cycle.answered):
                self.body_began = now - (self.body.received if self.body else 0) / RATE_BYTES  # we let it wait
                self.read_deadline = now + self.door.limits.body_timeout
            else:
                self._spoiled(LATE_BODY)
        else:
            self._close()

    def write_expired(self, now: float) -> None:
        if self.stalled_bytes - self.transport.get_write_buffer_size() < PROGRESS_BYTES:
            self.transport.abort()
        else:
            self._watch_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.write_deadline = NEVER

    def _watch_writing(self) -> None:
        self.stalled_bytes = self.transport.get_write_buffer_size()
        self.write_deadline = self.door.clock.monotonic() + self.door.limits.body_timeout
