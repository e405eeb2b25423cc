"""HTTP/2 towards upstreams, over httpx2's transport (the `HttpClient` port); loaded only where a route's upstream asks.

Rules, numbered as in the code:
1. A connection carries one exchange at a time. The library sends no reset for a stream that is given up, never returns
   the flow-control window of its unread bytes, and lets one late stream fail all others on its connection: apart, each
   exchange has its own deadline, and giving one up ends its connection, which is how the upstream notices.
2. Sent is exactly what was given, the target by its raw bytes; nothing is followed, decompressed, or added but framing.
3. The head is checked here as strictly as HTTP/1.1's (RFC 9113 8.2): the library does not validate what comes in.
4. Idle connections are kept as briefly as HTTP/1.1's, and one repeat happens under the same conditions.
It must never send a streamed body twice.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence

import httpx2

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Timeouts, Upstream
from gateway.wire.dial import failed
from gateway.wire.http1 import PoolLimits
from gateway.wire.http1_head import HOP_BY_HOP, MAX_FIELDS, MAX_HEAD_BYTES, bad_head, check_names, encode_head

_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++\n[\t\x20-\x7e\x80-\xff]*+")
_DIGITS = re.compile(rb"[0-9]{1,18}")


class _Body(httpx2.AsyncByteStream):
    """The request's body; a streamed one is given out once (the library may ask again after a GOAWAY). While the caller
    is awaited no deadline runs, while the upstream takes what it brought the idle one does."""

    def __init__(self, body: bytes | AsyncIterator[bytes] | None, times: Timeouts) -> None:
        self._body = body
        self._times = times
        self._given = False
        self._deadline: asyncio.Timeout | None = None
        self.begun = False

    def until(self, deadline: asyncio.Timeout, *, connected: bool) -> None:
        """`deadline` is for the connection first, if there is none yet, then for the head of the answer."""
        self._deadline = deadline
        self.begun = False
        self._allow(self._times.response if connected else self._times.connect)

    async def watch(self, event: str, _: object) -> None:
        """What the library tells of its progress: behind this event the connection stands."""
        if event == "http2.send_request_headers.started":
            self.begun = True
            self._allow(self._times.response)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._body, bytes):
            yield self._body
        elif self._body is not None:
            if self._given:
                raise UpstreamFailed("a streamed body cannot be repeated", error="connection_terminated", sent=True)
            self._given = True
            self._allow(None)
            async for data in self._body:
                self._allow(self._times.idle)
                yield data
                self._allow(None)
            self._allow(self._times.response)

    def _allow(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + seconds if seconds is not None else None)


class _Line:
    """One transport that holds at most one connection."""

    __slots__ = ("idle_since", "transport", "used")

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
        self.transport = httpx2.AsyncHTTPTransport(
            verify=tls if tls is not None else False, trust_env=False, http1=False, http2=True, limits=limits, retries=0
        )
        self.used = False
        self.idle_since = 0.0


class Answer:
    """One exchange's answer. Cancelling `chunk` gives it up: the library cannot go on from there."""

    __slots__ = ("_client", "_left", "_line", "_response", "_stream", "_timeout", "address", "complete", "headers",
                 "status")  # fmt: skip

    def __init__(
        self, client: Http2Client, line: _Line, response: httpx2.Response, headers: list[Header], timeout: float | None
    ) -> None:
        self._client = client
        self._line: _Line | None = line
        self._response = response
        self._stream: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]
        self._timeout = timeout
        self._left = next((int(value) for name, value in headers if name == b"content-length"), None)
        self.status = response.status_code
        self.headers = headers
        self.address = _address(response)
        self.complete: bytes | None = None

    async def chunk(self) -> bytes:
        if self._line is None:
            return b""
        data = b""
        given = False
        try:
            async with asyncio.timeout(self._timeout):
                while not data:  # an empty frame is not the end, and does not move the deadline
                    data = await anext(self._stream)
            given = True
        except StopAsyncIteration:
            given = True
        except TimeoutError:
            raise _late("the answer's body stopped", "connection_read_timeout") from None
        except httpx2.HTTPError as error:
            raise bad_head("the answer was cut short", "http_response_incomplete") from error
        finally:
            if not given:
                await self.aclose()
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (not data and self._left):
                await self.aclose()
                raise bad_head("the body is not as long as announced", "http_response_incomplete")
        if not data:
            await self.end()
        return data

    async def expect_nothing(self) -> None:
        """Waits for the end of an answer that has no body. Raises UpstreamFailed."""
        self._left = None
        if await self.chunk():
            await self.aclose()
            raise bad_head("a body where none may be")
        self.complete = b""

    async def end(self) -> None:
        """The body is over: the connection may serve again."""
        line, self._line = self._line, None
        if line is not None:
            await self._response.aclose()
            self._client.released(line)

    async def aclose(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await self._client.discard(line)  # 1


class Http2Client:
    """`tls` has no other ALPN name than h2; None speaks HTTP/2 in clear text by prior knowledge."""

    def __init__(self, upstream: Upstream, tls: ssl.SSLContext | None, limits: PoolLimits) -> None:
        self.upstream = upstream
        self._tls = tls
        self._limits = limits
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()
        self._places = asyncio.Semaphore(limits.connections)
        self._waiting = 0
        self._retired = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        try:
            self._url = httpx2.URL(f"{upstream.scheme}://{host}:{upstream.port}/")
        except httpx2.InvalidURL as error:
            raise ValueError(f"upstream {upstream.name}: {error}") from None

    @property
    def in_flight(self) -> int:
        return len(self._busy)

    async def send(
        self,
        method: str,
        target: str,
        headers: Iterable[Header],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        body_bytes: int | None = None,
        idempotent: bool = False,
        stream: bool = False,
    ) -> Answer:
        headers = list(headers)
        check_names(headers)
        encode_head(method, target, headers, b"")  # the same bytes are refused as over HTTP/1.1
        content = _Body(body, self.upstream.timeouts)
        request = self._request(method, target, headers, content, body, body_bytes)
        repeatable = idempotent and (body is None or isinstance(body, bytes))
        await self._place()
        while True:
            line = self._idle.pop() if self._idle else _Line(self._tls)
            self._busy.add(line)
            try:
                return await self._exchange(line, request, content, stream)
            except UpstreamFailed as failure:
                if not (repeatable and line.used) or failure.timeout or failure.error != "connection_terminated":
                    raise
                repeatable = False
                await self._close_idle(self._idle)  # as old as the one that failed
                await self._place()

    async def _exchange(self, line: _Line, request: httpx2.Request, body: _Body, stream: bool) -> Answer:
        times = self.upstream.timeouts
        good = False
        try:
            async with asyncio.timeout(None) as deadline:
                body.until(deadline, connected=line.used)
                response = await line.transport.handle_async_request(request)
            headers, events = _checked(response)  # 3
            good = True
        except TimeoutError as error:
            if not body.begun:
                raise failed(error) from error
            raise _late("no answer in time", "http_response_timeout") from error
        except httpx2.HTTPError as error:
            raise _named(error) from error
        except UnicodeError as error:  # a host that is no name
            raise failed(error) from error
        except ValueError as error:  # what the library makes of a :status that is no number
            raise bad_head("the response status is not one") from error
        finally:
            if not good:
                await self.discard(line)
        line.used = True
        answer = Answer(self, line, response, headers, _limit(times, stream or events))
        if request.method == "HEAD" or response.status_code in (204, 304):
            await answer.expect_nothing()
        return answer

    def _request(
        self, method: str, target: str, headers: Sequence[Header], content: _Body,
        body: bytes | AsyncIterator[bytes] | None, body_bytes: int | None,
    ) -> httpx2.Request:  # fmt: skip
        own = list(headers)
        if isinstance(body, bytes):
            own.append((b"content-length", b"%d" % len(body)))
        elif body is not None:  # the library drops transfer-encoding; it only tells it that a body follows
            length = b"%d" % body_bytes if body_bytes is not None else b""
            own.append((b"content-length", length) if length else (b"transfer-encoding", b"chunked"))
        extensions: dict[str, object] = {
            "target": target.encode("ascii"),  # 2: the URL's own path is never looked at
            "trace": content.watch,
        }
        if self._tls is not None:
            extensions["sni_hostname"] = self.upstream.tls.server_name or self.upstream.host
        return httpx2.Request(method, self._url, headers=own, stream=content, extensions=extensions)

    # -- connections

    async def _place(self) -> None:
        if self._waiting >= self._limits.waiters:
            raise _full(timeout=False)
        self._waiting += 1
        try:
            async with asyncio.timeout(self.upstream.timeouts.connect):
                await self._places.acquire()
        except TimeoutError:
            raise _full(timeout=True) from None
        finally:
            self._waiting -= 1

    def released(self, line: _Line) -> None:
        self._busy.discard(line)
        self._places.release()
        if self._retired or len(self._idle) >= self._limits.idle:
            self._close_soon([line])
            return
        loop = asyncio.get_running_loop()
        line.idle_since = loop.time()
        self._idle.append(line)
        if self._timer is None:
            self._timer = loop.call_later(self._limits.keepalive, self._tick)

    async def discard(self, line: _Line) -> None:
        if line in self._busy:
            self._busy.discard(line)
            self._places.release()
            await line.transport.aclose()

    def retire(self) -> None:
        self._retired = True
        idle, self._idle = self._idle, []
        if idle:
            self._close_soon(idle)

    async def aclose(self) -> None:
        self.retire()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for line in tuple(self._busy):
            await self.discard(line)
        await asyncio.gather(*self._closing)

    def _tick(self) -> None:  # 4
        loop = asyncio.get_running_loop()
        until = loop.time() - self._limits.keepalive
        old = [line for line in self._idle if line.idle_since <= until]
        self._idle = [line for line in self._idle if line.idle_since > until]
        if old:
            self._close_soon(old)
        self._timer = loop.call_later(self._limits.keepalive / 4, self._tick) if self._idle else None

    def _close_soon(self, lines: list[_Line]) -> None:
        task = asyncio.get_running_loop().create_task(self._close_idle(lines))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @staticmethod
    async def _close_idle(lines: list[_Line]) -> None:
        while lines:
            await lines.pop().transport.aclose()


def _checked(response: httpx2.Response) -> tuple[list[Header], bool]:
    """The head's end-to-end headers, and whether it is an event stream. Raises UpstreamFailed."""
    raw = response.headers.raw
    if not 200 <= response.status_code <= 599:
        raise bad_head("the response status is not one")
    if len(raw) > MAX_FIELDS or sum(len(name) + len(value) for name, value in raw) > MAX_HEAD_BYTES:
        raise bad_head("the response head is too large", "http_response_header_section_size")
    headers: list[Header] = []
    lengths = 0
    events = False
    for name, value in raw:
        if _FIELD.fullmatch(name + b"\n" + value) is None or name in HOP_BY_HOP:
            raise bad_head("the response head is malformed")
        if name == b"content-length":
            lengths += 1
            if lengths > 1 or _DIGITS.fullmatch(value) is None:
                raise bad_head("Content-Length is not one number")
            if response.status_code == 204:
                continue
        elif name == b"content-type":
            events = value[:17].lower() == b"text/event-stream"
        headers.append((name, value))
    return headers, events


def _limit(times: Timeouts, stream: bool) -> float | None:
    return times.stream_idle if stream else times.idle


def _address(response: httpx2.Response) -> str:
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    return f"{peer[0]}:{peer[1]}" if peer else ""


def _late(text: str, error: str) -> UpstreamFailed:
    return UpstreamFailed(text, error=error, sent=True, timeout=True)


def _full(*, timeout: bool) -> UpstreamFailed:
    return UpstreamFailed("no connection came free", error="connection_limit_reached", sent=False, timeout=timeout)


def _named(error: httpx2.HTTPError) -> UpstreamFailed:
    if isinstance(error, httpx2.ConnectTimeout):
        return failed(TimeoutError())
    if isinstance(error, httpx2.ConnectError):
        deepest: OSError | UnicodeError | None = None  # the library wraps it more than once
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError | UnicodeError):
                deepest = cause
            cause = cause.__cause__ or cause.__context__
        return failed(deepest or OSError())
    if isinstance(error, httpx2.ProtocolError) and "disconnected" not in str(error):
        return bad_head("the upstream broke HTTP/2")  # also what the library calls a local error: ours was checked
    return UpstreamFailed("the connection ended before an answer", error="connection_terminated", sent=True)
