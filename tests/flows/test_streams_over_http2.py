"""Streams of HTTP/2 upstreams that are stopped or left: given up or read on, settled once, as over HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from rig import run

from tests.flows.endless import ASKED, PIECE, Endless, budget, chat, events, outcome, told
from tests.flows.stage import calling, left
from tests.wire.faulty import until
from tests.wire.faulty2 import Stream, server

LINE = ("POST /up/v1/chat/completions", "content-type: application/json")
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":700}}\n\ndata: [DONE]\n\n'


class Endless2(Endless):
    """The same over HTTP/2; the end of the connection is how it is told to stop."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.options = {"http": "2"}
        self.server = server(self._stream)

    async def _stream(self, stream: Stream) -> None:
        await stream.body()
        await stream.begin((b"content-type", b"text/event-stream"))
        try:
            while not self.count or self.sent < self.count:
                self.sent += 1
                await stream.send(self.event)
                await asyncio.sleep(0)
                if self.sent == self.hold:
                    self.holds.set()
                    await self.released.wait()
            await stream.send(self.end, end=True)
        except (asyncio.CancelledError, OSError):
            self.given_up.set()
            raise


def test_a_stream_ends_with_the_last_event_for_which_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless2(chat(PIECE))
        async with told(tmp_path, upstream, "openai", budget("tokens", 3000)) as (gate, http):
            answer = await http.post("/up/v1/chat/completions", json=ASKED)
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
        *got, error, done = events(answer.content)
        assert (error["error"]["code"], done) == ("budget_exhausted", b"[DONE]")
        assert len(got) == (3000 - record["usage"]["input_tokens"]) // 10

    run(story())


@pytest.mark.parametrize("drain", [False, True])
def test_a_caller_that_leaves_is_settled_once(tmp_path: Path, drain: bool) -> None:
    async def story() -> None:
        upstream = Endless2(chat(PIECE), 70, USAGE, hold=10)
        upstream.options |= {"on_client_gone": "drain"} if drain else {}
        async with told(tmp_path, upstream, "openai", budget("tokens", 10**6)) as (gate, _):
            async with calling(gate.app.port) as caller:
                body = json.dumps(ASKED).encode()
                await caller.ask(LINE[0], gate.issuer.token(), body, LINE[1])
                await asyncio.wait_for(upstream.holds.wait(), 10)
                got = 0
                while got < 10:
                    got += (await caller.chunk()).count(b"\n\n")
                caller.leave()
            if not drain:
                await asyncio.wait_for(upstream.given_up.wait(), 10)
            else:
                await until(lambda: left(gate))
            upstream.released.set()
            record = await outcome(gate)
        usage = record["usage"]
        assert record["result"] == "client_gone"
        assert usage["output_tokens"] == (700 if drain else 100)
        assert usage.get("estimated", False) is not drain
        assert record["budgets"][0]["settled"] == str(usage["input_tokens"] + usage["output_tokens"])

    run(story())
