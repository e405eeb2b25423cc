"""One request and its response, as ASGI sees them. The framing of the response is decided here and nowhere else.

1. What the application says of Transfer-Encoding and of the connection is not passed on; its Content-Length is held to
the byte, and without one the body is chunked (to HTTP/1.0: ended by closing). 2. No header byte leaves unchecked.
3. HEAD, 204 and 304 have no body whatever the application sends. 4. `send` waits while the client does not read.
5. A client that goes away cancels the task, unless the application left word in the scope (`LEFT`) that it goes on:
then what it sends is dropped. 6. A body that turns out wrong is told through `receive` as a disconnect with the refusal
beside it; if the application answers nothing, the front does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from typing import Protocol as Port
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.core.reasons import Refusal
from gateway.wire.forwarded import Peer
from gateway.wire.front_answer import CONTINUE, STATUS_LINES
from gateway.wire.head import Scanned
from gateway.wire.lines import OURS, HeaderLines

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LEFT = "tollgate.left"  # in the scope: asked when the client is gone; True: the task goes on
HIGH_WATER_BYTES = 65536  # of request body that waits for the application before reading pauses

_log = logging.getLogger("tollgate.front")

_ASGI = {"version": "3.0", "spec_version": "2.3"}


def http_scope(
    scanned: Scanned, peer: Peer, server: tuple[str, int | None] | None, client: tuple[str, int] | None
) -> dict[str, Any]:
    """The ASGI scope of a scanned request. `path` is decoded, for the admin plane; the data plane reads the Head."""
    head = scanned.head
    path = head.path
    if peer.trusted and head.peer != peer.address:
        client = (head.peer, 0)
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.0" if scanned.http10 else "1.1",
        "server": server,
        "client": client,
        "scheme": head.scheme,
        "method": head.method,
        "root_path": "",
        "path": unquote(path) if "%" in path else path,
        "raw_path": path.encode(),
        "query_string": head.query.encode(),
        "headers": head.headers,
        "extensions": {"tollgate.head": head, "tollgate.chunked": scanned.length < 0},
    }


class Line(Port):
    """The connection, as its current cycle needs it."""

    lines: HeaderLines

    def date(self) -> bytes:
        """The Date line of this second."""
        ...

    def responded(self, cycle: Cycle) -> None:
        """The response is complete."""
        ...

    def abandoned(self, cycle: Cycle) -> None:
        """The application ended without completing a response."""
        ...


class Cycle:
    """Owned by its task and its connection. `gone`: nobody is there to be answered."""

    __slots__ = (
        "_begun",
        "_bodiless",
        "_chunked",
        "_declared",
        "_delivered",
        "_flow",
        "_http10",
        "_left",
        "_line",
        "_transport",
        "_waiter",
        "answered",
        "chunks",
        "complete",
        "expects",
        "gone",
        "held",
        "keep_alive",
        "refusal",
        "scope",
        "started",
        "task",
    )  # fmt: skip

    def __init__(
        self, line: Line, transport: asyncio.Transport, flow: FlowControl, scope: MutableMapping[str, Any], *,
        keep_alive: bool, expects: bool, http10: bool,
    ) -> None:  # fmt: skip
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects = expects  # a 100 is owed
        self.task: asyncio.Task[None] | None = None
        self.chunks: list[bytes] = []  # of the request's body, not yet received by the application
        self.held = 0  # bytes in them
        self.complete = False  # the request's body is all here
        self.refusal: Refusal | None = None
        self.gone = False
        self.started = False  # the response's head is out
        self.answered = False  # the response is out
        self._line = line
        self._transport = transport
        self._flow = flow
        self._waiter: asyncio.Future[None] | None = None
        self._begun = False
        self._delivered = False
        self._http10 = http10
        self._bodiless = False
        self._chunked = False
        self._declared = False
        self._left = 0

    @property
    def ends_by_closing(self) -> bool:
        """Whether only the end of the connection tells the end of the response."""
        return not (self._declared or self._chunked or self._bodiless)

    def fed(self, complete: bool) -> None:
        """The connection has put bytes into `chunks`, or the body has ended."""
        self.complete = complete
        self._wake()

    def refuse(self, refusal: Refusal) -> None:
        """The rest of the body cannot be had (6)."""
        self.refusal = refusal
        self.keep_alive = False
        self._wake()

    def lose(self) -> None:
        """The client is gone (5)."""
        self.gone = True
        self._wake()
        if self.task is not None and self._begun and not self.answered:
            goes_on = self.scope.get(LEFT)
            if goes_on is not None and goes_on():
                return
            self.task.cancel()  # a task cancelled before its first step would never come to its end in `run`

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run(self, app: Application, running: set[asyncio.Task[None]]) -> None:
        """The whole task. `running` is told when it ends."""
        self._begun = True
        try:
            if not self.gone:
                await app(self.scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 (the task's outermost frame: the application's fault is answered, not lost)
            _log.exception("the application failed")
        finally:
            if self.task is not None:
                running.discard(self.task)
                self.task = None
            if not self.answered:
                self._line.abandoned(self)

    async def receive(self) -> Message:
        if self.expects and not self.started and not self.gone:
            self.expects = False
            self._transport.write(CONTINUE)
        while not self.chunks and not self.gone and not self.answered and self.refusal is None:
            if self.complete and not self._delivered:
                break
            self._flow.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        if self.gone or self.answered or self.refusal is not None:
            return {"type": "http.disconnect", "refusal": self.refusal}
        body = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self.held = 0
        self._delivered = self.complete
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        if self._flow.write_paused and not self.gone:
            await self._flow.drain()  # 4
        if self.gone or self._transport.is_closing():
            await asyncio.sleep(0)  # what is written now is dropped and never waits: the loop must get to tell its loss
            return
        if not self.started:
            self._start(message)
        elif not self.answered:
            self._body(message)
        else:
            raise RuntimeError(f"{message['type']} after the response was complete")

    def _start(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"http.response.start is expected, not {message['type']}")
        status: int = message["status"]
        dated, known, lines = False, self._line.lines, [STATUS_LINES[status]]
        self._bodiless = self.scope["method"] == "HEAD" or status in (204, 304)  # 3
        for header in message.get("headers", ()):
            line = known.line(header)  # 2
            if line is not None:
                lines.append(line)
                continue
            name, value = header[0].lower(), header[1]
            if name in OURS:
                if name == b"connection" and b"close" in value.lower():
                    self.keep_alive = False
                continue
            if name == b"date":
                dated = True
                lines.append(known.date(value))
            elif self._declare(value) and status != 204:
                lines.append(b"content-length: " + value + b"\r\n")  # digits, as `_declare` found
        if not dated:
            lines.append(self._line.date())  # RFC 9110 section 6.6.1
        if not self._declared and not self._bodiless:
            if self._http10:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if self.expects and not self.complete:
            self.keep_alive = False  # without its 100 the client may send the body or not: what follows is ambiguous
        self.started = True
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        block = b"".join(lines)
        whole: bytes | None = message.get("whole")
        if whole is None:
            self._transport.write(block)
        else:
            self._write(block, whole, more=False)  # one message, one write, one packet

    def _declare(self, value: bytes) -> bool:
        """Notes the length of the response's body (1); False for a second saying of the same."""
        if not value.isdigit():
            raise RuntimeError("the response's Content-Length is no number")
        length = int(value)
        if self._declared:
            if length != self._left:
                raise RuntimeError("the response has two Content-Lengths")
            return False
        self._declared = True
        self._left = length
        return True

    def _body(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"http.response.body is expected, not {message['type']}")
        self._write(b"", message.get("body", b""), more=message.get("more_body", False))

    def _write(self, head: bytes, body: bytes, *, more: bool) -> None:
        if self._bodiless:
            if head:
                self._transport.write(head)
        elif self._chunked:
            if body:
                end = b"\r\n" if more else b"\r\n0\r\n\r\n"
                self._transport.writelines((head + b"%x\r\n" % len(body), body, end))
            elif not more:
                self._transport.write(head + b"0\r\n\r\n")
        elif body:
            if self._declared:
                self._left -= len(body)
                if self._left < 0:
                    raise RuntimeError("the response's body is longer than its Content-Length")
            self._transport.write(head + body if head else body)
        elif head:
            self._transport.write(head)
        if not more:
            if self._declared and self._left and not self._bodiless:
                raise RuntimeError("the response's body is shorter than its Content-Length")
            self.answered = True
            self._wake()
            self._line.responded(self)
