"""A real front on a free port with a recording application behind it, and a raw-socket client that adds nothing.

The server runs on its own loop in a thread; tests stay plain functions that send bytes and read bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvloop

from gateway.core.exchange import Head
from gateway.core.reasons import Refusal
from gateway.wire.server import Front, FrontLimits

HOST = "127.0.0.1"
PATIENCE_SECONDS = 10.0
App = Callable[[Any, Any, Any], Awaitable[None]]


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class StillClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Seen:
    """One request as the application saw it. `ended`: `whole`, `gone` or, after the front's refusal, `refused`."""

    head: Head
    scope: dict[str, Any]
    body: bytes = b""
    ended: str = ""
    refusal: Refusal | None = None


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@dataclass(repr=False, eq=False)
class Listener:
    front: Front
    loop: asyncio.AbstractEventLoop
    clock: Any
    seen: list[Seen] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.front.port

    def call(self, function: Callable[[], Any]) -> Any:
        """Runs it on the server's loop and waits for its result."""

        async def on_loop() -> Any:
            found = function()
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(on_loop(), self.loop).result(PATIENCE_SECONDS * 3)

    def move(self, seconds: float) -> None:
        """Lets time pass and looks at the deadlines."""
        self.clock.now += seconds
        self.call(self.front.door.sweep)

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for something the server does in its own time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while not self.call(lambda: true()):
            assert time.monotonic() < deadline, "it did not happen"
            pause.wait(0.002)  # to ask without a break would take the server's own processor away

    def connect(self, tls: ssl.SSLContext | None = None, source: str | None = None) -> Wire:
        origin = (source, 0) if source is not None else None
        raw = socket.create_connection((HOST, self.port), PATIENCE_SECONDS, origin)
        wire = Wire(raw)
        self.wires.append(wire)  # closed with the listener, whatever becomes of the test
        if tls is not None:
            wire.sock = tls.wrap_socket(raw, server_hostname="localhost")
        return wire

    def narrow(self) -> Wire:
        """A connection whose kernel buffers are small, so that what a client does not read is felt at once."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect((HOST, self.port))
        wire = Wire(sock)
        self.wires.append(wire)
        self.until(lambda: bool(self.front.door.inside))
        for guest in self.front.door.inside:
            ours = guest.transport.get_extra_info("socket")  # type: ignore[attr-defined]
            self.call(lambda: ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192))  # noqa: B023
        return wire

    def ask(self, *pieces: bytes) -> list[Answer]:
        """Sends the pieces and returns every answer until the server closes. For requests that end in a close."""
        with self.connect() as wire:
            for piece in pieces:
                wire.send(piece)
            return wire.all()

    def refused(self, *pieces: bytes) -> Answer:
        """Sends what must be refused: exactly one answer, which closes, and nothing reached the application."""
        before = len(self.seen)
        answers = self.ask(*pieces)
        assert len(answers) == 1, answers
        answer = answers[0]
        assert answer.values(b"connection") == [b"close"]
        assert answer.values(b"content-type") == [b"application/problem+json"]
        assert len(answer.values(b"proxy-status")) == 1
        assert self.seen[before:] == []
        return answer


class Wire:
    """A client's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_SECONDS)
        self.rest = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server may have said its no already
            self.sock.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return False
        self.rest += data
        return bool(data)

    def closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        assert not self.rest, self.rest
        return not self._more()

    def interim(self) -> bytes:
        """One 1xx answer."""
        while b"\r\n\r\n" not in self.rest:
            assert self._more(), self.rest
        found, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return found

    def read(self, *, head: bool = False) -> Answer | None:
        """The next answer, None at the end of the connection."""
        while b"\r\n\r\n" not in self.rest:
            if not self._more():
                assert not self.rest, f"a torn answer: {self.rest!r}"
                return None
        block, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = block.split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), first
        pairs = [line.split(b": ", 1) for line in lines]
        answer = Answer(int(first[9:12]), [(name.lower(), value) for name, value in pairs], b"")
        if head or answer.status in (204, 304):
            return answer
        if answer.values(b"transfer-encoding"):
            answer.body = self._chunks()
        elif answer.values(b"content-length"):
            length = int(answer.values(b"content-length")[0])
            while len(self.rest) < length:
                assert self._more(), "a torn body"
            answer.body, self.rest = self.rest[:length], self.rest[length:]
        else:
            while self._more():
                pass
            answer.body, self.rest = self.rest, b""
        return answer

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.rest:
                assert self._more(), "a torn body"
            size, _, rest = self.rest.partition(b"\r\n")
            length = int(size, 16)
            while len(rest) < length + 2:
                assert self._more(), "a torn body"
                _, _, rest = self.rest.partition(b"\r\n")
            body += rest[:length]
            self.rest = rest[length + 2 :]
            if not length:
                return body

    def all(self) -> list[Answer]:
        found = []
        while (answer := self.read()) is not None:
            found.append(answer)
        return found


def recording(seen: list[Seen]) -> App:
    """Reads each request to its end and answers 200 with what it read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = Seen(scope["extensions"]["tollgate.head"], scope)
        seen.append(found)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                found.refusal = message["refusal"]
                found.ended = "gone" if found.refusal is None else "refused"
                return
            found.body += message["body"]
            more = message["more_body"]
        found.ended = "whole"
        headers = [(b"content-length", str(len(found.body)).encode()), (b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})

    return app


@contextlib.contextmanager
def listening(
    app: App | None = None, *, clock: Any = None, tls: ssl.SSLContext | None = None, **limits: Any
) -> Iterator[Listener]:
    """A running front; at the end it is drained, and nothing may be left behind."""
    ready: list[Listener] = []
    started = threading.Event()
    faults: list[BaseException] = []
    seen: list[Seen] = []
    stop_on_loop: list[Callable[[], Any]] = []
    held = clock or RealClock()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        bad: list[tuple[str, str]] = []

        class Events:
            def bad_bytes(self, peer: str, reason: str) -> None:
                bad.append((peer, reason))

        front = Front(
            app or recording(seen),
            host=HOST,
            port=0,
            limits=FrontLimits(**limits),
            events=Events(),
            clock=held,
            tls=tls,
        )
        await front.start()
        ready.append(Listener(front, loop, held, seen, bad))
        stop_on_loop.append(lambda: loop.call_soon_threadsafe(asked.set))
        started.set()
        await asked.wait()
        await front.drain(0.2)

    def thread() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
            faults.append(error)
        finally:
            started.set()

    running = threading.Thread(target=thread, daemon=True)
    running.start()
    assert started.wait(PATIENCE_SECONDS)
    if faults:
        raise faults[0]
    try:
        yield ready[0]
    finally:
        for wire in ready[0].wires:
            wire.sock.close()
        stop_on_loop[0]()
        running.join(PATIENCE_SECONDS * 2)
    if faults:
        raise faults[0]
    assert not running.is_alive(), "the front did not drain"
    assert not ready[0].front.door.inside, "a connection was left behind"
    assert not ready[0].front.exchanges, "a task was left behind"


def request(
    method: bytes = b"GET", target: bytes = b"/", *lines: bytes, host: bytes = b"gw.example", body: bytes = b""
) -> bytes:
    """A request with exactly these header lines behind Host."""
    head = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, *lines, b"", b""]
    return b"\r\n".join(head) + body
