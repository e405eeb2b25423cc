"""Compression bombs of an upstream: nothing is inflated here, and what would have to be is refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http2 import Http2Client
from gateway.wire.relay import WebSockets
from gateway.wire.websocket import Declined
from tests.wire.faulty import HOST, Peer, Server, answer, run, until
from tests.wire.faulty2 import Stream, server, speaking2
from tests.wire.test_websocket import _handshake

ROW = 73

BOMB = gzip.compress(b"\0" * 50_000_000)


def test_a_compressed_body_passes_as_it_is_and_no_larger() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(BOMB, b"Content-Encoding: gzip"))
            await peer.gone()

        async with Server(play) as found:
            client = Http1Client(found.upstream(), None)
            tracemalloc.start()
            try:
                got = await client.send("GET", "/", HOST, None)
                size = 0
                while data := await got.chunk():
                    size += len(data)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert size == len(BOMB)
            assert peak < 5_000_000
            assert (b"content-encoding", b"gzip") in got.headers
            await client.aclose()

    run(story)


def test_a_compressed_body_over_http_2_passes_as_it_is() -> None:
    async def story() -> None:
        async def play(stream: Stream) -> None:
            await stream.begin((b"content-encoding", b"gzip"))
            await stream.send(BOMB, end=True)

        async with server(play) as found:
            client = Http2Client(speaking2(found), None, PoolLimits())
            got = await client.send("GET", "/", HOST, None)
            data = b""
            while part := await got.chunk():
                data += part
            assert data == BOMB
            await client.aclose()

    run(story)


@pytest.mark.parametrize("entries", [200, 20_000])
def test_header_tables_that_unpack_without_end_are_refused(entries: int) -> None:
    """One long indexed field, then a reference to it per byte."""

    async def story() -> None:
        async def play(stream: Stream) -> None:
            block = stream.connection.h2.encoder.encode([(b":status", b"200"), (b"x-bomb", b"y" * 3000)])
            last = stream.connection.h2.encoder.encode([(b"x-bomb", b"y" * 3000)])
            payload = block + last * entries
            frames = b""
            for start in range(0, len(payload), 16384):
                part = payload[start : start + 16384]
                end = 0x4 if start + 16384 >= len(payload) else 0
                kind = 1 if start == 0 else 9
                frames += len(part).to_bytes(3, "big") + bytes([kind, end]) + stream.number.to_bytes(4, "big") + part
            await stream.connection.peer.send(frames)

        async with server(play) as found:
            client = Http2Client(speaking2(found), None, PoolLimits())
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/", HOST, None)
            await until(lambda: found.open == 0)
            await client.aclose()

    run(story)


@pytest.mark.parametrize("choose", [True, False], ids=["extension chosen", "frame marked"])
def test_a_deflated_websocket_frame_is_never_inflated(choose: bool) -> None:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b"\0" * 10_000_000) + packer.flush()
    frame = b"\xc2\x7e" + len(packed).to_bytes(2, "big") + packed  # RSV1: compressed

    async def story() -> None:
        async def play(peer: Peer) -> None:
            extra = [b"Sec-WebSocket-Extensions: permessage-deflate"] if choose else []
            await peer.send(_handshake(await peer.head(), *extra) + frame)
            await peer.gone()

        async with Server(play) as found:
            sockets = WebSockets(lambda _: None, max_message_bytes=1_000_000)
            if choose:
                with pytest.raises(UpstreamFailed):
                    await sockets.connect(found.upstream(), "/", HOST, [])
            else:
                socket = await sockets.connect(found.upstream(), "/", HOST, [])
                assert not isinstance(socket, Declined)
                closed = await socket.receive()
                assert not isinstance(closed, str | bytes)
                assert closed.code == 1006
            await until(lambda: found.open == 0)

    run(story)
