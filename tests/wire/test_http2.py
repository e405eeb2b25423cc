"""HTTP/2 towards upstreams: the same port, the same strictness, one exchange per connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import UpstreamTls
from gateway.wire.dial import tls_context
from gateway.wire.http1 import PoolLimits
from gateway.wire.http2 import Http2Client
from tests.wire.certificates import Authority
from tests.wire.faulty import HOST, Peer, Server, chunks, run, until, upstream
from tests.wire.faulty2 import Stream, server, speaking2


def client_of(found: Server, limits: PoolLimits | None = None, **times: float) -> Http2Client:
    return Http2Client(speaking2(found, **times), None, limits or PoolLimits())


async def whole(found) -> bytes:  # type: ignore[no-untyped-def]
    body = b""
    while chunk := await found.chunk():
        body += chunk
    return body


async def echo(stream: Stream) -> None:
    body = await stream.body()
    await stream.begin((b"content-length", b"%d" % len(body)))
    await stream.send(body, end=True)


def test_a_request_arrives_with_its_raw_target_and_its_headers_and_nothing_else() -> None:
    async def story() -> None:
        seen: list[list[tuple[bytes, bytes]]] = []

        async def play(stream: Stream) -> None:
            seen.append(stream.headers)
            await echo(stream)

        async with server(play) as found:
            client = client_of(found)
            target = "/a/../%2F//b;x=%2e%2E/?q=%00&a=b|c"
            answer = await client.send("POST", target, [*HOST, (b"x-a", b"1"), (b"x-a", b"2")], b"body")
            assert (answer.status, answer.headers) == (200, [(b"content-length", b"4")])
            assert answer.address == f"127.0.0.1:{found.port}"
            assert await whole(answer) == b"body"
            assert seen[0] == [
                (b":method", b"POST"),
                (b":authority", b"upstream.test"),
                (b":scheme", b"http"),
                (b":path", target.encode()),
                (b"x-a", b"1"),
                (b"x-a", b"2"),
                (b"content-length", b"4"),
            ]
            await client.aclose()

    run(story)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_go_both_ways_whole_or_streamed_over_one_connection(size: int) -> None:
    async def story() -> None:
        async with server(echo) as found:
            client = client_of(found)
            body = bytes(range(256)) * (size // 256 + 1)
            for content, length in ((body[:size], None), (chunks(body[:size]), size), (chunks(body[:size]), None)):
                answer = await client.send("PUT", "/", HOST, content, body_bytes=length)
                assert await whole(answer) == body[:size]
            assert found.connections == 1
            assert client.in_flight == 0
            await client.aclose()
            await until(lambda: found.open == 0)

    run(story)


def test_event_k_arrives_before_the_upstream_releases_the_next() -> None:
    async def story() -> None:
        release = asyncio.Semaphore(0)

        async def play(stream: Stream) -> None:
            await stream.begin((b"content-type", b"text/event-stream"))
            for number in range(50):
                await release.acquire()
                await stream.send(b"data: %d\n\n" % number, end=number == 49)

        async with server(play) as found:
            client = client_of(found, idle=0.05)  # which is not the limit of a stream
            answer = await client.send("GET", "/", HOST, None)
            await asyncio.sleep(0.2)
            for number in range(50):
                release.release()
                assert await answer.chunk() == b"data: %d\n\n" % number
            assert await answer.chunk() == b""
            await client.aclose()

    run(story)


@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200"), ("GET", b"204"), ("GET", b"304")])
def test_an_answer_without_a_body_ends_with_its_head(method: str, status: bytes) -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin((b"etag", b"x"), status=status, end=stream.number > 1)
            if stream.number == 1:
                await stream.send(b"", end=True)

        async with server(play) as found:
            client = client_of(found)
            for _ in range(3):
                answer = await client.send(method, "/", HOST, None)
                assert answer.complete == b""
                assert await answer.chunk() == b""
            assert found.connections == 1
            await client.aclose()

    run(story)


@pytest.mark.parametrize("when", ["before the head", "within the body", "while reading"])
def test_a_caller_that_gives_up_is_noticed_by_the_upstream_and_by_nobody_else(when: str) -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def play(stream: Stream) -> None:
            if stream.header(b":path") == b"/other":
                await stream.begin()
                await begun.wait()
                await stream.send(b"fine", end=True)
                return
            if when != "before the head":
                await stream.begin()
                await stream.send(b"a")
            begun.set()
            await asyncio.Event().wait()

        async with server(play) as found:
            client = client_of(found)
            other = await client.send("GET", "/other", HOST, None)
            call = asyncio.create_task(client.send("GET", "/", HOST, None))
            if when == "before the head":
                await begun.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            else:
                answer = await call
                assert await answer.chunk() == b"a"
                if when == "while reading":
                    reading = asyncio.create_task(answer.chunk())
                    await asyncio.sleep(0.01)
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                await answer.aclose()
            await until(lambda: found.open == 1)
            assert await whole(other) == b"fine"
            assert client.in_flight == 0
            await client.aclose()

    run(story)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\0b")],
        [(b"x", b"a\nb")],
        [(b"X-Upper", b"1")],
        [(b"x y", b"1")],
        [(b"x:y", b"1")],
        [(b"connection", b"close")],
        [(b"transfer-encoding", b"chunked")],
        [(b"keep-alive", b"1")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"+1")],
        [(b"x", b"\x7f")],
        [(b"x", b"y" * 40_000), (b"z", b"y" * 40_000)],
        [(b"x", b"y")] * 300,
    ],
    ids=lambda headers: repr(headers[0])[:40],
)
def test_a_malformed_head_is_refused_and_its_connection_closed(headers: list[tuple[bytes, bytes]]) -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin(*headers)

        async with server(play) as found:
            client = client_of(found)
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/", HOST, None)
            await until(lambda: found.open == 0)
            await client.aclose()

    run(story)


@pytest.mark.parametrize("status", [b"99", b"600", b"0", b"20", b"abc", b""])
def test_a_status_that_is_none_is_refused(status: bytes) -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin(status=status)

        async with server(play) as found:
            client = client_of(found, response=1.0)
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/", HOST, None)
            await client.aclose()

    run(story)


@pytest.mark.parametrize("sent", [b"123", b"12345"])
def test_a_body_of_another_length_than_announced_is_never_taken_for_whole(sent: bytes) -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin((b"content-length", b"4"))
            await stream.send(sent, end=True)

        async with server(play) as found:
            client = client_of(found)
            with pytest.raises(UpstreamFailed):
                await whole(await client.send("GET", "/", HOST, None))
            await until(lambda: found.open == 0)
            await client.aclose()

    run(story)


def test_deadlines_run_for_each_exchange_apart() -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            if stream.header(b":path") == b"/hang":
                await asyncio.Event().wait()
            await stream.begin()
            if stream.header(b":path") == b"/stop":
                await asyncio.Event().wait()
            await asyncio.sleep(0.5)
            await stream.send(b"late", end=True)

        async with server(play) as found:
            client = client_of(found, response=0.2, idle=0.2)
            other = await client.send("GET", "/", HOST, None, stream=True)
            with pytest.raises(UpstreamFailed) as failure:
                await client.send("GET", "/hang", HOST, None)
            assert (failure.value.error, failure.value.timeout) == ("http_response_timeout", True)
            stopping = await client.send("GET", "/stop", HOST, None)
            with pytest.raises(UpstreamFailed) as failure:
                await stopping.chunk()
            assert (failure.value.error, failure.value.timeout) == ("connection_read_timeout", True)
            assert await whole(other) == b"late"
            await client.aclose()

    run(story)


def test_a_connection_that_ends_is_told_and_an_idempotent_call_repeated_once() -> None:
    async def story() -> None:
        kill: list[bool] = []

        async def play(stream: Stream) -> None:
            if kill:
                stream.connection.peer.reset()
                kill.pop()
                return
            await echo(stream)

        async with server(play) as found:
            client = client_of(found)
            for idempotent in (True, False):
                await whole(await client.send("POST", "/", HOST, b"1"))
                kill.append(True)
                before = found.connections
                if idempotent:
                    assert await whole(await client.send("PUT", "/", HOST, b"2", idempotent=True)) == b"2"
                    assert found.connections == before + 1
                else:
                    with pytest.raises(UpstreamFailed) as failure:
                        await client.send("POST", "/", HOST, b"2")
                    assert failure.value.sent
                    assert found.connections == before
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_a_body_that_breaks_off_reaches_the_caller_and_ends_the_connection() -> None:
    async def story() -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise asyncio.CancelledError("the caller went away")

        async with server(echo) as found:
            client = client_of(found)
            with pytest.raises(asyncio.CancelledError, match="went away"):
                await client.send("POST", "/", HOST, body())
            await until(lambda: found.open == 0)
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_a_slow_caller_is_not_the_upstreams_fault() -> None:
    async def story() -> None:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                await asyncio.sleep(0.2)
                yield b"x"

        async with server(echo) as found:
            client = client_of(found, response=0.3, connect=0.2)
            assert await whole(await client.send("POST", "/", HOST, body())) == b"xxx"
            await client.aclose()

    run(story)


def test_an_upstream_that_speaks_http_1_is_told() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await peer.gone()

        async with Server(play) as found:
            client = client_of(found, response=0.3, connect=0.2)
            with pytest.raises(UpstreamFailed):  # the library takes it for the beginning of a long frame
                await client.send("GET", "/", HOST, None)
            await until(lambda: found.open == 0)
            await client.aclose()

    run(story)


def test_a_port_where_nobody_listens_and_a_name_nobody_has_are_told() -> None:
    async def story() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            for target, error in (
                (upstream(free.getsockname()[1], http="2"), "connection_refused"),
                (upstream(80, host="nobody-is-here.invalid", http="2"), "dns_error"),
                (upstream(80, host="no..name", http="2"), "dns_error"),
            ):
                client = Http2Client(target, None, PoolLimits())
                with pytest.raises(UpstreamFailed) as failure:
                    await client.send("GET", "/", HOST, None)
                assert (failure.value.error, failure.value.sent) == (error, False)
                assert client.in_flight == 0

    run(story)


def test_tls_is_spoken_by_name_with_h2_and_certificates_are_judged(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")

    async def story() -> None:
        async with server(echo, tls=authority.server("upstream.test", protocols=["h2"])) as found:
            for ca, error in ((authority.ca, ""), (other.ca, "tls_certificate_error")):
                target = speaking2(found, scheme="https", tls=UpstreamTls(ca=str(ca), server_name="upstream.test"))
                client = Http2Client(target, tls_context(target, ["h2"]), PoolLimits())
                if error:
                    with pytest.raises(UpstreamFailed) as failure:
                        await client.send("POST", "/", HOST, b"x")
                    assert failure.value.error == error
                else:
                    assert await whole(await client.send("POST", "/", HOST, b"x")) == b"x"
                await client.aclose()

    run(story)


def test_connections_are_bounded_and_idle_ones_close_in_time() -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def play(stream: Stream) -> None:
            await stream.begin()
            await go.wait()
            await stream.send(b"x", end=True)

        async with server(play) as found:
            client = client_of(found, PoolLimits(connections=1, waiters=1, keepalive=0.1), connect=0.2)
            answer = await client.send("GET", "/", HOST, None)
            second = asyncio.create_task(client.send("GET", "/", HOST, None))
            await asyncio.sleep(0)
            with pytest.raises(UpstreamFailed) as failure:
                await client.send("GET", "/", HOST, None)
            assert (failure.value.error, failure.value.timeout) == ("connection_limit_reached", False)
            with pytest.raises(UpstreamFailed) as failure:
                await second
            assert (failure.value.error, failure.value.timeout) == ("connection_limit_reached", True)
            go.set()
            assert await whole(answer) == b"x"
            await until(lambda: found.open == 0)
            await client.aclose()

    run(story)
