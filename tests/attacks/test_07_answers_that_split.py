"""Response splitting: whatever an upstream puts into its head, no line of it becomes another line here."""

from __future__ import annotations

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client
from tests.wire.faulty import HOST, Peer, Server, answer, run, until

ROW = 7

CONTROLS = [bytes([byte]) for byte in (*range(9), *range(10, 32), 127)]
SPLITS = [
    b"\r\nX-Auth-User: root",
    b"\nX-Auth-User: root",
    b"\rX-Auth-User: root",
    b"\r\n\r\nHTTP/1.1 200 OK",
    b"\r\n folded",
    b"\x85",
]
STATUS = [
    b"HTTP/1.1 200",
    b"HTTP/1.1 OK",
    b"HTTP/1.1 20",
    b"HTTP/1.1 6000 X",
    b"HTTP/3 200 OK",
    b"200 OK",
    b"",
    b"HTTP/1.1",
    b"<html>",
]


def heads() -> list[bytes]:
    good = b"Content-Length: 2\r\n\r\nok"
    in_values = [b"HTTP/1.1 200 OK\r\nX-A: a" + mark + b"b\r\n" + good for mark in CONTROLS if mark != b"\n"]
    in_names = [b"HTTP/1.1 200 OK\r\nX-" + mark + b"A: b\r\n" + good for mark in (*CONTROLS, b" ", b"\xe9", b"(", b'"')]
    in_reasons = [b"HTTP/1.1 200 O" + mark + b"K\r\n" + good for mark in CONTROLS]
    lines = [status + b"\r\n" + good for status in STATUS if status != b"HTTP/1.1 200"]
    return [*in_values, *in_names, *in_reasons, *lines]


@pytest.mark.parametrize("chunk", [1_000_000, 1], ids=["at once", "byte by byte"])
def test_a_head_with_a_control_byte_or_a_junk_status_is_a_failure_and_its_connection_serves_nobody(chunk: int) -> None:
    async def story() -> None:
        found = heads()
        cases = iter(found)

        async def play(peer: Peer) -> None:
            await peer.request()
            data = next(cases)
            for start in range(0, len(data), chunk):
                await peer.send(data[start : start + chunk])
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(response=2.0), None)
            for number in range(1, len(found) + 1):
                with pytest.raises(UpstreamFailed) as failure:
                    await client.send("GET", "/", HOST, None, idempotent=True)
                assert not failure.value.timeout, found[number - 1]
                assert server.connections == number
                await until(lambda: server.open == 0)
            await client.aclose()

    run(story)


@pytest.mark.parametrize("mark", SPLITS, ids=repr)
def test_no_value_carries_a_line_break_out_of_the_client(mark: bytes) -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nX-A: a" + mark + b"\r\nContent-Length: 2\r\n\r\nok")
            await peer.gone()

        async with Server(play) as server:
            client = Http1Client(server.upstream(response=2.0), None)
            try:
                found = await client.send("GET", "/", HOST, None)
            except UpstreamFailed:
                pass
            else:
                assert all(b"\r" not in value and b"\n" not in value for _, value in found.headers)
                assert mark.startswith((b"\r\n", b"\x85"))  # whole lines of the upstream's own
                await found.aclose()
            await client.aclose()

    run(story)


@pytest.mark.parametrize("mark", [b"\r\n", b"\r", b"\n", b"\0"], ids=repr)
def test_no_line_break_of_a_request_reaches_an_upstream(mark: bytes) -> None:
    async def story() -> None:
        async with Server(_never) as server:
            client = Http1Client(server.upstream(), None)
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/", [*HOST, (b"x-a", b"a" + mark + b"X-Auth-User: root")], None)
            with pytest.raises(UpstreamFailed):
                await client.send("GET", "/a" + mark.decode() + "b", HOST, None)
            assert server.connections == 0

    run(story)


async def _never(peer: Peer) -> None:
    await peer.send(answer(b"never asked"))
