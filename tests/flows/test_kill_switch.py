"""The kill switch under open streams: what is blocked ends within a second, in its protocol's own way, with one record
each; what is not blocked goes on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets.asyncio.client as socket_client
from rig import Running, gateway, run
from websockets.exceptions import ConnectionClosed

from tests.flows.stage import Caller, Stage, calling, staged

SECONDS = 1.0
SLACK = 0.5  # for a machine that does other things too
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%b","arguments":{}}}'


async def block(gate: Running, agent: str, verb: str = "block") -> None:
    headers = {"authorization": f"Bearer {gate.admin_token}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        answer = await http.post(f"{gate.admin_url}/api/v1/agents/{verb}", json={"agent": agent})
        assert answer.status_code == 200, answer.text


async def cut(caller: Caller) -> tuple[str, float]:
    """How an event stream ended, and when: `cut` is the transfer coding without its end, `done` a proper end."""
    return "cut" if await caller.is_cut() else "done", time.monotonic()


async def closed(socket: socket_client.ClientConnection) -> tuple[str, float]:
    with pytest.raises(ConnectionClosed) as found:
        await socket.recv()
    assert found.value.rcvd is not None
    return f"{found.value.rcvd.code} {found.value.rcvd.reason}", time.monotonic()


class Open:
    """Streams of one caller through a gateway, each waited for in a task of its own."""

    def __init__(self, gate: Running, token: str, stack: AsyncExitStack) -> None:
        self.gate, self.token, self.stack = gate, token, stack
        self.ends: list[asyncio.Task[tuple[str, float]]] = []

    async def events(self, count: int, line: str, *headers: str, body: bytes = b"") -> None:
        for _ in range(count):
            caller = await self.stack.enter_async_context(calling(self.gate.app.port))
            status, answered = await caller.ask(line, self.token, body, *headers)
            assert (status, answered["content-type"]) == (200, "text/event-stream")
            self.ends.append(asyncio.create_task(cut(caller)))

    async def sockets(self, count: int) -> None:
        headers = {"authorization": f"Bearer {self.token}"}
        for _ in range(count):
            address = f"ws://127.0.0.1:{self.gate.app.port}/sockets"
            socket = await self.stack.enter_async_context(socket_client.connect(address, additional_headers=headers))
            await socket.send("hello")
            assert await socket.recv() == "hello"
            self.ends.append(asyncio.create_task(closed(socket)))

    async def ended(self, began: float) -> Counter[str]:
        """How all of them ended; fails for one that took longer."""
        found = await asyncio.wait_for(asyncio.gather(*self.ends), 10)
        assert max(when for _, when in found) - began < SECONDS + SLACK
        return Counter(how for how, _ in found)

    def nothing_ended(self) -> bool:
        return not any(task.done() for task in self.ends)


def staging(stage: Stage, folder: Path) -> dict[str, Any]:
    stage.plays["/mcp"] = stage._events
    whole = stage.settings(folder)
    for upstream in whole["upstreams"].values():
        upstream.pop("timeouts", None)
    return whole


GET_MCP = ("GET /tools", "accept: text/event-stream", "mcp-protocol-version: 2025-11-25")
POST_MCP = (
    "POST /tools", "content-type: application/json", "accept: application/json, text/event-stream",
    "mcp-protocol-version: 2025-11-25",
)  # fmt: skip


def outcomes(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    long = ("http.GET", "ws.open", "mcp.stream.open", "mcp.tools/call")
    return [each for each in records if each["kind"] == "outcome" and each["action"] in long]


def test_blocking_agents_ends_their_fifty_streams_and_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage, AsyncExitStack() as stack:
            whole = staging(stage, tmp_path)
            whole["upstreams"]["spared"] = dict(whole["upstreams"]["files"])
            whole["routes"].append({"name": "spared", "match": {"path": "/spared"}, "upstream": "spared"})
            gate = stack.enter_context(gateway(tmp_path, **whole))
            async with AsyncExitStack() as callers:
                open_, spared = (Open(gate, gate.issuer.token(), callers) for _ in range(2))
                await open_.events(20, "GET /files/events")
                await open_.sockets(20)
                await open_.events(10, *GET_MCP)
                await spared.events(2, "GET /spared/events")
                assert gate.app.status()["streams"] == 32
                began = time.monotonic()
                await asyncio.gather(*(block(gate, agent) for agent in ("files", "sockets", "tools")))
                reason = "blocked: the agent sockets was blocked while the stream was open"
                assert await open_.ended(began) == {"cut": 30, f"1008 {reason}": 20}
                assert spared.nothing_ended()
                async with calling(gate.app.port) as caller:
                    assert (await caller.ask("GET /files/events", gate.issuer.token()))[0] == 403
            records = await asyncio.to_thread(gate.records)
            ended = [each for each in outcomes(records) if each["route"] != "spared"]
            assert Counter(each["action"] for each in ended) == {"http.GET": 20, "ws.open": 20, "mcp.stream.open": 10}
            assert {each["result"] for each in ended} == {"error"}
            assert all("blocked: the agent" in each["fault"] for each in ended)
            assert len({each["exchange"] for each in ended}) == 50
            blocks = [each for each in records if each.get("action") == "descriptor.block"]
            assert sorted(each["resource"]["id"] for each in blocks) == ["files", "sockets", "tools"]

    run(story())


def test_blocking_a_caller_ends_its_streams_and_refuses_it_until_it_is_let_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage, AsyncExitStack() as stack:
            gate = stack.enter_context(gateway(tmp_path, **staging(stage, tmp_path)))
            async with AsyncExitStack() as callers:
                bad, good = gate.issuer.token("planner"), gate.issuer.token("other")
                open_, spared = Open(gate, bad, callers), Open(gate, good, callers)
                for each, count in ((open_, 5), (spared, 1)):
                    await each.events(count, "GET /files/events")
                    await each.sockets(count)
                    await each.events(count, *GET_MCP)
                began = time.monotonic()
                await block(gate, "agent:idp/planner")
                found = await open_.ended(began)
                assert (found["cut"], sum(found.values())) == (10, 15)
                assert spared.nothing_ended()
                for token, status in ((bad, 403), (good, 200)):
                    async with calling(gate.app.port) as caller:
                        assert (await caller.ask("GET /files/events", token))[0] == status
                await block(gate, "agent:idp/planner", "unblock")
                async with calling(gate.app.port) as caller:
                    assert (await caller.ask("GET /files/events", bad))[0] == 200
            records = await asyncio.to_thread(gate.records)
            [refused] = [each for each in records if each["kind"] == "refusal"]
            assert refused["subject"]["id"] == "agent:idp/planner"
            assert refused["refusal"] == {
                "reason": "denied", "rule": "caller_blocked", "stage": "verify",
                "text": "The caller agent:idp/planner was blocked by an administrator",
            }  # fmt: skip

    run(story())


def test_blocking_a_tool_ends_the_calls_of_it_that_still_stream(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage, AsyncExitStack() as stack:
            gate = stack.enter_context(gateway(tmp_path, **staging(stage, tmp_path)))
            async with AsyncExitStack() as callers:
                open_, spared = (Open(gate, gate.issuer.token(), callers) for _ in range(2))
                await open_.events(3, *POST_MCP, body=CALL % b"slow")
                await spared.events(1, *POST_MCP, body=CALL % b"other")
                began = time.monotonic()
                gate.call(gate.app.descriptors.registry.block("tool", "tools", "slow", "", "admin"))
                assert await open_.ended(began) == {"cut": 3}
                assert spared.nothing_ended()
            records = await asyncio.to_thread(gate.records)
            faults = [each.get("fault", "") for each in outcomes(records) if each["resource"]["id"] == "tools/slow"]
            assert faults == ["blocked: the tool tools/slow was blocked while the stream was open"] * 3

    run(story())


def test_a_block_outlives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            whole = staging(stage, tmp_path)
            with gateway(tmp_path, **whole) as gate:
                await block(gate, "files")
            with gateway(tmp_path, **whole) as gate:
                async with calling(gate.app.port) as caller:
                    assert (await caller.ask("GET /files/events", gate.issuer.token()))[0] == 403

    run(story())
