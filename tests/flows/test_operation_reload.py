"""Reload: a good configuration swaps in whole under traffic, a bad one changes nothing, and no count is forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway, run

from gateway.assembly import NeedsRestart
from gateway.config import ConfigError
from tests.flows.stage import calling, policy, staged

RELOADS = 30


def side(name: str) -> str:
    return f'package tollgate\n\ndecision := {{"decision": true, "context": {{"rule": "{name}", "reason": "all"}}}}\n'


def test_under_traffic_every_exchange_has_one_revision_from_its_decision_to_its_upstream(
    tmp_path: Path,
) -> None:
    """Two configurations that differ in policy and upstream credential: no exchange has the one's and the other's."""
    for name in ("left", "right"):
        (tmp_path / f"{name}.key").write_text(name)
        (tmp_path / f"{name}.key").chmod(0o600)

    async def story() -> None:
        async with staged() as stage:
            settings = stage.settings(tmp_path)
            sides = {name: policy(tmp_path, side(name), name) for name in ("left", "right")}

            def as_of(name: str) -> dict[str, Any]:
                marked = {"credentials": {"header": "x-side", "value": {"file": str(tmp_path / f"{name}.key")}}}
                upstreams = {**settings["upstreams"], "files": {**settings["upstreams"]["files"], **marked}}
                return {"policy": sides[name], "upstreams": upstreams}

            with gateway(tmp_path, **settings | as_of("left")) as gate:
                stop = asyncio.Event()
                traffic = [asyncio.create_task(calls(gate, stop)) for _ in range(4)]
                for number in range(RELOADS):
                    await asyncio.to_thread(gate.reload, **as_of(("right", "left")[number % 2]))
                stop.set()
                answered = sum(await asyncio.gather(*traffic))
                records = await asyncio.to_thread(gate.records)
            revisions: dict[str, set[str]] = {"left": set(), "right": set()}
            decided = {}
            for record in records:
                if record["kind"] in ("intent", "outcome"):
                    revisions[record["decision"]["rule"]].add(record["decision"]["revision"])
                    said = {name: value for name, value in record["decision"].items() if name != "input"}
                    assert decided.setdefault(record["exchange"], said) == said
            assert len(revisions["left"]) == len(revisions["right"]) == 1
            assert revisions["left"] != revisions["right"]
            assert len(stage.heads) == answered == len(decided)
            for head in stage.heads:
                lines = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line)
                assert lines["x-side"] == decided[lines["x-request-id"]]["rule"]
            effects = [record["activation"]["effect"] for record in records if record["kind"] == "activation"]
            assert effects == ["accepted"] * (RELOADS + 1)

    run(story())


async def calls(gate: Running, stop: asyncio.Event) -> int:
    token, count = gate.issuer.token(), 0
    async with calling(gate.app.port) as caller:
        while not stop.is_set():
            status, headers = await caller.ask("POST /files/x", token)
            assert status == 200
            await caller.reader.readexactly(int(headers["content-length"]))
            count += 1
    return count


def ask(gate: Running, path: str = "/files/x", **headers: str) -> httpx2.Response:
    bearer = {"authorization": f"Bearer {gate.issuer.token()}"}
    return httpx2.get(f"{gate.url}{path}", headers=bearer | headers, timeout=10)


async def answered(gate: Running, path: str = "/files/x") -> int:
    return (await asyncio.to_thread(ask, gate, path)).status_code


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"routes": [{"name": "x", "match": {"path": "/x"}, "upstream": "nowhere"}]},
            ConfigError,
            "no upstream has that name",
        ),
        ({"sso": {}}, ConfigError, "sso"),
        ({"drain": 5}, ConfigError, "drain"),
        ({"node": "another"}, NeedsRestart, "needs a restart"),
        ({"listen": "127.0.0.1:1"}, NeedsRestart, "needs a restart"),
        ({"data_dir": "elsewhere"}, NeedsRestart, "needs a restart"),
        ({"policy": {"bundle": "no-such-folder"}}, Exception, "no-such-folder"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_bad_configuration_leaves_the_running_one_in_force_and_a_record_of_why(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                before = gate.app.snapshot
                with pytest.raises(error, match=said):
                    await asyncio.to_thread(gate.reload, **change)
                assert gate.app.snapshot is before
                assert await answered(gate) == 200
                records = await asyncio.to_thread(gate.records)
                assert records[-1]["decision"]["revision"] == before.engine.revision
                if error is NeedsRestart:
                    (refused,) = (each for each in records if each.get("activation", {}).get("effect") == "refused")
                    assert said in refused["activation"]["why"]

    run(story())


def test_a_rate_and_a_concurrency_limit_survive_a_reload(tmp_path: Path) -> None:
    limits = [
        {"name": "few", "key": ["subject.id"], "rate": "3/hour", "burst": 3},
        {"name": "one", "key": ["route"], "concurrent": 1},
    ]

    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path), limits=limits) as gate:
                async with calling(gate.app.port) as caller:
                    assert (await caller.ask("GET /files/events", gate.issuer.token()))[0] == 200  # holds the one
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    await asyncio.to_thread(gate.reload, drain="7s")
                    assert await answered(gate) == 429
                    stage.say(None)
                    assert await caller.chunk() == b""
                assert await answered(gate) == 200
                await asyncio.to_thread(gate.reload, drain="8s")
                statuses = [await answered(gate) for _ in range(3)]
                assert statuses == [200, 429, 429]
                records = await asyncio.to_thread(gate.records)
                reasons = [each["refusal"]["reason"] for each in records if each["kind"] == "refusal"]
                assert reasons == ["rate_limited"] * 3

    run(story())


def test_a_route_taken_away_ends_no_exchange_that_is_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with calling(gate.app.port) as caller:
                    await caller.ask("GET /files/events", gate.issuer.token())
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    left = [each for each in gate.settings["routes"] if each["name"] != "files"]
                    upstreams = {name: each for name, each in gate.settings["upstreams"].items() if name != "files"}
                    await asyncio.to_thread(gate.reload, routes=left, upstreams=upstreams)
                    assert await answered(gate) == 404
                    stage.say(b"2")
                    assert await caller.event() == b"2"
                    stage.say(None)
                    assert await caller.chunk() == b""

    run(story())


def test_sessions_stay_bound_over_a_restart_with_the_same_configuration(tmp_path: Path) -> None:
    async def initialize(peer: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s-1\r\ncontent-length: %d\r\n\r\n"
        body = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
        await peer.send(head % len(body) + body)

    def say(gate: Running, subject: str, method: str, **headers: str) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
        if method == "initialize":
            message["params"] = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
        given = {"authorization": f"Bearer {gate.issuer.token(subject)}", "mcp-protocol-version": "2025-11-25"}
        given |= {"accept": "application/json, text/event-stream"} | headers
        return httpx2.post(f"{gate.url}/tools", headers=given, json=message, timeout=10)

    async def story() -> None:
        async with staged() as stage:
            settings = stage.settings(tmp_path)
            stage.plays["/mcp"] = initialize
            with gateway(tmp_path, **settings) as gate:
                found = await asyncio.to_thread(say, gate, "ann", "initialize")
                assert (found.status_code, found.headers["mcp-session-id"]) == (200, "s-1")
            del stage.plays["/mcp"]
            with gateway(tmp_path, **settings) as gate:
                session = {"mcp-session-id": "s-1"}
                assert (await asyncio.to_thread(say, gate, "ann", "ping", **session)).status_code == 200
                assert (await asyncio.to_thread(say, gate, "bob", "ping", **session)).status_code == 403
                other = {"mcp-session-id": "s-2"}
                assert (await asyncio.to_thread(say, gate, "ann", "ping", **other)).status_code == 404

    run(story())
