"""A pooled connection that gives one caller's answer to another: cancelled at random moments, never a foreign word."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http2 import Http2Client
from tests.wire.faulty import HOST, Peer, Server, chunks, descriptors, run, until
from tests.wire.faulty2 import Stream, server, speaking2

ROW = 70


class Callers:
    """Many callers of one client; each says its own words and must hear nothing else. Most are cut off on the way."""

    def __init__(self, client: Http1Client | Http2Client, seed: int) -> None:
        self.client = client
        self.chance = random.Random(seed)
        self.cut = 0
        self.heard = 0

    async def call(self, words: bytes) -> None:
        body = words if self.chance.random() < 0.7 else chunks(words[:3], words[3:])
        found = await self.client.send("POST", "/", HOST, body)
        got = b""
        try:
            while data := await found.chunk():
                got += data
                assert words.startswith(got), (words, got)
            assert got == words, (words, got)
            self.heard += 1
        finally:
            await found.aclose()

    async def one(self, number: int) -> None:
        task = asyncio.create_task(self.call(b"words of caller %d." % number))
        if self.chance.random() < 0.75:
            for _ in range(self.chance.randint(0, 14)):
                await asyncio.sleep(0)
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.random() * 0.004)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            self.cut += 1

    async def many(self, count: int, width: int) -> None:
        for start in range(0, count, width):
            await asyncio.gather(*(self.one(number) for number in range(start, start + width)))


async def play1(peer: Peer) -> None:
    """Answers in pieces, so that there are many moments to be cut at."""
    chance = random.Random(peer.number)
    while True:
        _, body = await peer.request()
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.002)
        if chance.random() < 0.5:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            await peer.send(body[:5])
            await asyncio.sleep(0)
            await peer.send(body[5:])
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body))
            await asyncio.sleep(0)
            await peer.send(b"0\r\n\r\n")


@pytest.mark.parametrize(("connections", "seed"), [(4, 1), (64, 2)])
def test_thousands_of_cut_calls_never_leave_an_answer_to_somebody_else(connections: int, seed: int) -> None:
    async def story() -> None:
        async with Server(play1) as found:
            client = Http1Client(found.upstream(), None, PoolLimits(connections=connections))
            callers = Callers(client, seed)
            await callers.many(2000, 32)
            assert callers.cut > 500
            assert callers.heard > 300
            assert client.in_flight == 0
            await client.aclose()
            await until(lambda: found.open == 0)

    run(story)


@pytest.mark.slow
def test_ten_thousand_more_with_other_seeds() -> None:
    async def story() -> None:
        async with Server(play1) as found:
            before = descriptors()
            for seed in range(5):
                client = Http1Client(found.upstream(), None, PoolLimits(connections=8 * (seed + 1)))
                callers = Callers(client, 100 + seed)
                await callers.many(1200, 48)
                assert client.in_flight == 0
                await client.aclose()
                await until(lambda: found.open == 0)
                await until(lambda: descriptors() <= before)

    run(story)


def test_cut_calls_over_http_2_never_leave_an_answer_to_somebody_else() -> None:
    async def play(stream: Stream) -> None:
        body = await stream.body()
        await stream.begin()
        await stream.send(body[:5])
        await asyncio.sleep(0)
        await stream.send(body[5:], end=True)

    async def story() -> None:
        async with server(play) as found:
            client = Http2Client(speaking2(found), None, PoolLimits(connections=16))
            callers = Callers(client, 3)
            await callers.many(320, 32)
            assert callers.cut > 80
            assert callers.heard > 60
            assert client.in_flight == 0
            await client.aclose()
            await until(lambda: found.open == 0)

    run(story)


def test_a_call_cut_at_each_turn_of_the_loop_leaves_the_next_one_its_own_answer() -> None:
    async def story() -> None:
        async with Server(play1) as found:
            client = Http1Client(found.upstream(), None, PoolLimits(connections=1))
            for turns in range(60):
                first = asyncio.create_task(client.send("POST", "/", HOST, b"first %d" % turns))
                for _ in range(turns % 20):
                    await asyncio.sleep(0)
                first.cancel()
                try:
                    late = await first
                except asyncio.CancelledError:
                    pass
                else:
                    await late.aclose()
                callers = Callers(client, turns)
                await callers.call(b"second %d" % turns)
            assert client.in_flight == 0
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/a b", HOST, None)
            await client.aclose()

    run(story)
