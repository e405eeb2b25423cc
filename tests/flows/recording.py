"""An upstream that records what reaches it and plays back exact bytes, and a client that reads exact bytes: no library
in between that could smooth anything over.

`Upstream.plays[path]` is a coroutine per path that speaks on the raw connection once the request is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Pairs: TypeAlias = "list[tuple[str, str]]"

PATIENCE_SECONDS = 10
# Of the connection, not of the message (RFC 9110, 7.6.1).
FRAMING = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"})
# What ruling 6 leaves to each hop; "ratelimit" and all that begins with it.
HOPS_OWN = frozenset({"via", "date", "x-request-id", "traceparent"})


@dataclass(frozen=True)
class Answer:
    """What a client got, framing undone."""

    status: int
    headers: Pairs
    body: bytes

    def end_to_end(self) -> Pairs:
        return [pair for pair in self.headers if end_to_end_name(pair[0])]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True)
class Request:
    """What reached the upstream."""

    method: str
    target: str
    headers: Pairs
    body: bytes

    def facts(self, base: str, *, without: frozenset[str]) -> tuple[str, str, str, Pairs]:
        """Method, target below `base`, digest of the body and headers, to be compared."""
        assert self.target.startswith(base), self.target
        headers = [pair for pair in self.headers if end_to_end_name(pair[0]) and pair[0] not in without]
        headers.sort(key=lambda pair: pair[0])  # stable: only what has one name has an order (RFC 9110, 5.3)
        return self.method, self.target[len(base) :], hashlib.sha256(self.body).hexdigest(), headers


def end_to_end_name(name: str) -> bool:
    return name not in FRAMING and name not in HOPS_OWN and not name.startswith("ratelimit")


class Line:
    """One end of a connection: exact bytes out, heads and bodies in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._chunked = False
        self._left: int | None = 0  # of the body; None: until the connection ends

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[str, Pairs] | None:
        """The first line and the headers, names in lower case; None where the other side has gone."""
        try:
            data = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        first, *lines = data.decode("latin-1").split("\r\n")[:-2]
        headers = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
        return first, headers

    def frame(self, headers: Pairs, *, bodiless: bool, ends_by_closing: bool) -> None:
        """How the body that follows is to be read."""
        found = dict(headers)
        self._chunked = "transfer-encoding" in found and not bodiless
        length = found.get("content-length")
        if bodiless:
            self._left = 0
        elif length is not None:
            self._left = int(length)
        else:
            self._left = None if ends_by_closing or self._chunked else 0

    async def piece(self) -> bytes:
        """Some bytes of the body as they come, b"" at its end."""
        if self._chunked:
            size = int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            if not size:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                    pass
                self._chunked, self._left = False, 0
                return b""
            data = await self.reader.readexactly(size + 2)
            return data[:-2]
        if self._left == 0:
            return b""
        data = await self.reader.read(65536 if self._left is None else self._left)
        assert data or self._left is None, "the connection ended in the middle of a body"
        if self._left is not None:
            self._left -= len(data)
        return data

    async def exactly(self, size: int) -> bytes:
        """`size` bytes of the body, however they come; not one more."""
        found = b""
        while len(found) < size:
            data = await self.piece()
            assert data, f"the body ended after {found!r}"
            found += data
        assert len(found) == size, f"more came than was sent: {found!r}"
        return found

    async def rest(self) -> bytes:
        parts = []
        while data := await self.piece():
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        self.writer.close()


def listening() -> socket.socket:
    """On a free port. The protocol is named, else asyncio leaves Nagle's algorithm on: small writes then wait 40 ms."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


Play: TypeAlias = "Callable[[Line], Awaitable[None]]"


@dataclass
class Upstream:
    """Listens on a free port from the start; serves while `serving` is entered (one event loop at a time)."""

    plays: dict[str, Play] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    listener: socket.socket = field(default_factory=listening)

    @property
    def port(self) -> int:
        found: int = self.listener.getsockname()[1]
        return found

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.requests.clear()
        open_lines: set[Line] = set()
        failures: list[BaseException] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = Line(reader, writer)
            open_lines.add(line)
            try:
                while (head := await line.head()) is not None and await self._answer(line, *head):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the other side went away: its test says so
            except AssertionError as error:
                failures.append(error)
            finally:
                open_lines.discard(line)
                line.close()

        server = await asyncio.start_server(connected, sock=self.listener.dup(), limit=2**20)
        try:
            yield
        finally:
            server.close()
            for line in list(open_lines):
                line.close()
            await asyncio.sleep(0)
        assert not failures, failures

    async def _answer(self, line: Line, first: str, headers: Pairs) -> bool:
        """Whether the connection goes on."""
        method, target, _ = first.split(" ")
        line.frame(headers, bodiless=False, ends_by_closing=False)
        play = self.plays[target.partition("?")[0]]
        if isinstance(play, Duplex):
            self.requests.append(Request(method, target, headers, b""))
            await play.speak(line)
            return False
        if dict(headers).get("expect") == "100-continue":
            await line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.requests.append(Request(method, target, headers, await line.rest()))
        await play(line)
        return b"close" not in dict(headers).get("connection", "").encode() and not isinstance(play, Closing)


@dataclass
class Duplex:
    """Speaks before it has read the request's body."""

    speak: Play

    async def __call__(self, line: Line) -> None:
        await self.speak(line)


@dataclass
class Closing:
    """Says these bytes and ends the connection."""

    data: bytes

    async def __call__(self, line: Line) -> None:
        await line.write(self.data)


def says(data: bytes) -> Play:
    """These bytes, and the connection stays."""

    async def play(line: Line) -> None:
        await line.write(data)

    return play


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(status: str, chunks: list[bytes], *headers: str, trailers: str = "") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Transfer-Encoding: chunked", "", ""]).encode("latin-1")
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + body + b"0\r\n" + trailers.encode() + b"\r\n"


def bare(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    line = Line(reader, writer)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield line
    finally:
        line.close()


def request(method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None) -> bytes:
    """The bytes of one request; with a body it says its length."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


async def head_of(line: Line, method: str) -> tuple[int, Pairs]:
    """The head of the final answer; the body is `line`'s to read."""
    while True:
        found = await line.head()
        assert found is not None, "no answer came"
        first, headers = found
        assert re.fullmatch(r"HTTP/1\.1 \d{3} .*", first), first
        status = int(first[9:12])
        if status >= 200:
            line.frame(headers, bodiless=method == "HEAD" or status in (204, 304), ends_by_closing=True)
            return status, headers


async def ask(port: int, data: bytes) -> Answer:
    """One request on a connection of its own, its answer in whole."""
    async with dialled(port) as line:
        await line.write(data)
        status, headers = await head_of(line, data.partition(b" ")[0].decode())
        return Answer(status, headers, await line.rest())
