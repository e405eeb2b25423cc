"""A caller that leaves before its answer is over: its upstream is given up at once or, where the configuration says so,
read on for what it says of its usage, within bounds; either way there is one record and nothing is left open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rig import Running, gateway, run

from tests.flows.canned import open_policy
from tests.flows.stage import EVENT_STREAM, Caller, calling, chunk, left
from tests.wire.faulty import Peer, Server, answer, until

ASKED = json.dumps({"model": "m", "max_tokens": 64, "messages": [], "stream": True}).encode()
WORD = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


class Model:
    """Sends what it is told to; `given_up` once the gateway has ended the connection before the answer's end."""

    def __init__(self) -> None:
        self.asked, self.given_up = asyncio.Event(), asyncio.Event()
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.server = Server(self._play)

    def say(self, *data: bytes | None) -> None:
        for each in data:
            self.said.put_nowait(each)

    async def _play(self, peer: Peer) -> None:
        await peer.request()
        self.asked.set()
        gone = asyncio.ensure_future(peer.gone())
        try:
            while True:
                said = asyncio.ensure_future(self.said.get())
                await asyncio.wait({said, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not said.done():
                    said.cancel()
                    self.given_up.set()
                    return
                data = said.result()
                if data is None:
                    return
                await peer.send(data)
        finally:
            gone.cancel()
            await asyncio.wait([gone])


@asynccontextmanager
async def model(folder: Path, **upstream: Any) -> AsyncIterator[tuple[Model, Running]]:
    found = Model()
    async with found.server:
        where = {"url": f"http://127.0.0.1:{found.server.port}", "protocol": "openai", **upstream}
        routes = [{"name": "openai", "match": {"path": "/openai"}, "upstream": "openai"}]
        with gateway(folder, policy=open_policy(folder), upstreams={"openai": where}, routes=routes) as gate:
            yield found, gate


async def ask(gate: Running, caller: Caller, said: Model, body: bytes = ASKED) -> None:
    """Sends a request; returns when the upstream has it."""
    caller.writer.write(
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (gate.issuer.token().encode(), len(body), body)
    )
    await said.asked.wait()


async def gone(gate: Running, caller: Caller, said: Model) -> None:
    """Asks, and leaves in the middle of the answer."""
    await ask(gate, caller, said)
    said.say(EVENT_STREAM + chunk(WORD))
    await caller.reader.readuntil(b"\r\n\r\n")
    assert await caller.chunk() == WORD
    caller.leave()


async def ended(gate: Running) -> dict[str, Any]:
    records = await asyncio.to_thread(gate.records)
    [outcome] = [record for record in records if record["kind"] == "outcome"]
    return outcome


DRAIN = {"on_client_gone": "drain"}
LOUD = chunk(b": " + b"x" * 4096 + b"\n\n")


def test_without_a_word_on_it_the_upstream_is_given_up_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path) as (said, gate), calling(gate.app.port) as caller:
            await gone(gate, caller, said)
            await said.given_up.wait()
            outcome = await ended(gate)
        assert (outcome["result"], outcome["usage"]["estimated"]) == ("client_gone", True)

    run(story())


def test_drained_the_usage_is_what_the_upstream_says_at_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path, **DRAIN) as (said, gate), calling(gate.app.port) as caller:
            await gone(gate, caller, said)
            await until(lambda: left(gate))
            said.say(chunk(WORD), chunk(WORD + USAGE), chunk(DONE) + b"0\r\n\r\n", None)
            outcome = await ended(gate)
            assert not said.given_up.is_set()
        usage = outcome["usage"]
        assert (outcome["result"], usage["input_tokens"], usage["output_tokens"]) == ("client_gone", 9, 3)
        assert "estimated" not in usage
        assert usage["bytes_out"] == outcome["response"]["bytes"] == len(WORD)  # what the caller got

    run(story())


def test_drained_also_when_the_caller_leaves_before_the_head_of_the_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path, **DRAIN) as (said, gate), calling(gate.app.port) as caller:
            await ask(gate, caller, said, ASKED.replace(b"true", b"false"))
            caller.leave()
            await until(lambda: left(gate))
            body = b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}'
            said.say(answer(body, b"Content-Type: application/json"), None)
            outcome = await ended(gate)
        usage = outcome["usage"]
        assert (outcome["result"], usage["input_tokens"], usage["output_tokens"]) == ("client_gone", 9, 3)
        assert usage["bytes_out"] == 0

    run(story())


def test_a_drain_ends_after_so_many_bytes(tmp_path: Path) -> None:
    async def story() -> None:
        bounds = {"drain_bytes": "8KiB", "drain_for": "10m"}
        async with model(tmp_path, **DRAIN, **bounds) as (said, gate), calling(gate.app.port) as caller:
            await gone(gate, caller, said)
            await until(lambda: left(gate))
            said.say(LOUD)
            said.say(LOUD, LOUD)
            await asyncio.wait_for(said.given_up.wait(), 10)
            outcome = await ended(gate)
        assert (outcome["result"], outcome["usage"]["estimated"]) == ("client_gone", True)

    run(story())


def test_a_drain_ends_after_so_long_also_where_nothing_comes(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path, **DRAIN, drain_for="300ms") as (said, gate), calling(gate.app.port) as caller:
            await gone(gate, caller, said)
            began = time.monotonic()
            await asyncio.wait_for(said.given_up.wait(), 10)
            assert 0.2 < time.monotonic() - began < 5
            outcome = await ended(gate)
        assert (outcome["result"], outcome.get("fault")) == ("client_gone", None)

    run(story())


def test_what_was_not_forwarded_yet_is_not_gone_on_with(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path, **DRAIN) as (said, gate), calling(gate.app.port) as caller:
            caller.writer.write(
                b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"authorization: Bearer %b\r\ncontent-length: 100\r\n\r\n{" % gate.issuer.token().encode()
            )
            await until(lambda: gate.app.status()["exchanges"] == 1)
            caller.leave()
            records = await asyncio.to_thread(gate.records)
            assert [record["kind"] for record in records if "exchange" in record] == ["refusal"]
            assert not said.asked.is_set()

    run(story())


def test_a_request_that_the_upstream_has_not_whole_is_given_up(tmp_path: Path) -> None:
    async def story() -> None:
        said = Model()
        async with said.server:
            where = {"url": f"http://127.0.0.1:{said.server.port}", "protocol": "http", **DRAIN, "drain_for": "10m"}
            routes = [{"name": "files", "match": {"path": "/files"}, "upstream": "files"}]
            with gateway(tmp_path, policy=open_policy(tmp_path), upstreams={"files": where}, routes=routes) as gate:
                async with calling(gate.app.port) as caller:
                    caller.writer.write(
                        b"PUT /files/a HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n"
                        b"content-length: 100\r\n\r\nbegun" % gate.issuer.token().encode()
                    )
                    await until(lambda: said.server.open == 1)
                    caller.leave()
                    outcome = await ended(gate)
        assert outcome["result"] == "client_gone"

    run(story())


def test_a_gateway_that_goes_down_waits_for_a_drain_no_longer_than_for_anything(tmp_path: Path) -> None:
    async def story() -> None:
        async with model(tmp_path, **DRAIN) as (said, gate), calling(gate.app.port) as caller:
            await gone(gate, caller, said)
            await until(lambda: left(gate))
            await asyncio.to_thread(gate.call, gate.app.stop(0.1))
            await said.given_up.wait()

    run(story())
