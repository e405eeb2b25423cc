"""Trailers of an upstream: read to their end, never merged into headers, never part of the body."""

from __future__ import annotations

import pytest

from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http2 import Http2Client
from tests.wire.faulty import HOST, Peer, Server, run
from tests.wire.faulty2 import Stream, server, speaking2

ROW = 11

TRUSTED = [
    b"X-Auth-User: root",
    b"Content-Type: text/html",
    b"Set-Cookie: a=b",
    b"X-Request-Id: 1",
    b"Connection: close",
    b"Via: 1.1 x",
]


@pytest.mark.parametrize("trailer", TRUSTED)
def test_a_trailer_is_dropped_and_the_connection_serves_again(trailer: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
                await peer.send(trailer + b"\r\n\r\n")

        async with Server(play) as found:
            client = Http1Client(found.upstream(), None)
            for _ in range(3):
                answer = await client.send("GET", "/", HOST, None)
                assert await answer.chunk() == b"ok"
                assert await answer.chunk() == b""
                assert answer.headers == [(b"x-a", b"1")]
            assert found.connections == 1
            await client.aclose()

    run(story)


def test_a_trailer_over_http_2_is_dropped() -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin((b"x-a", b"1"))
            await stream.send(b"ok")
            stream.connection.h2.send_headers(stream.number, [(b"x-auth-user", b"root")], end_stream=True)
            await stream.connection.flush()

        async with server(play) as found:
            client = Http2Client(speaking2(found), None, PoolLimits())
            answer = await client.send("GET", "/", HOST, None)
            assert await answer.chunk() == b"ok"
            assert await answer.chunk() == b""
            assert answer.headers == [(b"x-a", b"1")]
            await client.aclose()

    run(story)
