"""The HTTP/1.1 client against a real server: bytes out, bytes in, streams both ways."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import ONE_WRITE_BYTES, Http1Client, PoolLimits
from gateway.wire.http1_connection import READ_HIGH_BYTES
from tests.wire.faulty import HOST, Peer, Server, answer, chunks, echo, run, until


async def whole(found) -> bytes:  # type: ignore[no-untyped-def]
    body = b""
    while chunk := await found.chunk():
        body += chunk
    return body


def test_a_small_request_is_sent_byte_for_byte_and_its_answer_is_there_at_once() -> None:
    async def story() -> None:
        seen: list[bytes] = []

        async def play(peer: Peer) -> None:
            seen.append(await peer.reader.read(65536))  # head and body in one segment
            await peer.send(answer(b'{"ok":1}', b"Content-Type: application/json", b"X-A: 1", b"Connection: x-a"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("POST", "/mcp/%2f?a=%00", [*HOST, (b"x-b", b"2")], b'{"id":1}')
            assert found.status == 200
            assert found.headers == [(b"content-type", b"application/json"), (b"content-length", b"8")]
            assert found.address == f"127.0.0.1:{server.port}"
            assert found.complete == b'{"ok":1}'
            assert await found.chunk() == b'{"ok":1}'
            assert found.complete is None
            assert await found.chunk() == b""
            await found.aclose()
            assert seen == [
                b'POST /mcp/%2f?a=%00 HTTP/1.1\r\nhost: upstream.test\r\nx-b: 2\r\ncontent-length: 8\r\n\r\n{"id":1}'
            ]
            await client.aclose()

    run(story)


def test_framing_says_what_follows_and_nothing_is_added_to_a_request_without_a_body() -> None:
    async def story() -> None:
        heads: list[bytes] = []

        async def play(peer: Peer) -> None:
            while True:
                heads.append((await peer.request())[0].split(b"\r\n", 2)[2])
                await peer.send(answer())

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            await client.send("GET", "/", HOST, None)
            await client.send("POST", "/", HOST, None)
            await client.send("GET", "/", HOST, b"")
            await client.send("POST", "/", HOST, chunks(b"ab"), body_bytes=2)
            await client.send("POST", "/", HOST, chunks(b"ab"))
            assert heads == [
                b"\r\n",
                b"content-length: 0\r\n\r\n",
                b"content-length: 0\r\n\r\n",
                b"content-length: 2\r\n\r\n",
                b"transfer-encoding: chunked\r\n\r\n",
            ]
            await client.aclose()

    run(story)


def test_what_may_not_be_sent_is_refused_before_anything_is_opened() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            client = Http1Client(server.upstream(), None)
            for method, target, headers in [
                ("CONNECT", "/", HOST),
                ("GET", "/a b", HOST),
                ("GET", "/", [*HOST, (b"x", b"a\r\nb: c")]),
                ("GET", "/", [*HOST, (b"content-length", b"5")]),
                ("GET", "/", []),
            ]:
                with pytest.raises(UpstreamFailed) as failure:
                    await client.send(method, target, headers, None)
                assert failure.value.error == "http_request_error"
                assert not failure.value.sent
            assert server.connections == 0

    run(story)


@pytest.mark.parametrize("size", [0, 1, ONE_WRITE_BYTES, ONE_WRITE_BYTES + 1, 5_000_000])
def test_bodies_of_every_size_go_out_and_come_back(size: int) -> None:
    async def story() -> None:
        async with Server(echo) as server:
            client = Http1Client(server.upstream(), None)
            body = bytes(range(256)) * (size // 256 + 1)
            for _ in range(2):
                found = await client.send("POST", "/", HOST, body[:size])
                assert await whole(found) == body[:size]
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_a_streamed_body_is_sent_as_it_comes_with_its_length_or_in_chunks() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            client = Http1Client(server.upstream(), None)
            parts = [b"a" * 10, b"", b"b" * 70_000, b"c"]
            for length in (None, 70_011):
                found = await client.send("PUT", "/", HOST, chunks(*parts), body_bytes=length)
                assert await whole(found) == b"".join(parts)
            assert server.connections == 1
            await client.aclose()

    run(story)


@pytest.mark.parametrize("declared", [2, 4])
def test_a_body_of_another_length_than_declared_is_never_taken_for_whole(declared: int) -> None:
    async def story() -> None:
        bodies: list[bytes] = []

        async def play(peer: Peer) -> None:
            bodies.append((await peer.request())[1])

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            with pytest.raises(UpstreamFailed) as failure:
                await client.send("PUT", "/", HOST, chunks(b"abc"), body_bytes=declared)
            assert failure.value.error == "http_request_error"
            await until(lambda: server.connections > 0 and server.open == 0)
            assert bodies == []
            await client.aclose()

    run(story)


def test_a_body_that_breaks_off_ends_the_connection_and_its_error_reaches_the_caller() -> None:
    async def story() -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise asyncio.CancelledError("the caller went away")

        got_all = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            got_all.set()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            with pytest.raises(asyncio.CancelledError, match="went away"):
                await client.send("POST", "/", HOST, body())
            await until(lambda: server.connections == 1 and server.open == 0)
            assert not got_all.is_set()
            await client.aclose()

    run(story)


def test_an_upstream_that_does_not_read_stops_the_callers_body() -> None:
    async def story() -> None:
        read_on = asyncio.Event()
        taken = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(1000):
                taken += 1
                yield b"x" * 65536

        async def play(peer: Peer) -> None:
            await peer.head()
            await read_on.wait()
            await peer.reader.readexactly(65_536_000)
            await peer.send(answer())

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            sending = asyncio.create_task(client.send("POST", "/", HOST, body(), body_bytes=65_536_000))
            last = -1
            while taken != last or not taken:  # stands still
                last = taken
                await asyncio.sleep(0.05)
            assert taken < 500
            read_on.set()
            assert (await sending).status == 200
            assert taken == 1000
            await client.aclose()

    run(story)


def test_an_answer_that_comes_before_the_body_has_gone_is_given_at_once() -> None:
    async def story() -> None:
        async def endless() -> AsyncIterator[bytes]:
            yield b"begin"
            await asyncio.Event().wait()

        async def play(peer: Peer) -> None:
            await peer.head()
            await peer.send(answer(b"too large", status=b"413 Content Too Large"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None, PoolLimits(keepalive=60.0))
            found = await client.send("POST", "/", HOST, endless())
            assert (found.status, found.complete) == (413, b"too large")
            await until(lambda: server.open == 0)  # half a request is on it: never used again
            await client.aclose()

    run(story)


def test_both_directions_stream_at_the_same_time() -> None:
    async def story() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def body() -> AsyncIterator[bytes]:
            yield b"0"
            for number in range(1, 4):
                assert await got.get() == b"%d" % (number - 1)
                yield b"%d" % number

        async def play(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(4):
                size = int(await peer.reader.readuntil(b"\r\n"), 16)
                data = (await peer.reader.readexactly(size + 2))[:-2]
                await peer.send(b"1\r\n" + data + b"\r\n")
            assert await peer.reader.readexactly(5) == b"0\r\n\r\n"
            await peer.send(b"0\r\n\r\n")
            await peer.request()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("POST", "/", HOST, body())
            while chunk := await found.chunk():
                got.put_nowait(chunk)
            assert got.get_nowait() == b"3"
            assert client.in_flight == 0
            assert server.open == 1
            await client.aclose()

    run(story)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 600", b"Connection: close"])
def test_event_k_arrives_before_the_upstream_releases_the_next(framing: bytes) -> None:
    async def story() -> None:
        release = asyncio.Semaphore(0)

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n\r\n")
            for number in range(100):
                await release.acquire()
                data = b"%06d" % number
                await peer.send(b"6\r\n" + data + b"\r\n" if b"chunked" in framing else data)
            await release.acquire()
            if b"chunked" in framing:
                await peer.send(b"0\r\n\r\n")

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("GET", "/", HOST, None, stream=True)
            assert found.complete is None
            for number in range(100):
                release.release()
                assert await found.chunk() == b"%06d" % number
            release.release()
            assert await found.chunk() == b""
            await client.aclose()

    run(story)


def test_a_reader_that_is_behind_stops_the_upstream() -> None:
    async def story() -> None:
        sent = 0

        async def play(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 65536000\r\n\r\n")
            for _ in range(1000):
                await peer.send(b"x" * 65536)
                sent += 65536
            await peer.request()

        async with Server(play) as server:
            client = Http1Client(server.upstream(idle=0.2), None)
            found = await client.send("GET", "/", HOST, None)
            last = -1
            while sent != last or not sent:  # stands still; far longer than the idle deadline: not the upstream's fault
                last = sent
                await asyncio.sleep(0.3)
            assert sent < 32_000_000
            chunk = await found.chunk()
            size = len(chunk)
            assert size <= READ_HIGH_BYTES + 256 * 1024
            while chunk := await found.chunk():
                size += len(chunk)
            assert size == 65_536_000
            assert client.in_flight == 0
            assert server.open == 1  # and the connection serves again
            await client.aclose()

    run(story)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: x\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_ends_with_its_head_and_the_connection_serves_again(method: str, head: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(head)

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for _ in range(3):
                found = await client.send(method, "/", HOST, None)
                assert found.complete == b""
                assert await found.chunk() == b""
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_a_body_that_the_connections_end_ends_is_whole_and_the_connection_is_not_kept() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
            await peer.send(b"lo")

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in (1, 2):
                assert await whole(await client.send("GET", "/", HOST, None)) == b"hello"
                assert server.connections == number
            await client.aclose()

    run(story)


def test_interim_answers_are_consumed_in_one_packet_or_in_many() -> None:
    async def story() -> None:
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

        async def play(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(early + answer(b"one"))
                await peer.request()
                for byte in early + answer(b"two"):
                    await peer.send(bytes([byte]))

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for body in (b"one", b"two"):
                found = await client.send("GET", "/", HOST, None)
                assert found.status == 200
                assert found.headers == [(b"content-length", b"3")]
                assert await whole(found) == body
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_a_redirect_is_an_answer_like_any_other() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(b"", b"Location: http://127.0.0.1:1/elsewhere", status=b"302 Found"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("GET", "/", HOST, None)
            assert (found.status, found.headers[0][1]) == (302, b"http://127.0.0.1:1/elsewhere")
            await client.aclose()

    run(story)


def test_trailers_never_become_headers() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\nTrailer: X-Auth-User\r\nTransfer-Encoding: chunked\r\n\r\n")
                await peer.send(b"2\r\nok\r\n0\r\nX-Auth-User: root\r\nContent-Type: text/html\r\n\r\n")

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for _ in range(2):
                found = await client.send("GET", "/", HOST, None)
                assert await whole(found) == b"ok"
                assert found.headers == []
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_a_compressed_answer_passes_as_it_is() -> None:
    async def story() -> None:
        packed = gzip.compress(b"\0" * 10_000_000)

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(packed, b"Content-Encoding: gzip"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("GET", "/", [*HOST, (b"accept-encoding", b"gzip")], None)
            assert await whole(found) == packed
            await client.aclose()

    run(story)


def test_a_caller_that_gives_up_before_the_head_is_noticed_by_the_upstream() -> None:
    async def story() -> None:
        asked = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            asked.set()
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(response=60.0), None)
            call = asyncio.create_task(client.send("POST", "/", HOST, b"{}"))
            await asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: server.open == 0)
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_a_caller_that_closes_an_open_stream_is_noticed_by_the_upstream() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            found = await client.send("GET", "/", HOST, None, stream=True)
            assert await found.chunk() == b"a"
            reading = asyncio.create_task(found.chunk())
            await asyncio.sleep(0)
            await found.aclose()
            await found.aclose()
            with pytest.raises(UpstreamFailed):
                await reading
            await until(lambda: server.open == 0)
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_closing_an_answer_late_does_not_touch_the_exchange_that_has_the_connection_now() -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(b"first"))
            await peer.request()
            await go.wait()
            await peer.send(answer(b"second"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            first = await client.send("GET", "/1", HOST, None)
            call = asyncio.create_task(client.send("GET", "/2", HOST, None))
            await asyncio.sleep(0)
            await first.aclose()
            go.set()
            assert (await call).complete == b"second"
            assert server.connections == 1
            await client.aclose()

    run(story)
