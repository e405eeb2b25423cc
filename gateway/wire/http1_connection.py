"""One HTTP/1.1 connection to an upstream: writes requests, reads answers, says when it may be used again.

Rules, numbered as in the code:
1. A connection serves one exchange at a time, and an answer owns its bytes: when its end is here, nothing ties the two
   together, so a late reader or closer can never touch the next exchange.
2. Bytes that nobody asked for (behind an answer, between two) end the connection; they are nobody's answer.
3. Whoever gives up before the end ends the connection at once: that is how the upstream notices.
4. Interim answers are consumed, a bounded number; 101 was not asked for.
5. Reading stops while the reader is behind and writing while the upstream is; a deadline runs only against whoever is
   awaited. Deadlines are numbers here, and the pool's one timer looks at them.
It must never be reused unless request and answer ended exactly where they said they would.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Protocol as Port
from typing import TypeAlias, cast

from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Timeouts
from gateway.wire.http1_answer import Answer
from gateway.wire.http1_chunked import Chunked
from gateway.wire.http1_head import ResponseHead, bad_head, find_end, parse_head

READ_HIGH_BYTES = 64 * 1024  # held for a reader that is behind, besides what one read brought
MAX_INTERIM = 16  # 1xx answers to one request

Switch: TypeAlias = Callable[[bytes, bytes], None]


class Home(Port):
    """What a connection tells its pool, each at most once per exchange and per life."""

    def released(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """`deadline` is loop time; the pool calls `expire` behind it. `reused` once an exchange has ended on it."""

    __slots__ = (
        "_answer",
        "_bodiless",
        "_choked",
        "_closed",
        "_decoder",
        "_drained",
        "_home",
        "_idle",
        "_interim",
        "_keep",
        "_known",
        "_known_as",
        "_left",
        "_loop",
        "_partial",
        "_paused",
        "_poll",
        "_sent",
        "_switch",
        "_timeouts",
        "_transport",
        "_upload",
        "address",
        "deadline",
        "keep_seconds",
        "reused",
    )  # fmt: skip

    def __init__(self, home: Home, timeouts: Timeouts, loop: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._timeouts = timeouts
        self._loop = loop
        self._answer: Answer | None = None
        self._bodiless = False
        self._partial: bytearray | None = None  # the beginning of a head
        self._interim = 0
        self._known = b""
        self._known_as: ResponseHead
        self._decoder: Chunked | None = None
        self._left = 0  # body bytes still to come, -1: until the connection ends
        self._idle: float | None = None
        self._switch: Switch | None = None
        self._keep = False
        self._sent = True  # the whole request was handed to the transport
        self._upload: asyncio.Task[None] | None = None
        self._choked = False
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self.address = ""
        self.deadline = inf
        self.keep_seconds: int | None = None
        self.reused = False

    @property
    def transport(self) -> asyncio.Transport:
        """For whoever takes it over after a switch of protocols."""
        return self._transport

    # -- what the pool asks

    def quiet(self) -> bool:
        """Whether nothing waits on the socket: neither its end nor bytes that nobody asked for (2)."""
        return not self._closed and not self._transport.is_closing() and not self._poll(0)

    def begin(
        self, head: bytes, body: bytes, *, bodiless: bool, stream: bool, sent: bool, switch: Switch | None = None
    ) -> Answer:
        """Writes a request. `bodiless`: its answer has no body; `sent`: nothing of the request follows. `switch` takes
        the transport over when the upstream agrees to another protocol; it gets the head and what came behind it."""
        self._answer = answer = Answer(self)
        self._bodiless = bodiless
        self._idle = self._timeouts.stream_idle if stream else self._timeouts.idle
        self._interim = 0
        self._switch = switch
        self._sent = sent
        self.deadline = self._loop.time() + self._timeouts.response
        self._transport.write(head)
        if body:
            self._transport.write(body)
        return answer

    def upload(self, answer: Answer, body: AsyncIterator[bytes], length: int | None) -> None:
        """Sends a streamed body beside the answer, which may come before its end."""
        self.deadline = inf  # 5: the caller is awaited
        self._upload = self._loop.create_task(self._send(answer, body, length))

    def expire(self) -> None:
        answer = self._answer
        if answer is None:
            self.abort()
        elif answer.status:
            self._fail(_late("the answer's body stopped", "connection_read_timeout"))
        elif self._choked:
            self._fail(_late("the request was not taken in time", "connection_write_timeout"))
        else:
            self._fail(_late("no answer in time", "http_response_timeout"))

    def give_up(self, failure: UpstreamFailed) -> None:
        self._fail(failure)

    def abort(self) -> None:
        """Ends the connection now (3). The answer, if there is one, was told before."""
        self._answer = None
        self._forget()
        self._transport.abort()

    def caught_up(self) -> None:
        """The reader took all there was."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._wait_on()

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        else:
            self.address = f"unix:{peer}"
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._poll = poll.poll

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.abort()  # 2
            return
        try:
            if answer.status:
                self._take_body(answer, data)
            else:
                answer.touched = True
                self._take_head(answer, data)
        except UpstreamFailed as failure:
            self._fail(failure)

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.status and self._left < 0 and self._decoder is None and self._said_goodbye():
            self._finish(answer, clean=False)

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            if answer.status:
                text, error = "the answer was cut short", "http_response_incomplete"
            else:
                text, error = "the connection ended before an answer", "connection_terminated"
            answer.fail(UpstreamFailed(text, error=error, sent=True))
        self._forget()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- the answer

    def _take_head(self, answer: Answer, data: bytes) -> None:
        partial = self._partial
        if partial is None:
            end = find_end(data, 0)
        else:
            seen = len(partial)
            partial += data
            end = find_end(partial, seen)
            data = bytes(partial) if end >= 0 else data
        if end < 0:
            if partial is None:
                self._partial = bytearray(data)
            return
        self._partial = None
        while True:
            raw = data if end == len(data) else data[:end]
            if raw != self._known:
                head, self._known = parse_head(raw), raw
                self._known_as = head
            else:
                head = self._known_as  # the same bytes are the same head: an upstream repeats itself within a second
            data = data[end:]
            if head.status >= 200:
                break
            if head.status == 101 and self._switch is not None:
                self._switch(raw, data)
                self._answer = None
                answer.accept(head)
                answer.end()
                return
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:  # 4
                raise bad_head("an interim answer too many, or an upgrade nobody asked for")
            if not data:
                return
            end = find_end(data, 0)
            if end < 0:
                self._partial = bytearray(data)
                return
        self._accept(answer, head, data)

    def _accept(self, answer: Answer, head: ResponseHead, data: bytes) -> None:
        answer.accept(head)
        self.keep_seconds = head.keep_seconds
        self._keep = head.keep
        if head.event_stream:
            self._idle = self._timeouts.stream_idle
        if self._bodiless or head.status in (204, 304) or head.length == 0:
            self._finish(answer, clean=not data)
            return
        if head.chunked:
            self._decoder = Chunked()
        elif head.length is not None:
            self._left = head.length
        else:
            self._left = -1
        self._wait_on()
        if data:
            self._take_body(answer, data)

    def _take_body(self, answer: Answer, data: bytes) -> None:
        decoder = self._decoder
        if decoder is not None:
            data = decoder.feed(data)
            if data and answer.deliver(data) > READ_HIGH_BYTES and not decoder.ended:
                self._hold()
            if decoder.ended:
                self._finish(answer, clean=not decoder.extra)
            elif data:  # bytes that carry nothing move no deadline
                self._wait_on()
            return
        left = self._left
        size = len(data)
        if left >= 0 and size >= left:
            answer.deliver(data if size == left else data[:left])
            self._finish(answer, clean=size == left)
            return
        if left > 0:
            self._left = left - size
        if answer.deliver(data) > READ_HIGH_BYTES:
            self._hold()
        self._wait_on()

    def _said_goodbye(self) -> bool:
        """Whether the end is the upstream's own: on TLS, anybody on the way can make one without close_notify."""
        tls = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _hold(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _wait_on(self) -> None:
        self.deadline = inf if self._paused or self._idle is None else self._loop.time() + self._idle  # 5

    def _finish(self, answer: Answer, *, clean: bool) -> None:
        self._answer = None
        self._decoder = None
        answer.end()  # 1
        if clean and self._keep and self._sent and not self._choked and not self._transport.get_write_buffer_size():
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self.reused = True
            self._home.released(self)
        else:
            self.abort()

    def _fail(self, failure: BaseException) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.fail(failure)
        self.abort()

    def _forget(self) -> None:
        self._decoder = None
        self.deadline = inf
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if not self._closed:
            self._closed = True
            self._home.lost(self)

    # -- a streamed request body

    async def _send(self, answer: Answer, body: AsyncIterator[bytes], length: int | None) -> None:
        failure: BaseException | None = None
        try:
            await self._send_all(answer, body, length)
        except BaseException as error:  # noqa: BLE001 (a background loop: whatever the body raised belongs to the caller)
            failure = error
        if self._answer is not answer:
            return  # the answer ended first, or was given up
        self._upload = None
        if failure is not None:
            self._fail(failure)
            return
        self._sent = True
        if not answer.status:
            self.deadline = self._loop.time() + self._timeouts.response

    async def _send_all(self, answer: Answer, body: AsyncIterator[bytes], length: int | None) -> None:
        left = length
        async for data in body:
            if self._answer is not answer:
                return
            if not data:
                continue
            if left is not None:
                left -= len(data)
                if left < 0:
                    raise UpstreamFailed(
                        "the request body is longer than declared", error="http_request_error", sent=True
                    )
            self._transport.write(data if length is not None else b"%x\r\n%b\r\n" % (len(data), data))
            while self._choked and self._answer is answer:
                if not answer.status:
                    self.deadline = self._loop.time() + self._timeouts.idle
                self._drained = self._loop.create_future()
                await self._drained
                if not answer.status:
                    self.deadline = inf
        if left:
            raise UpstreamFailed("the request body is shorter than declared", error="http_request_error", sent=True)
        if length is None and self._answer is answer:
            self._transport.write(b"0\r\n\r\n")


def _late(text: str, error: str) -> UpstreamFailed:
    return UpstreamFailed(text, error=error, sent=True, timeout=True)
