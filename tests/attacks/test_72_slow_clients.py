"""Slow clients in numbers, in real time: a good one beside them notices nothing, and they all end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.wire.front_rig import Listener, Wire, listening, request

ROW = 72
CLOSE = b"Connection: close"


def slowest(front: Listener, rounds: int = 30) -> float:
    """Seconds of the slowest of some good requests, each on a connection of its own."""
    worst = 0.0
    for _ in range(rounds):
        begin = time.monotonic()
        assert [
            answer.status for answer in front.ask(request(b"POST", b"/", b"Content-Length: 2", CLOSE, body=b"ok"))
        ] == [200]
        worst = max(worst, time.monotonic() - begin)
    return worst


def ended(front: Listener, wires: list[Wire]) -> None:
    front.until(lambda: not front.front.door.inside)
    for wire in wires:
        wire.sock.close()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_hundred_half_open_heads_do_not_delay_a_good_client(start: bytes) -> None:
    with listening(head_timeout=0.8, half_open_per_peer=64) as front:
        wires = [front.connect() for _ in range(100)]
        for wire in wires:
            wire.send(start)
        assert slowest(front) < 1.0
        ended(front, wires)


def test_a_hundred_slow_bodies_do_not_delay_a_good_client() -> None:
    with listening(body_timeout=0.8) as front:
        wires = [front.connect() for _ in range(100)]
        for wire in wires:
            wire.send(request(b"POST", b"/", b"Content-Length: 1000", body=b"x"))
        assert slowest(front) < 1.0
        ended(front, wires)
        assert {seen.ended for seen in front.seen if seen.body != b"ok"} == {"refused"}


def test_many_slow_readers_do_not_delay_a_good_client() -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not body:
            await send({"type": "http.response.body", "body": b"x" * 60_000, "more_body": True})
        await send({"type": "http.response.body", "body": body})

    with listening(large, body_timeout=2.0) as front:
        wires = [front.connect() for _ in range(40)]
        for wire in wires:
            wire.send(request())
        front.until(lambda: front.front.exchanges == 40)
        assert slowest(front) < 1.0
        ended(front, wires)


def test_dripping_heads_end_as_soon_as_silent_ones() -> None:
    with listening(head_timeout=0.6) as front:
        wires = [front.connect() for _ in range(20)]
        begin = time.monotonic()
        for wire in wires:
            wire.send(b"GET / HTTP/1.1\r\n")
        while front.call(lambda: len(front.front.door.inside)) and time.monotonic() - begin < 10:
            for wire in wires:
                wire.send(b"X: y\r\n")
            front.call(lambda: None)
        assert time.monotonic() - begin < 10
        ended(front, wires)
