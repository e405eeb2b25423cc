"""WebSockets through the gateway's two halves: a real server in front (uvicorn), a real or a faulty upstream behind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import uvicorn
import websockets.asyncio.client as ws_client
import websockets.asyncio.server as ws_server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.wire.relay import Answer, Close, Ended, Forward, Tally, Verdict, WebSockets
from gateway.wire.websocket import Closed, Declined, UpstreamSocket
from tests.wire.faulty import HOST, Peer, Server, answer, run, until, upstream

LIMIT = 200_000


async def allow(message: str | bytes) -> Verdict:
    return Forward()


class Door:
    """An ASGI application that does what the gateway does with an allowed WebSocket."""

    def __init__(self, target: Upstream, *, tick: float = 0.02, ping: float = 20.0, limit: int = LIMIT) -> None:
        self.target = target
        self.sockets = WebSockets(lambda _: None, max_message_bytes=limit, tick_seconds=tick, ping_seconds=ping)
        self.up: Callable[[str | bytes], Awaitable[Verdict]] = allow
        self.down: Callable[[str | bytes], Awaitable[Verdict]] = allow
        self.alive = True
        self.asked = 0
        self.headers: list[Header] = []
        self.idle: float | None = None
        self.tally = Tally()
        self.ended: list[Ended | BaseException] = []

    def barred(self) -> str:
        self.asked += 1
        return "" if self.alive else "the right to it is gone"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            found = await self.sockets.connect(self.target, "/ws?a=%2F", [*HOST, *self.headers], scope["subprotocols"])
        except UpstreamFailed as failure:
            await self._refuse(send, 502, failure.error.encode())
            return
        if isinstance(found, Declined):
            await self._refuse(send, found.status, found.body)
            return
        try:
            self.ended.append(
                await self.sockets.relay(
                    receive,
                    send,
                    found,
                    headers=found.headers,
                    on_client_message=self.up,
                    on_upstream_message=self.down,
                    barred=self.barred,
                    tally=self.tally,
                    idle_seconds=self.idle,
                )
            )
        except BaseException as error:
            self.ended.append(error)
            raise

    @staticmethod
    async def _refuse(send: Any, status: int, body: bytes) -> None:
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(door: Door) -> AsyncIterator[str]:
    """The door behind uvicorn on a free port, and its ws:// address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            door,
            ws="websockets-sansio",
            http="httptools",
            lifespan="off",
            log_level="critical",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving
            assert len(door.sockets) == 0


Handler = Callable[[ws_server.ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def joined(handler: Handler, **options: Any) -> AsyncIterator[tuple[Door, str]]:
    """A real WebSocket server behind, the door in front."""
    server_options = {key: options.pop(key) for key in ("subprotocols", "process_request") if key in options}
    async with ws_server.serve(handler, "127.0.0.1", 0, max_size=None, **server_options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        door = Door(upstream(port), **options)
        async with served(door) as address:
            yield door, address


async def echo(connection: ws_server.ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def opening(address: str, **options: Any) -> ws_client.connect:
    return ws_client.connect(address, max_size=None, compression=options.pop("compression", None), **options)


def test_messages_pass_both_ways_in_order_and_keep_their_kind() -> None:
    async def story() -> None:
        async with joined(echo) as (door, address):
            async with opening(address) as client:
                sent: list[str | bytes] = ["text", b"bytes", "", b"", "ünï✓", b"\0\xff" * 1000, "x" * 100_000]
                for message in sent:
                    await client.send(message)
                assert [await client.recv() for _ in sent] == sent
            await until(lambda: bool(door.ended))
            assert door.ended == [Ended("client", 1000, "")]
            size = sum(len(item.encode() if isinstance(item, str) else item) for item in sent)
            assert door.tally == Tally(len(sent), size, len(sent), size)

    run(story)


def test_a_fragmented_message_is_one_message() -> None:
    async def story() -> None:
        async with joined(echo) as (_, address), opening(address) as client:
            await client.send(["one ", "two ", "three"])
            assert await client.recv() == "one two three"
            await client.send([b"1", b"2"])
            assert await client.recv() == b"12"

    run(story)


def test_the_upstream_sees_the_given_head_and_no_extension() -> None:
    async def story() -> None:
        heads: list[bytes] = []

        async def play(peer: Peer) -> None:
            heads.append(await peer.head())
            await peer.send(answer(b"", status=b"403 Forbidden"))

        async with Server(play) as server:
            door = Door(server.upstream())
            door.headers = [
                (b"x-a", b"1"),
                (b"sec-websocket-extensions", b"permessage-deflate"),
                (b"sec-websocket-key", b"k"),
            ]
            async with served(door) as address:
                with pytest.raises(InvalidStatus):
                    async with opening(address, compression="deflate", subprotocols=["a", "b"]):
                        pass
            lines = heads[0].split(b"\r\n")
            key = lines.pop(lines.index(b"sec-websocket-version: 13") + 1)
            assert len(base64.b64decode(key.removeprefix(b"sec-websocket-key: "))) == 16
            assert lines == [
                b"GET /ws?a=%2F HTTP/1.1",
                b"host: upstream.test",
                b"x-a: 1",
                b"sec-websocket-protocol: a, b",
                b"connection: Upgrade",
                b"upgrade: websocket",
                b"sec-websocket-version: 13",
                b"",
                b"",
            ]

    run(story)


def test_the_upstreams_choice_of_subprotocol_reaches_the_caller() -> None:
    async def story() -> None:
        offered = ["other", "mcp"]
        async with joined(echo, subprotocols=["mcp"]) as (_, address), opening(address, subprotocols=offered) as client:
            assert client.subprotocol == "mcp"
        async with joined(echo) as (_, address), opening(address) as client:
            assert client.subprotocol is None

    run(story)


def test_what_the_upstream_declines_the_caller_gets_before_any_upgrade() -> None:
    async def story() -> None:
        def decline(connection: ws_server.ServerConnection, _: object) -> Any:
            return connection.respond(418, "short and stout")

        async with joined(echo, process_request=decline) as (_, address):
            with pytest.raises(InvalidStatus) as refused:
                async with opening(address):
                    pass
            assert refused.value.response.status_code == 418
            assert refused.value.response.body == b"short and stout"

    run(story)


def _handshake(head: bytes, *extra: bytes, accept: bytes | None = None, upgrade: bytes = b"websocket") -> bytes:
    key = next(line[19:] for line in head.split(b"\r\n") if line.startswith(b"sec-websocket-key: "))
    good = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: " + upgrade,
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + (accept or good),
        *extra,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _opened(server: Server, subprotocols: Sequence[str] = (), **times: float) -> UpstreamSocket | Declined:
    sockets = WebSockets(lambda _: None, max_message_bytes=LIMIT)
    return await sockets.connect(server.upstream(**times), "/", HOST, subprotocols)


@pytest.mark.parametrize(
    ("wrong", "extra"),
    [
        ({"accept": b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, []),
        ({"upgrade": b"h2c"}, []),
        ({}, [b"Sec-WebSocket-Extensions: permessage-deflate"]),
        ({}, [b"Sec-WebSocket-Protocol: never-offered"]),
        ({}, [b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: a"]),
        ({}, [b"Sec-WebSocket-Accept: second"]),
        ({}, [b"X: a\0b"]),
        ({}, [b"X: a\nY: b"]),
    ],
    ids=str,
)
def test_a_handshake_that_is_not_one_is_refused(wrong: dict[str, bytes], extra: list[bytes]) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.send(_handshake(await peer.head(), *extra, **wrong))
            await peer.gone()

        async with Server(play) as server:
            with pytest.raises(UpstreamFailed):
                await _opened(server, ["a"])
            await until(lambda: server.open == 0)

    run(story)


def test_an_upstream_that_answers_the_handshake_with_nothing_is_late_or_gone() -> None:
    async def story() -> None:
        async def hang(peer: Peer) -> None:
            await peer.gone()

        async def close(peer: Peer) -> None:
            await peer.head()

        async with Server(hang) as server:
            with pytest.raises(UpstreamFailed) as failure:
                await _opened(server, response=0.1)
            assert (failure.value.error, failure.value.timeout) == ("http_response_timeout", True)
            await until(lambda: server.open == 0)
        async with Server(close) as server:
            with pytest.raises(UpstreamFailed) as failure:
                await _opened(server)
            assert failure.value.error == "connection_terminated"

    run(story)


def test_a_cancelled_handshake_closes_its_connection() -> None:
    async def story() -> None:
        asked = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.head()
            asked.set()
            await peer.gone()

        async with Server(play) as server:
            call = asyncio.create_task(_opened(server))
            await asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: server.open == 0)

    run(story)


def test_frames_in_the_packet_of_the_handshake_are_not_lost() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            frames = Frame(Opcode.TEXT, b"first").serialize(mask=False) + Frame(Opcode.PING, b"p").serialize(mask=False)
            await peer.send(_handshake(await peer.head(), b"Set-Cookie: a=b") + frames)
            assert (await peer.reader.readexactly(2))[0] == 0x8A  # the pong
            await peer.gone()

        async with Server(play) as server:
            found = await _opened(server)
            assert isinstance(found, UpstreamSocket)
            assert found.headers == [(b"set-cookie", b"a=b")]
            assert await found.receive() == "first"
            found.abort()

    run(story)


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (3000, "own"), (4999, "x" * 120)])
def test_close_codes_pass_from_caller_to_upstream(code: int, reason: str) -> None:
    async def story() -> None:
        seen: list[tuple[int | None, str | None]] = []

        async def handler(connection: ws_server.ServerConnection) -> None:
            await connection.wait_closed()
            seen.append((connection.close_code, connection.close_reason))

        async with joined(handler) as (_, address):
            async with opening(address) as client:
                await client.close(code, reason)
            await until(lambda: bool(seen))
            assert seen == [(code, reason)]

    run(story)


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1008, "no"), (1013, "later"), (4000, "own")])
def test_close_codes_pass_from_upstream_to_caller(code: int, reason: str) -> None:
    async def story() -> None:
        async def handler(connection: ws_server.ServerConnection) -> None:
            await connection.send("last words")
            await connection.close(code, reason)

        async with joined(handler) as (door, address):
            async with opening(address) as client:
                assert await client.recv() == "last words"
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (code, reason)
            assert door.ended == [Ended("upstream", code, reason)]

    run(story)


def test_an_upstream_that_vanishes_is_told_as_a_bad_gateway() -> None:
    async def story() -> None:
        async def handler(connection: ws_server.ServerConnection) -> None:
            connection.transport.abort()
            await connection.wait_closed()

        async with joined(handler) as (door, address):
            async with opening(address) as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1014
            assert door.ended == [Ended("upstream", 1006, "")]

    run(story)


def test_a_caller_that_vanishes_is_noticed_by_the_upstream() -> None:
    async def story() -> None:
        seen: list[int | None] = []

        async def handler(connection: ws_server.ServerConnection) -> None:
            await connection.wait_closed()
            seen.append(connection.close_code)

        async with joined(handler) as (door, address):
            async with opening(address) as client:
                client.transport.abort()
                await until(lambda: bool(seen))
            assert isinstance(door.ended[0], Ended)
            assert door.ended[0].by == "client"

    run(story)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x81\x86\x00\x00\x00\x00masked",
        b"\xc1\x00",
        b"\x83\x00",
        b"\x89\x7e\x00\xff" + b"x" * 255,
        Frame(Opcode.TEXT, b"\xff").serialize(mask=False),
        Frame(Opcode.CONT, b"x").serialize(mask=False),
        b"\x88\x02\x03\xed",
        Frame(Opcode.TEXT, b"a", fin=False).serialize(mask=False) + Frame(Opcode.TEXT, b"b").serialize(mask=False),
        b"\x81\x7f" + (LIMIT + 1).to_bytes(8, "big"),
        b"\x01\x7e\xff\xff" + b"x" * 65535 + b"\x80\x7f" + LIMIT.to_bytes(8, "big"),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_an_upstream_that_breaks_the_protocol_or_a_limit_loses_the_socket(bad: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.send(_handshake(await peer.head()) + bad)
            await peer.gone()

        async with Server(play) as server:
            door = Door(server.upstream())
            async with served(door) as address, opening(address) as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1014
            await until(lambda: server.open == 0)  # within CLOSE_SECONDS, although the upstream does nothing

    run(story)


def test_a_judge_forwards_answers_in_place_or_closes() -> None:
    async def story() -> None:
        got: list[str | bytes] = []

        async def handler(connection: ws_server.ServerConnection) -> None:
            async for message in connection:
                got.append(message)
                await connection.send(message)

        async def up(message: str | bytes) -> Verdict:
            if message == "denied":
                return Answer("no")
            return Close(1008, "not this" + "é" * 200) if message == "fatal" else Forward()

        async def down(message: str | bytes) -> Verdict:
            return Answer("judged") if message == "secret" else Forward()

        async with joined(handler) as (door, address):
            door.up, door.down = up, down
            async with opening(address) as client:
                for message in ("one", "denied", "secret", "two"):
                    await client.send(message)
                assert sorted([await client.recv() for _ in range(3)]) == ["no", "one", "two"]
                assert "denied" not in got
                await client.send("fatal")
                await client.wait_closed()
                assert (client.close_code, client.close_reason) == (1008, "not this" + "é" * 57)  # what a frame holds
            await until(lambda: bool(door.ended))
            assert "fatal" not in got
            assert isinstance(door.ended[0], Ended)
            assert (door.ended[0].by, door.ended[0].code) == ("gateway", 1008)
            assert "judged" in got  # the upstream was answered in the caller's stead
            assert door.tally.to_upstream == 3

    run(story)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("broken", ["raises", "none"])
def test_a_judge_that_fails_forwards_nothing_and_ends_both(direction: str, broken: str) -> None:
    async def story() -> None:
        seen: list[int | None] = []

        async def handler(connection: ws_server.ServerConnection) -> None:
            if direction == "down":
                await connection.send("greeting")
            with contextlib.suppress(ConnectionClosed):
                assert await connection.recv() == "never"
            await connection.wait_closed()
            seen.append(connection.close_code)

        async def judge(message: str | bytes) -> Any:
            if broken == "raises":
                raise ValueError("broken")

        async with joined(handler) as (door, address):
            setattr(door, direction, judge)
            async with opening(address) as client:
                if direction == "up":
                    await client.send("hello")
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1011
            await until(lambda: bool(seen))
            assert seen == [1011]
            assert isinstance(door.ended[0], ValueError | TypeError)

    run(story)


def test_a_revocation_reaches_an_idle_socket_and_one_that_moves() -> None:
    async def story() -> None:
        for moving in (False, True):
            async with joined(echo, tick=0.02 if not moving else 60.0) as (door, address):
                async with opening(address) as client:
                    await client.send("a")
                    assert await client.recv() == "a"
                    door.alive = False
                    if moving:
                        await client.send("b")
                    with pytest.raises(ConnectionClosed):
                        await client.recv()
                    assert (client.close_code, client.close_reason) == (1008, "the right to it is gone")
                await until(lambda: bool(door.ended))
                assert door.tally.to_upstream == 1

    run(story)


def test_one_timer_asks_for_all_sockets_and_stops_with_the_last() -> None:
    async def story() -> None:
        async with joined(echo) as (door, address):
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(opening(address)) for _ in range(20)]
                tasks = len(asyncio.all_tasks())
                door.asked = 0
                await until(lambda: door.asked >= 40)
                assert len(asyncio.all_tasks()) == tasks
                assert len(door.sockets) == len(clients)
            await until(lambda: len(door.sockets) == 0)
            before = door.asked
            await asyncio.sleep(0.1)
            assert door.asked == before

    run(story)


def test_a_socket_on_which_nothing_moves_ends_where_a_limit_says_so() -> None:
    async def story() -> None:
        async with joined(echo) as (door, address):
            door.idle = 0.1
            async with opening(address) as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1001
            assert door.ended == [Ended("gateway", 1001, "idle for too long", idle=True)]

    run(story)


def test_a_silent_upstream_is_asked_for_a_sign_of_life() -> None:
    async def story() -> None:
        pings = 0

        async def play(peer: Peer) -> None:
            nonlocal pings
            await peer.send(_handshake(await peer.head()))
            while frame := await peer.reader.readexactly(6):
                if frame[0] == 0x89:
                    pings += 1
                    if pings < 3:
                        await peer.send(b"\x8a\x00")

        async with Server(play) as server:
            door = Door(server.upstream(), ping=0.1)
            async with served(door) as address, opening(address) as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1014
            assert pings == 3
            assert door.ended == [Ended("upstream", 1006, "no sign of life")]

    run(story)


def test_a_caller_that_does_not_read_stops_the_upstream_and_is_not_the_upstreams_silence() -> None:
    async def story() -> None:
        sent = 0

        async def handler(connection: ws_server.ServerConnection) -> None:
            nonlocal sent
            for _ in range(1000):
                await connection.send(b"x" * 65536)
                sent += 1
            await connection.wait_closed()

        async with joined(handler, ping=0.2) as (door, address):
            async with opening(address, max_queue=1) as client:
                last = -1
                while sent != last or not sent:
                    last = sent
                    await asyncio.sleep(0.3)
                assert sent < 700
                for _ in range(1000):
                    assert len(await client.recv()) == 65536
            assert door.tally.to_client == 1000

    run(story)


def test_an_upstream_that_does_not_read_stops_the_caller() -> None:
    async def story() -> None:
        go = asyncio.Event()
        got = 0

        async def handler(connection: ws_server.ServerConnection) -> None:
            nonlocal got
            await go.wait()
            for _ in range(1000):
                await connection.recv()
                got += 1

        async with joined(handler) as (door, address), opening(address) as client:

            async def flood() -> None:
                for _ in range(1000):
                    await client.send(b"x" * 65536)

            flooding = asyncio.create_task(flood())
            last = -1
            while door.tally.to_upstream != last or not last:
                last = door.tally.to_upstream
                await asyncio.sleep(0.1)
            assert door.tally.to_upstream < 700
            go.set()
            await flooding
            await until(lambda: got == 1000)

    run(story)


def test_pings_that_cannot_be_answered_pile_up_nowhere() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.send(_handshake(await peer.head()))
            ping = Frame(Opcode.PING, b"p" * 125).serialize(mask=False) * 1000
            for _ in range(80):  # 10 MB of pings, no pong read
                await peer.send(ping)
            await peer.send(Frame(Opcode.TEXT, b"done").serialize(mask=False))
            await peer.gone()

        async with Server(play) as server:
            found = await _opened(server)
            assert isinstance(found, UpstreamSocket)
            assert await found.receive() == "done"
            assert found.unsent < 1_000_000
            found.abort()

    run(story)


def test_a_relay_that_is_cancelled_closes_both_sides() -> None:
    async def story() -> None:
        closed: list[int | None] = []

        async def handler(connection: ws_server.ServerConnection) -> None:
            await connection.wait_closed()
            closed.append(connection.close_code)

        async with ws_server.serve(handler, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            sockets = WebSockets(lambda _: None, max_message_bytes=LIMIT)
            sent: list[dict[str, Any]] = []

            async def receive() -> dict[str, Any]:
                await asyncio.Event().wait()
                return {}

            async def send(event: Any) -> None:
                sent.append(event)

            found = await sockets.connect(upstream(port), "/", HOST, [])
            assert isinstance(found, UpstreamSocket)
            relaying = asyncio.create_task(
                sockets.relay(
                    receive,
                    send,
                    found,
                    headers=[],
                    on_client_message=allow,
                    on_upstream_message=allow,
                    barred=lambda: "",
                    tally=Tally(),
                )
            )
            await until(lambda: bool(sent))
            relaying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await relaying
            assert sent[-1] == {"type": "websocket.close", "code": 1001, "reason": ""}
            await until(lambda: closed == [1001])
            assert await found.receive() == Closed(1001, "")
            assert len(sockets) == 0

    run(story)


def test_a_caller_that_left_before_its_upgrade_is_no_fault() -> None:
    async def story() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "websocket.disconnect", "code": 1006}

        async def send(event: Any) -> None:
            raise OSError("gone")

        async with Server(_agree) as server:
            sockets = WebSockets(lambda _: None, max_message_bytes=LIMIT)
            found = await sockets.connect(server.upstream(), "/", HOST, [])
            assert isinstance(found, UpstreamSocket)
            ended = await sockets.relay(
                receive,
                send,
                found,
                headers=[],
                on_client_message=allow,
                on_upstream_message=allow,
                barred=lambda: "",
                tally=Tally(),
            )
            assert ended == Ended("client", 1006, "")
            await until(lambda: server.open == 0)

    run(story)


async def _agree(peer: Peer) -> None:
    await peer.send(_handshake(await peer.head()))
    assert (await peer.reader.readexactly(8))[0] == 0x88
    await peer.send(b"\x88\x00")


def test_a_restart_ends_all_relays_with_1012() -> None:
    async def story() -> None:
        async with joined(echo) as (door, address), opening(address) as client:
            await until(lambda: len(door.sockets) == 1)
            door.sockets.close()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1012

    run(story)


def test_hundreds_of_sockets_cut_at_random_leave_nothing_behind() -> None:
    async def story() -> None:
        async with joined(echo) as (door, address):

            async def one(number: int) -> None:
                async with opening(address) as client:
                    for turn in range(number % 5):
                        await client.send(f"{number}/{turn}")
                        assert await client.recv() == f"{number}/{turn}"
                    if number % 3 == 0:
                        client.transport.abort()
                    elif number % 3 == 1:
                        await client.send(os.urandom(1000))

            for start in range(0, 150, 50):
                await asyncio.gather(*(one(number) for number in range(start, start + 50)))
            await until(lambda: len(door.sockets) == 0 and len(door.ended) == 150)

    run(story)
