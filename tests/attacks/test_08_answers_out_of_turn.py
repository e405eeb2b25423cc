"""Response desync towards upstreams: more bytes than one answer are nobody's answer, whenever they come."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http1_connection import MAX_INTERIM
from tests.wire.faulty import HOST, Peer, Server, answer, run, until

ROW = 8

EVIL = answer(b"evil")
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def framed(body: bytes, kind: str) -> bytes:
    if kind == "length":
        return answer(body)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("pause", [None, 0.0, 0.002, 0.01])
def test_a_second_answer_is_never_given_to_the_next_caller(kind: str, pause: float | None) -> None:
    """In the same packet, right behind, or while the connection rests: each caller gets the answer to its own words."""

    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                _, body = await peer.request()
                if pause is None:
                    await peer.send(framed(body, kind) + EVIL)
                    continue
                await peer.send(framed(body, kind))
                await asyncio.sleep(pause)
                await peer.send(EVIL)

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in range(40):
                found = await client.send("POST", "/", HOST, b"%d" % number)
                assert await _whole(found) == b"%d" % number
                if pause:
                    await asyncio.sleep(2 * pause)
            await client.aclose()

    run(story)


def test_interim_answers_end_at_their_limit_and_none_goes_on() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                _, body = await peer.request()
                await peer.send(INTERIM * int(body) + answer(body))

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            assert await _whole(await client.send("POST", "/", HOST, b"%d" % MAX_INTERIM)) == b"%d" % MAX_INTERIM
            for count in (MAX_INTERIM + 1, 10_000):
                with pytest.raises(UpstreamFailed) as failure:
                    await client.send("POST", "/", HOST, b"%d" % count)
                assert failure.value.error == "http_protocol_error"
            await until(lambda: client.in_flight == 0)
            await client.aclose()

    run(story)


def test_answers_and_what_is_behind_them_in_any_pieces_never_mix() -> None:
    chance = random.Random(8)

    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                _, body = await peer.request()
                data = INTERIM * chance.randint(0, 3) + framed(body, chance.choice(["length", "chunked"]))
                if chance.random() < 0.5:
                    data += chance.choice([EVIL, b"\r\n", b"x", b"0\r\n\r\n", INTERIM])
                while data:
                    size = chance.randint(1, len(data))
                    await peer.send(data[:size])
                    data = data[size:]
                    if chance.random() < 0.3:
                        await asyncio.sleep(0)

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None, PoolLimits(connections=4))
            told: list[bytes] = []

            async def caller(name: int) -> None:
                for turn in range(60):
                    words = b"%d/%d" % (name, turn)
                    try:
                        found = await client.send("POST", "/", HOST, words)
                        assert await _whole(found) == words
                    except UpstreamFailed:  # a late surplus met the request: told, never mixed
                        told.append(words)

            await asyncio.gather(*(caller(name) for name in range(8)))
            assert len(told) < 240
            await client.aclose()

    run(story)


async def _whole(found) -> bytes:  # type: ignore[no-untyped-def]
    body = b""
    while chunk := await found.chunk():
        body += chunk
    return body
