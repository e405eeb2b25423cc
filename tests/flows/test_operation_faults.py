"""What happens around an exchange: the caller leaves, the upstream breaks, policy is slow, the body is too large.

Each ends in the right status, one outcome that says what happened, and a connection that is closed or safely reused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rig import Running, gateway, run

from tests.flows.stage import EVENT_STREAM, calling, chunk, policy, staged
from tests.wire.faulty import Peer, answer

AT_ONCE = 1.0  # seconds; the deadlines of these upstreams are twice that


async def outcome(gate: Running) -> dict[str, Any]:
    records = await asyncio.to_thread(gate.records)
    found: dict[str, Any] = [record for record in records if record["kind"] == "outcome"][-1]
    return found


async def still_serves(gate: Running) -> None:
    """The next caller gets its own answer."""
    async with calling(gate.app.port) as caller:
        status, headers = await caller.ask("POST /files/x", gate.issuer.token())
        assert status == 200
        assert (await caller.reader.readexactly(int(headers["content-length"]))).startswith(b'{"jsonrpc"')


def test_a_caller_that_leaves_mid_stream_ends_the_upstreams_exchange_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    await caller.ask("GET /files/events", gate.issuer.token())
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    caller.leave()
                    async with asyncio.timeout(AT_ONCE):
                        await stage.cut.wait()
                found = await outcome(gate)
                assert (found["result"], found["response"]["status"]) == ("client_gone", 200)
                assert found["usage"]["bytes_out"] == len(b"data: 1\n\n")
                await still_serves(gate)

    run(story())


def test_a_caller_that_leaves_before_the_answer_ends_the_upstreams_exchange_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            asked = asyncio.Event()

            async def hang(peer: Peer) -> None:
                asked.set()
                await peer.gone()

            stage.plays["/hang"] = hang
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    waiting = asyncio.create_task(caller.ask("GET /files/hang", gate.issuer.token()))
                    await asked.wait()
                    caller.leave()
                    async with asyncio.timeout(AT_ONCE):
                        await stage.cut.wait()
                    with pytest.raises((asyncio.IncompleteReadError, OSError)):
                        await waiting
                assert (await outcome(gate))["result"] == "client_gone"
                await still_serves(gate)

    run(story())


def test_a_caller_that_leaves_a_socket_ends_the_upstreams(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
                    upgrade.append("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
                    status, _ = await caller.ask("GET /sockets", gate.issuer.token(), b"", *upgrade)
                    assert status == 101
                    caller.leave()
                    async with asyncio.timeout(AT_ONCE):
                        while not stage.socket_codes:  # noqa: ASYNC110 (the library's handler ends when it ends)
                            await asyncio.sleep(0.001)
                found = await outcome(gate)
                assert (found["action"], found["response"]["status"]) == ("ws.open", 101)
                assert found["result"] == "client_gone"

    run(story())


async def says(peer: Peer, *parts: bytes, reset: bool = False) -> None:
    for part in parts:
        await peer.send(part)
    if reset:
        peer.reset()
    raise ConnectionError("the upstream is gone")


async def late(peer: Peer) -> None:
    await peer.gone()


async def late_within(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
    await peer.gone()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
BEFORE: dict[str, tuple[Callable[[Peer], Awaitable[None]], int, str]] = {
    "an end": (says, 502, "upstream_gone"),
    "a reset": (lambda peer: says(peer, reset=True), 502, "upstream_gone"),
    "half a head": (lambda peer: says(peer, HEAD[:20]), 502, "upstream_gone"),
    "garbage": (lambda peer: says(peer, b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream_gone"),
    "two lengths": (lambda peer: says(peer, HEAD[:-2] + b"content-length: 9\r\n\r\n"), 502, "upstream_gone"),
    "silence": (late, 504, "timeout"),
}


@pytest.mark.parametrize("how", BEFORE)
def test_an_upstream_that_breaks_before_its_answer_is_a_bad_gateway(tmp_path: Path, how: str) -> None:
    play, status, result = BEFORE[how]

    async def story() -> None:
        async with staged() as stage:
            stage.plays |= {"/broken": play, "/mcp": play}
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    found, headers = await caller.ask("POST /files/broken", gate.issuer.token())
                    assert (found, headers["content-type"]) == (status, "application/problem+json")
                    assert "next-hop=files" in headers["proxy-status"]
                    body = json.loads(await caller.reader.readexactly(int(headers["content-length"])))
                    assert body["exchange_id"] == headers["x-request-id"]
                    message = b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"fine"}}'
                    kinds = "content-type: application/json", "accept: application/json, text/event-stream"
                    found, headers = await caller.ask(
                        "POST /tools", gate.issuer.token(), message, *kinds, "mcp-protocol-version: 2025-11-25"
                    )  # the caller's own connection is as good as before
                    body = json.loads(await caller.reader.readexactly(int(headers["content-length"])))
                    assert (found, body["id"]) == (status, 5)
                    assert body["error"]["data"]["reason"] in ("upstream_failed", "upstream_timeout")
                records = await asyncio.to_thread(gate.records)
                ended = [record for record in records if record["kind"] == "outcome"]
                assert [(each["result"], each["response"]["status"]) for each in ended] == [(result, status)] * 2
                await still_serves(gate)

    run(story())


WITHIN: dict[str, tuple[Callable[[Peer], Awaitable[None]], str]] = {
    "an end": (lambda peer: says(peer, HEAD + b"12345"), "upstream_gone"),
    "a reset": (lambda peer: says(peer, HEAD + b"12345", reset=True), "upstream_gone"),
    "half a chunk": (lambda peer: says(peer, EVENT_STREAM + chunk(b"data: 1\n\n") + b"9\r\nda"), "upstream_gone"),
    "a bad chunk": (lambda peer: says(peer, EVENT_STREAM + chunk(b"data: 1\n\n") + b"zz\r\n"), "upstream_gone"),
    "silence": (late_within, "timeout"),
}


@pytest.mark.parametrize("how", WITHIN)
def test_an_upstream_that_breaks_within_its_answer_is_not_taken_for_whole(tmp_path: Path, how: str) -> None:
    play, result = WITHIN[how]

    async def story() -> None:
        async with staged() as stage:
            stage.plays["/broken"] = play
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    status, headers = await caller.ask("GET /files/broken", gate.issuer.token())
                    assert status in (200, 502)  # 502 where the end was known before a byte was on its way
                    if status == 200:
                        if "content-length" in headers:
                            with pytest.raises((asyncio.IncompleteReadError, OSError)):
                                await caller.reader.readexactly(int(headers["content-length"]))
                        else:
                            assert await caller.is_cut()
                found = await outcome(gate)
                assert found["result"] == result, found
                await still_serves(gate)

    run(story())


def test_an_answer_followed_by_bytes_nobody_asked_for_is_nobodys_next_answer(tmp_path: Path) -> None:
    async def twice(peer: Peer) -> None:
        await peer.send(answer(b"mine") + answer(b"yours"))

    async def story() -> None:
        async with staged() as stage:
            stage.plays["/twice"] = twice
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    await caller.ask("GET /files/twice", gate.issuer.token())
                await still_serves(gate)

    run(story())


def test_a_judged_body_above_the_cap_is_too_large_and_nothing_leaves(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            front = {"judged_body_bytes": "1KiB"}
            with gateway(tmp_path, **stage.settings(tmp_path), front=front) as gate:
                kinds = "content-type: application/json", "accept: application/json, text/event-stream"
                message: dict[str, Any] = {"jsonrpc": "2.0", "id": 5, "method": "tools/call"}
                message["params"] = {"name": "fine", "arguments": {"a": "x" * 1024}}
                body = json.dumps(message).encode()
                async with calling(gate.app.port) as caller:
                    status, headers = await caller.ask("POST /tools", gate.issuer.token(), body, *kinds)
                    assert status == 413
                    said = json.loads(await caller.reader.readexactly(int(headers["content-length"])))
                    assert said["error"]["data"]["reason"] == "too_large"
                async with calling(gate.app.port) as caller:
                    chunked = b"POST /tools HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n"
                    chunked += b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                    caller.writer.write(chunked % gate.issuer.token().encode() + chunk(body) + b"0\r\n\r\n")
                    assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
                assert stage.heads == []
                records = await asyncio.to_thread(gate.records)
                reasons = [record["refusal"]["reason"] for record in records if record["kind"] == "refusal"]
                assert reasons == ["too_large", "too_large"]

    run(story())


SLOW = """\
package tollgate

decision := {"decision": true} if {
    some a in numbers.range(1, 100000)
    some b in numbers.range(1, 100000)
    a * b == -1
}
"""


def test_a_policy_that_is_late_denies_and_the_next_call_is_judged_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            slow = policy(tmp_path, SLOW, "slow") | {"timeout": "250ms"}
            with gateway(tmp_path, **stage.settings(tmp_path) | {"policy": slow}) as gate:
                for _ in range(2):
                    began = time.monotonic()
                    async with calling(gate.app.port) as caller:
                        status, headers = await caller.ask("POST /files/x", gate.issuer.token())
                    assert status == 503
                    assert headers["retry-after"] == "1"
                    assert time.monotonic() - began < 5
                assert stage.heads == []
                records = await asyncio.to_thread(gate.records)
                refusals = [record for record in records if record["kind"] == "refusal"]
                assert [each["refusal"]["reason"] for each in refusals] == ["policy_unavailable"] * 2
                assert all("in time" in each["decision"]["reason"] for each in refusals), refusals
                await asyncio.to_thread(gate.reload, policy={"bundle": str(tmp_path / "policies")})
                await still_serves(gate)

    run(story())
