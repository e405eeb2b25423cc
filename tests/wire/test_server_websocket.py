"""WebSockets through the front: the handshake that was scanned is the one that is answered."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.exchange import Head
from gateway.wire.handshake import fits, write_handshake
from tests.wire.front_rig import Listener, StillClock, Wire, listening, request

KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
HANDSHAKE = (
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket",
    b"Sec-WebSocket-Key: " + KEY,
    b"Sec-WebSocket-Version: 13",
)


class Sockets:
    """Accepts and echoes, or refuses; keeps the scopes it saw."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.ended: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        assert (await receive())["type"] == "websocket.connect"
        if scope["extensions"]["tollgate.head"].path == "/no":
            await send({"type": "websocket.http.response.start", "status": 403, "headers": [(b"x-why", b"no")]})
            await send({"type": "websocket.http.response.body", "body": b"denied"})
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.ended.append(message)


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def front(sockets: Sockets) -> Iterator[Listener]:
    with listening(sockets, exchanges=3) as found:
        yield found


def frame(payload: bytes, opcode: int = 1) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


def opened(wire: Wire, *lines: bytes, target: bytes = b"/ws?a=1") -> bytes:
    wire.send(request(b"GET", target, *HANDSHAKE, *lines))
    return wire.interim()


def echoed(wire: Wire) -> bytes:
    while len(wire.rest) < 2 or len(wire.rest) < 2 + wire.rest[1]:
        assert wire._more()
    found, wire.rest = wire.rest[2 : 2 + wire.rest[1]], wire.rest[2 + wire.rest[1] :]
    return found


def test_a_handshake_reaches_the_application_with_its_head(sockets: Sockets, front: Listener) -> None:
    with front.connect() as wire:
        answer = opened(
            wire, b"X-One: caf\xc3\xa9", b"X-Forwarded-For: 1.1.1.1", b"Sec-WebSocket-Protocol: a, b", b"X_Odd: 1"
        )
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: " + ACCEPT in answer
        wire.send(frame(b"hello") + frame(b"again"))
        assert (echoed(wire), echoed(wire)) == (b"hello", b"again")
    [scope] = sockets.scopes
    head: Head = scope["extensions"]["tollgate.head"]
    assert head.websocket
    assert head.target == "/ws?a=1"
    assert head.headers == (
        (b"host", b"gw.example"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
        (b"x-one", b"caf\xc3\xa9"),
        (b"sec-websocket-protocol", b"a, b"),
    )
    assert tuple(scope["headers"]) == head.headers
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "ws", ["a", "b"])
    assert "websocket.http.response" in scope["extensions"]
    front.until(lambda: bool(sockets.ended))
    front.until(lambda: not front.front.door.inside)


def test_a_handshake_can_be_refused_before_the_upgrade(sockets: Sockets, front: Listener) -> None:
    [answer] = front.ask(request(b"GET", b"/no", *HANDSHAKE))
    assert (answer.status, answer.body, answer.values(b"x-why")) == (403, b"denied", [b"no"])


def test_a_handshake_on_a_used_connection_is_the_one_that_was_sent(sockets: Sockets, front: Listener) -> None:
    with front.connect() as wire:
        wire.send(request())
        assert wire.read()
        assert opened(wire, target=b"/second").startswith(b"HTTP/1.1 101 ")
        assert sockets.scopes[-1]["extensions"]["tollgate.head"].path == "/second"


def test_a_handshake_cut_at_every_byte_is_the_same(sockets: Sockets, front: Listener) -> None:
    raw = request(b"GET", b"/ws", *HANDSHAKE)
    for at in range(1, len(raw)):
        with front.connect() as wire:
            wire.send(raw[:at])
            front.call(lambda: None)
            front.call(lambda: None)
            wire.send(raw[at:])
            assert wire.interim().startswith(b"HTTP/1.1 101 ")
            wire.send(frame(b"x"))
            assert echoed(wire) == b"x"
        front.until(lambda: not front.front.door.inside)


def test_bytes_behind_a_handshake_are_refused(sockets: Sockets, front: Listener) -> None:
    for rest in (frame(b"early"), request(b"GET", b"/smuggled")):
        with front.connect() as wire:
            wire.send(request(b"GET", b"/ws", *HANDSHAKE) + rest)
            assert [answer.status for answer in wire.all()] == [400]
    assert sockets.scopes == []


def test_a_handshake_the_library_could_not_read_is_refused(sockets: Sockets, front: Listener) -> None:
    for lines, target in (((b"X: " + b"y" * 8190,), b"/"), ((), b"/" + b"a" * 8185)):
        with front.connect() as wire:
            wire.send(request(b"GET", target, *HANDSHAKE, *lines))
            assert [answer.status for answer in wire.all()] == [431]
    assert sockets.scopes == []


def test_the_largest_handshakes_that_fit_are_read(sockets: Sockets) -> None:
    with listening(sockets, headers=126) as front:
        for lines, target in (
            ((b"X: " + b"y" * 8187,), b"/"),
            ((), b"/" + b"a" * 8176),
            (tuple(b"X-%d: y" % number for number in range(121)), b"/"),
        ):
            with front.connect() as wire:
                assert opened(wire, *lines, target=target).startswith(b"HTTP/1.1 101 ")


def test_what_fits_is_judged_by_the_librarys_own_limits() -> None:
    def head(*headers: tuple[bytes, bytes], target: str = "/") -> Head:
        return Head("GET", target, target, "", "a", "http", headers, "", True)

    assert fits(head((b"a", b"b" * 8187)))
    assert not fits(head((b"a", b"b" * 8188)))
    assert not fits(head(*[(b"a", b"b")] * 127))
    assert write_handshake(head((b"a", b"b"))).endswith(b"a: b\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")


@pytest.mark.parametrize(
    ("number", "line", "status"),
    [
        (2, b"X: y", 400),
        (2, b"Sec-WebSocket-Key: x", 400),
        (3, b"Sec-WebSocket-Version: 12", 400),
        (0, b"Connection: x(", 400),
    ],
)
def test_half_a_handshake_never_reaches_the_application(
    sockets: Sockets, front: Listener, number: int, line: bytes, status: int
) -> None:
    lines = list(HANDSHAKE)
    lines[number] = line
    [answer] = front.ask(request(b"GET", b"/ws", *lines))
    assert answer.status == status
    assert sockets.scopes == []


def test_an_upgrade_to_anything_else_is_a_plain_request(sockets: Sockets, front: Listener) -> None:
    lines = (b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    [answer] = front.ask(request(b"GET", b"/", *lines))
    assert answer.status == 200
    [scope] = sockets.scopes
    assert scope["type"] == "http"
    assert scope["extensions"]["tollgate.head"].headers == ((b"host", b"gw.example"),)


def test_an_open_websocket_is_an_exchange_and_is_counted(sockets: Sockets, front: Listener) -> None:
    wires = [front.connect() for _ in range(3)]
    for wire in wires:
        assert opened(wire).startswith(b"HTTP/1.1 101 ")
    with front.connect() as wire:
        wire.send(request(b"GET", b"/ws", *HANDSHAKE))
        assert [answer.status for answer in wire.all()] == [503]
    wires[0].sock.close()
    front.until(lambda: front.front.exchanges == 2)
    assert len(front.front.door.inside) == 2
    with front.connect() as wire:
        assert opened(wire).startswith(b"HTTP/1.1 101 ")
    for wire in wires:
        wire.sock.close()


def test_a_message_over_the_limit_closes_the_socket(sockets: Sockets) -> None:
    with listening(sockets) as front, front.connect() as wire:
        assert opened(wire).startswith(b"HTTP/1.1 101 ")
        wire.send(bytes([0x81, 0xFF]) + (5 * 1024 * 1024).to_bytes(8) + b"\0\0\0\0")
        while wire._more():
            pass
        assert wire.rest[0] == 0x88
        assert int.from_bytes(wire.rest[2:4]) == 1009


def test_a_closing_websocket_whose_peer_does_not_read_is_dropped(sockets: Sockets) -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * 20_000_000})

    with listening(large, clock=StillClock(), body_timeout=60) as front, front.connect() as wire:
        assert opened(wire).startswith(b"HTTP/1.1 101 ")
        front.until(lambda: any(guest.transport.is_closing() for guest in front.front.door.inside))
        front.move(1)
        assert len(front.front.door.inside) == 1
        front.move(61)
        front.until(lambda: not front.front.door.inside)


def test_an_open_websocket_stays_however_long_it_is_silent(sockets: Sockets) -> None:
    with listening(sockets, clock=StillClock()) as front, front.connect() as wire:
        assert opened(wire).startswith(b"HTTP/1.1 101 ")
        front.move(100_000)
        wire.send(frame(b"still here"))
        assert echoed(wire) == b"still here"


def test_an_application_that_never_waits_still_learns_that_its_client_left() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 100})

    with listening(endless) as front:
        for _ in range(20):
            with front.connect() as wire:
                assert opened(wire).startswith(b"HTTP/1.1 101 ")
        front.until(lambda: not front.front.exchanges and not front.front.door.inside)
