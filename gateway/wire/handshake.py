"""The way from the front to uvicorn's WebSocket protocol, with the very head that was scanned.

The rule: the WebSocket library re-reads a handshake, so it is given one written from the canonical Head, and what it
made of it is compared before an application sees it. The scope carries the Head, its headers and its peer; the
connection stays counted and under the door's deadlines until it is lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from gateway.core.exchange import Head, Header
from gateway.wire.door import NEVER, Door

if TYPE_CHECKING:
    from gateway.wire.connection import FrontProtocol

LINE_BYTES = 8190  # what the library takes in one line, without its end
MAX_FIELDS = 126  # what it takes in all, without Connection and Upgrade

_UPGRADE = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))


def fits(head: Head) -> bool:
    """Whether the library's own limits let this handshake through."""
    longest = max((len(name) + len(value) + 2 for name, value in head.headers), default=0)
    return len(head.headers) <= MAX_FIELDS and longest <= LINE_BYTES and len(head.target) + 13 <= LINE_BYTES


def write_handshake(head: Head) -> bytes:
    lines = [b"GET " + head.target.encode("ascii") + b" HTTP/1.1\r\n"]
    lines += [b"%b: %b\r\n" % item for item in (*head.headers, *_UPGRADE)]
    lines.append(b"\r\n")
    return b"".join(lines)


class FrontWebSocket(WebSocketsSansIOProtocol):
    """Takes a connection over from the front."""

    door: Door
    head: Head
    peer_key: str
    read_deadline: float  # always due: at each sweep it is looked whether the connection is closing
    write_deadline: float
    closing_since: float

    def take_over(self, front: FrontProtocol, head: Head) -> None:
        self.door = front.door
        self.head = head
        self.peer_key = front.peer_key
        self.read_deadline = 0.0
        self.write_deadline = NEVER
        self.closing_since = 0.0
        self.door.inside.add(self)
        self.door.leave(front)
        front.transport.set_protocol(self)
        self.connection_made(front.transport)
        self.data_received(write_handshake(head))

    def handle_connect(self, event: Request) -> None:
        if event.path != self.head.target or _fields(event) != [*self.head.headers, *_UPGRADE]:
            raise RuntimeError("the WebSocket library read another handshake than was scanned")
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["headers"] = list(self.head.headers)
            self.scope["extensions"] = {"websocket.http.response": {}, "tollgate.head": self.head}  # type: ignore[dict-item]
            self.scope["scheme"] = "wss" if self.head.scheme == "https" else "ws"
            if self.client is not None and self.head.peer != self.client[0]:
                self.scope["client"] = (self.head.peer, 0)

    async def send(self, message: ASGISendEvent) -> None:
        if self.transport.is_closing():
            await asyncio.sleep(0)  # as in cycle.py: the loop must get to tell the loss
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # answered: a refusal is no fault, which is what the library would log

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        if self.handshake_complete and self.conn.close_rcvd is None:  # uvicorn says 1005, as if there had been a frame
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)

    def read_expired(self, now: float) -> None:
        """A peer that does not read would hold a closing connection for ever."""
        if not self.transport.is_closing():
            return
        if not self.closing_since:
            self.closing_since = now
        elif now - self.closing_since > self.door.limits.body_timeout:
            self.transport.abort()

    def write_expired(self, now: float) -> None:
        """Pings find a reader that has stopped."""

    def give_way(self, reason: str) -> None:
        if not self.transport.is_closing():
            self.shutdown()

    def abort(self) -> None:
        self.transport.abort()


def _fields(event: Request) -> list[Header]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in event.headers.raw_items()]
