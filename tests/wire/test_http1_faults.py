"""What upstreams do wrong (faults R7): the right failure in time, and a connection that nobody uses again."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http1_connection import MAX_INTERIM
from tests.wire.faulty import HOST, Peer, Server, answer, run, until, upstream


async def outcome(client: Http1Client) -> bytes | UpstreamFailed:
    """The whole body, or how it failed, wherever it did."""
    try:
        found = await client.send("GET", "/", HOST, None, idempotent=True)
        body = b""
        while chunk := await found.chunk():
            body += chunk
    except UpstreamFailed as failure:
        return failure
    return body


def met(data: bytes, *, end: str = "close", **times: float) -> UpstreamFailed:
    """How a call fails whose upstream sends `data` and then closes, resets, or hangs; the next one must succeed."""
    failures: list[UpstreamFailed] = []

    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number > 1:
                await peer.send(answer(b"good"))
                await peer.gone()
                return
            await peer.send(data)
            if end == "reset":
                peer.reset()
            elif end == "half":
                peer.writer.write_eof()
                await peer.gone()
            elif end == "hang":
                await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(**times), None)
            failure = await outcome(client)
            assert isinstance(failure, UpstreamFailed), failure
            failures.append(failure)
            await until(lambda: server.open == 0)
            assert await outcome(client) == b"good"
            assert server.connections == 2
            await client.aclose()

    run(story)
    assert failures[0].error == failures[1].error  # the same on both loops
    assert failures[0].sent
    return failures[0]


def test_an_upstream_that_hangs_before_its_head_is_late() -> None:
    failure = met(b"", end="hang", response=0.1)
    assert (failure.error, failure.timeout) == ("http_response_timeout", True)


def test_an_upstream_that_hangs_within_its_head_is_late() -> None:
    failure = met(b"HTTP/1.1 200 OK\r\nX: ", end="hang", response=0.1)
    assert (failure.error, failure.timeout) == ("http_response_timeout", True)


def test_an_upstream_that_hangs_after_an_interim_answer_is_late() -> None:
    failure = met(b"HTTP/1.1 102 Processing\r\n\r\n", end="hang", response=0.1)
    assert (failure.error, failure.timeout) == ("http_response_timeout", True)


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: close-delimited"])
def test_an_upstream_that_hangs_within_its_body_is_late(framing: bytes) -> None:
    failure = met(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n1", end="hang", idle=0.1)
    assert (failure.error, failure.timeout) == ("connection_read_timeout", True)


@pytest.mark.parametrize("end", ["close", "half", "reset"])
def test_an_end_before_the_answer_is_told(end: str) -> None:
    assert met(b"", end=end).error == "connection_terminated"


@pytest.mark.parametrize("end", ["close", "half", "reset"])
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
    ],
)
def test_a_body_cut_short_is_never_taken_for_whole(data: bytes, end: str) -> None:
    assert met(data, end=end).error in ("http_response_incomplete", "connection_terminated")


def test_a_body_without_length_that_is_reset_is_never_taken_for_whole() -> None:
    assert met(b"HTTP/1.1 200 OK\r\n\r\nsome", end="reset").error in (
        "http_response_incomplete",
        "connection_terminated",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"garbage",
        b"HTTP/1.1 999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\rc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\0",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=repr,
)
def test_garbage_is_told_at_once_and_its_connection_is_closed(data: bytes) -> None:
    failure = met(data, end="hang")
    assert failure.error in ("http_protocol_error", "http_response_transfer_coding")
    assert not failure.timeout


def test_a_flood_of_interim_answers_ends() -> None:
    one = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert met(one * (MAX_INTERIM + 1) + answer(b"never"), end="hang").error == "http_protocol_error"


def test_a_flood_of_headers_ends() -> None:
    assert (
        met(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", end="hang").error
        == "http_response_header_section_size"
    )
    assert met(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, end="hang").error == "http_response_header_section_size"


def test_an_endless_line_ends() -> None:
    assert met(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000, end="hang").error == "http_response_header_section_size"
    assert met(b"H" * 1_000_000, end="hang").error in ("http_protocol_error", "http_response_header_section_size")


def test_a_head_that_drips_is_late_however_often_a_byte_comes() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
                await peer.send(bytes([byte]))
                await asyncio.sleep(0.01)

        async with Server(play) as server:
            client = Http1Client(server.upstream(response=0.2), None)
            failure = await outcome(client)
            assert isinstance(failure, UpstreamFailed)
            assert failure.error == "http_response_timeout"
            await until(lambda: server.open == 0)
            await client.aclose()

    run(story)


def test_chunk_overhead_that_drips_carries_nothing_and_is_late() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
            while True:
                await peer.send(b"a")
                await asyncio.sleep(0.01)

        async with Server(play) as server:
            client = Http1Client(server.upstream(idle=0.2), None)
            failure = await outcome(client)
            assert isinstance(failure, UpstreamFailed)
            assert failure.error == "connection_read_timeout"
            await client.aclose()

    run(story)


@pytest.mark.parametrize("asked_as_stream", [True, False])
def test_a_stream_may_be_silent_as_long_as_its_own_limit_says(asked_as_stream: bool) -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            kind = b"application/json" if asked_as_stream else b"text/event-stream"
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            await go.wait()
            await peer.send(b"1\r\na\r\n0\r\n\r\n")
            await peer.gone()

        async with Server(play) as server:
            for limit in (None, 0.1):
                go.clear()
                client = Http1Client(server.upstream(idle=0.05, stream_idle=limit), None)
                found = await client.send("GET", "/", HOST, None, stream=asked_as_stream)
                if limit is None:
                    await asyncio.sleep(0.3)  # six times the other limit
                    go.set()
                    assert await found.chunk() == b"a"
                    assert await found.chunk() == b""
                else:
                    with pytest.raises(UpstreamFailed) as failure:
                        await found.chunk()
                    assert failure.value.timeout
                await client.aclose()

    run(story)


def test_an_upstream_that_does_not_take_the_request_is_late() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.head()
            await asyncio.Event().wait()

        async with Server(play) as server:
            client = Http1Client(server.upstream(response=0.3), None)
            with pytest.raises(UpstreamFailed) as failure:
                await client.send("POST", "/", HOST, b"x" * 30_000_000)
            assert (failure.value.error, failure.value.timeout) == ("connection_write_timeout", True)
            await client.aclose()

    run(story)


@pytest.mark.parametrize(
    "extra",
    [b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", answer(b"evil") * 3, b"\0" * 100_000],
    ids=len,
)
@pytest.mark.parametrize(
    "first", [answer(b"good"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n"]
)
def test_bytes_behind_an_answer_are_nobodys_answer(first: bytes, extra: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(first + extra)
            await peer.request()
            await peer.send(answer(b"evil"))

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in range(1, 6):
                assert await outcome(client) == b"good"
                assert server.connections == number
            await client.aclose()

    run(story)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
    ],
)
def test_a_body_where_none_may_be_is_nobodys_answer(method: str, head: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(head + b"evil")
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in (1, 2, 3):
                found = await client.send(method, "/", HOST, None)
                assert found.complete == b""
                assert server.connections == number
            await client.aclose()

    run(story)


def test_bytes_that_arrive_while_a_connection_rests_are_nobodys_answer() -> None:
    async def story() -> None:
        poisoned = asyncio.Event()
        answered = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(b"good"))
            await answered.wait()
            await peer.send(answer(b"evil"))
            poisoned.set()
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in range(1, 6):
                poisoned.clear()
                answered.clear()
                assert await outcome(client) == b"good"
                answered.set()
                await poisoned.wait()  # on the wire; our loop may or may not have read it
                assert server.connections == number
            await client.aclose()

    run(story)


def test_bytes_that_greet_a_new_connection_are_nobodys_answer() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.send(answer(b"evil"))
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for _ in range(20):
                found = await outcome(client)
                assert (
                    isinstance(found, UpstreamFailed) or found == b"evil"
                )  # this upstream's own word, to its own caller
                await until(lambda: client.in_flight == 0)
            await client.aclose()

    run(story)


def test_a_port_where_nobody_listens_is_refused() -> None:
    async def story() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            client = Http1Client(upstream(free.getsockname()[1]), None, PoolLimits(connections=1))
            for _ in range(3):
                failure = await outcome(client)
                assert isinstance(failure, UpstreamFailed)
                assert (failure.error, failure.sent) == ("connection_refused", False)
            assert client.in_flight == 0

    run(story)


def test_an_upstream_that_does_not_accept_is_late() -> None:
    async def story() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            client = Http1Client(upstream(full.getsockname()[1], connect=0.2), None)
            failure = await outcome(client)
            for filler in fillers:
                filler.close()
            assert isinstance(failure, UpstreamFailed)
            assert (failure.error, failure.timeout, failure.sent) == ("connection_timeout", True, False)
            assert client.in_flight == 0

    run(story)


@pytest.mark.parametrize("name", ["no..name", "x" * 64 + ".test", "nobody-is-here.invalid"])
def test_a_name_that_cannot_be_resolved_is_told(name: str) -> None:
    async def story() -> None:
        failure = await outcome(Http1Client(upstream(80, host=name), None))
        assert isinstance(failure, UpstreamFailed)
        assert (failure.error, failure.sent) == ("dns_error", False)

    run(story)


def test_a_cancelled_connection_attempt_gives_its_place_back() -> None:
    async def story() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            client = Http1Client(upstream(full.getsockname()[1]), None)
            call = asyncio.create_task(client.send("GET", "/", HOST, None))
            await until(lambda: client.in_flight == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert client.in_flight == 0
            for filler in fillers:
                filler.close()

    run(story)
