"""Streams of an upstream that never end a line, drip, or flood: memory stays bounded and a deadline stands behind."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client
from gateway.wire.http1_connection import READ_HIGH_BYTES
from tests.wire.faulty import HOST, Peer, Server, run, until

ROW = 39

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE_READ_BYTES = 256 * 1024  # what the loops read at most at once


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("piece", [b"x" * 65536, b"id: 1\n" * 10_000], ids=["no line end", "10k ids"])
def test_a_flood_waits_at_the_upstream_while_the_caller_is_slow(piece: bytes) -> None:
    async def story() -> None:
        sent = 0

        async def play(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(HEAD)
            data = chunk(piece)
            while sent < 100_000_000:
                await peer.send(data)
                sent += len(data)

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            tracemalloc.start()
            try:
                found = await client.send("GET", "/", HOST, None, stream=True)
                last = -1
                while sent != last or not sent:
                    last = sent
                    await asyncio.sleep(0.1)
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert sent < 50_000_000  # the rest is in the kernel's buffers, not here
            assert held < 8 * 1024 * 1024
            assert len(await found.chunk()) <= READ_HIGH_BYTES + ONE_READ_BYTES
            await found.aclose()
            await client.aclose()

    run(story)


def test_a_drip_that_ends_keeps_the_stream_and_one_that_stops_ends_it() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(HEAD)
            for _ in range(20):
                await peer.send(chunk(b"."))
                await asyncio.sleep(0.01)
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(stream_idle=0.15), None)
            found = await client.send("GET", "/", HOST, None, stream=True)
            got = 0
            while got < 20:
                got += len(await found.chunk())
            with pytest.raises(UpstreamFailed) as failure:
                await found.chunk()
            assert (failure.value.error, failure.value.timeout) == ("connection_read_timeout", True)
            await until(lambda: server.open == 0)
            await client.aclose()

    run(story)
