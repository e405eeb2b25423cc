"""Streams under a budget that is counted in a real Redis: each step of a reservation is asked for over the network. The
ends are the same as in memory, also when nobody can be asked any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client as socket_client
from rig import gateway, run

from tests.flows.endless import ASKED, PIECE, Endless, budget, chat, events, outcome, said_back, told
from tests.flows.stage import calling, staged
from tests.stores.redis_server import server


@pytest.mark.parametrize("at_once", [1, 7])
def test_a_stream_ends_with_the_last_event_for_which_there_is_room(tmp_path: Path, at_once: int) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE), at_once=at_once)
        with server() as redis:
            counted: dict[str, Any] = {"stores": {"counters": f"redis://127.0.0.1:{redis.port}"}}
            async with told(tmp_path, upstream, "openai", budget("tokens", 5000), **counted) as (gate, http):
                answer = await http.post("/up/v1/chat/completions", json=ASKED)
                await asyncio.wait_for(upstream.given_up.wait(), 10)
                record = await outcome(gate)
        *got, error, done = events(answer.content)
        assert (error["error"]["code"], done) == ("budget_exhausted", b"[DONE]")
        assert len(got) == (5000 - record["usage"]["input_tokens"]) // 10
        assert record["budgets"][0]["reserved"] == "5000"

    run(story())


def test_when_redis_goes_away_a_stream_ends_with_what_it_had_reserved(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE), hold=50)  # 500 tokens, within the first step
        with server() as redis:
            counted: dict[str, Any] = {"stores": {"counters": f"redis://127.0.0.1:{redis.port}"}}
            async with told(tmp_path, upstream, "openai", budget("tokens", 100_000), **counted) as (gate, http):
                asking = asyncio.create_task(http.post("/up/v1/chat/completions", json=ASKED))
                await asyncio.wait_for(upstream.holds.wait(), 10)
                await asyncio.to_thread(redis.stop)
                upstream.released.set()
                answer = await asking
                await asyncio.wait_for(upstream.given_up.wait(), 10)
                record = await outcome(gate)
                await asyncio.to_thread(redis.again)
        *got, error, done = events(answer.content)
        assert (error["error"]["code"], done) == ("overloaded", b"[DONE]")
        reserved, asked = int(record["budgets"][0]["reserved"]), record["usage"]["input_tokens"]
        assert len(got) == (reserved - asked) // 10
        assert (record["refusal"]["reason"], record["refusal"]["rule"]) == ("overloaded", "counters")

    run(story())


def test_an_open_socket_is_closed_when_its_budget_runs_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with server() as redis:
                whole = {**stage.settings(tmp_path), "budgets": [budget("bytes", 400_000)]}
                whole["stores"] = {"counters": f"redis://127.0.0.1:{redis.port}"}
                with gateway(tmp_path, **whole) as gate:
                    echoed, ended = 0, None
                    headers = {"authorization": f"Bearer {gate.issuer.token()}"}
                    address = f"ws://127.0.0.1:{gate.app.port}/sockets"
                    async with socket_client.connect(address, additional_headers=headers) as socket:
                        while ended is None:
                            said, ended = await said_back(socket, "x" * 10_000)
                            echoed += len(said)
                    record = await outcome(gate)
        assert (ended.code, echoed) == (1008, 200_000)
        assert record["budgets"][0]["settled"] == "400000"

    run(story())


def test_a_caller_that_leaves_while_a_step_is_asked_for_leaves_nothing_reserved(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE), hold=50)
        with server() as redis:
            counted: dict[str, Any] = {"stores": {"counters": f"redis://127.0.0.1:{redis.port}"}}
            async with told(tmp_path, upstream, "openai", budget("tokens", 100_000), **counted) as (gate, _):
                async with calling(gate.app.port) as caller:
                    token = gate.issuer.token()
                    body = b'{"model":"m","stream":true,"messages":[]}'
                    line = "POST /up/v1/chat/completions"
                    await caller.ask(line, token, body, "content-type: application/json")
                    await asyncio.wait_for(upstream.holds.wait(), 10)
                    await asyncio.to_thread(redis.halt)
                    upstream.released.set()
                    got = 0
                    while got < 51:  # behind 512 tokens the next step is asked for
                        got += (await caller.chunk()).count(b"\n\n")
                    caller.leave()
                    await asyncio.wait_for(upstream.given_up.wait(), 10)
                    await asyncio.to_thread(redis.go_on)
                record = await outcome(gate)
                [held] = record["budgets"]
                settled = held["settled"]
                key = '{tollgate}account:story::["agent:idp/planner"]'

                def stands() -> tuple[bytes, bytes]:
                    found = redis.client().hgetall(key)
                    return found.get(b"s", b""), found.get(b"r", b"")

                async with asyncio.timeout(10):
                    while await asyncio.to_thread(stands) != (settled.encode(), b"0"):  # noqa: ASYNC110 (Redis's)
                        await asyncio.sleep(0.01)
        assert record["result"] in ("client_gone", "error")  # a Redis that was slow for too long ends it as well

    run(story())
