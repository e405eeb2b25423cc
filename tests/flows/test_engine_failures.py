"""A policy engine over the network fails while the gateway serves: who is refused, who passes, and what is recorded.

The engine is a real server that plays one failure; upstream, caller and log are real.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway, run

from gateway.cli.doctor_checks import policy as doctors_look
from tests.flows.stage import staged
from tests.pdp.failure_shapes import JSON, OPA, SHAPES, YES, Shape, saying
from tests.wire.faulty import Peer, Server, answer, until

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {}}}
PLAIN = ("slow", "closed within the body", "500", "302", "HTML", "garbage", "100 MB", "the text true")
OWN = ("{}", "a result that is text", "an unknown obligation")
SHOWN = {**{name: SHAPES[name] for name in PLAIN}, **{name: OPA[name] for name in OWN}}


@asynccontextmanager
async def served(
    folder: Path,
    play: Callable[[Peer], Awaitable[None]],
    on_error: str = "deny",
    *,
    plays: dict[str, Callable[[Peer], Awaitable[None]]] | None = None,
    **policy: Any,
) -> AsyncIterator[tuple[Running, Server]]:
    """`play` is the engine's end of a connection, `plays` are the upstream's by path."""
    async with staged() as stage, Server(play) as engine:
        stage.plays |= plays or {}
        settings = stage.settings(folder, on_error=on_error)
        settings["policy"] = {"engine": "opa", "url": f"http://127.0.0.1:{engine.port}", **policy}
        context = gateway(folder, **settings)
        gate = await asyncio.to_thread(context.__enter__)  # it asks the engine, which lives in this loop
        try:
            yield gate, engine
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)


async def ask(gate: Running, path: str = "/files/x", **more: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {gate.issuer.token()}"}
    async with httpx2.AsyncClient(base_url=gate.url, headers=headers, timeout=20) as client:
        return await client.request("POST" if more else "GET", path, **more)


async def records(gate: Running) -> list[dict[str, Any]]:
    found = await asyncio.to_thread(gate.records)
    return [record for record in found if "exchange" in record]


async def plane(gate: Running, path: str) -> httpx2.Response:
    """The admin plane's answer."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {gate.admin_token}"}, timeout=20) as client:
        return await client.get(f"{gate.admin_url}{path}")


async def exposed(gate: Running) -> str:
    return (await plane(gate, "/metrics")).text


@pytest.mark.parametrize("name", SHOWN)
def test_the_caller_is_refused_and_one_record_says_why(tmp_path: Path, name: str) -> None:
    shape: Shape = SHOWN[name]

    async def story() -> None:
        async with served(tmp_path, shape.play) as (gate, _):
            found = await ask(gate)
            assert found.status_code == (503 if shape.fault else 403)
            document = found.json()
            assert document["reason"] == ("policy_unavailable" if shape.fault else "denied")
            if shape.fault:
                assert shape.rule not in found.text, "what failed is the operator's to know"
            [record] = await records(gate)
            assert record["kind"] == "refusal"
            assert record["decision"]["effect"] == "deny"
            assert record["decision"]["engine"] == "opa"
            assert record["decision"]["rule"].startswith(shape.rule)
            assert "fail_open" not in record["decision"]
            assert 'tollgate_fail_open_total{route="files"} 0.0' in await exposed(gate)

    run(story())


@pytest.mark.parametrize("name", SHOWN)
def test_on_error_allow_lets_faults_pass_and_only_faults(tmp_path: Path, name: str) -> None:
    shape = SHOWN[name]

    async def story() -> None:
        async with served(tmp_path, shape.play, "allow") as (gate, _):
            for count in (1, 2):
                found = await ask(gate)
                if not shape.fault:  # the engine answered, and that was no yes
                    assert found.status_code == 403
                    assert 'tollgate_fail_open_total{route="files"} 0.0' in await exposed(gate)
                    continue
                assert found.status_code == 200
                written = await records(gate)
                assert [record["kind"] for record in written] == ["intent", "outcome"] * count
                for record in written:
                    assert record["decision"]["effect"] == "allow"
                    assert record["decision"]["fail_open"] is True
                    assert record["decision"]["rule"].startswith(shape.rule)
                assert f'tollgate_fail_open_total{{route="files"}} {count}.0' in await exposed(gate)

    run(story())


def test_json_rpc_callers_are_told_in_their_own_form(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path, SHAPES["500"].play) as (gate, _):
            found = await ask(gate, "/tools", json=CALL, headers={"accept": "application/json, text/event-stream"})
            assert found.status_code == 200
            assert found.json()["error"]["code"] == -31503

    run(story())


def test_an_engine_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    """The breaker opens, nobody waits, the gateway is not ready; then it closes by itself."""

    async def story() -> None:
        good = asyncio.Event()
        questions = 0

        async def play(peer: Peer) -> None:
            nonlocal questions
            while True:
                head, _ = await peer.request()
                if head.startswith(b"GET /health"):
                    await peer.send(answer(b"{}", JSON))
                    continue
                questions += 1
                await peer.send(answer(YES, JSON, status=b"200 OK" if good.is_set() else b"500 Oh"))

        async with served(tmp_path, play, breaker={"failures": 3, "open": "1s"}) as (gate, _):
            for _ in range(8):
                assert (await ask(gate)).status_code == 503
            assert questions < 8, "an open breaker asks nothing"
            assert re.search(r'tollgate_breaker_state\{breaker="policy opa",upstream=""\} [12]\.0', await exposed(gate))
            rules = {record["decision"]["rule"] for record in await records(gate)}
            assert rules == {"status 500", "breaker_open: status 500"}
            assert len(await records(gate)) == 8
            good.set()
            async with asyncio.timeout(10):
                while (await ask(gate)).status_code != 200:
                    pass
            assert 'tollgate_breaker_state{breaker="policy opa",upstream=""} 0.0' in await exposed(gate)

    run(story())


def test_an_engine_that_is_down_is_no_reason_not_to_start_but_not_to_be_ready(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path, SHAPES["closed without a word"].play) as (gate, server):
            assert (await plane(gate, "/readyz")).status_code == 503
            problems = (await plane(gate, "/api/v1/status")).json()["problems"]
            assert any(text.startswith("policy: opa does not answer") for text in problems), problems
            [found] = await asyncio.to_thread(doctors_look, gate.app.settings)
            assert found.state == "fail"
            assert f"opa at http://127.0.0.1:{server.port}" in found.detail

    run(story())


def test_a_healthy_engine_is_ready_and_its_decisions_are_named_in_the_record(tmp_path: Path) -> None:
    bundles = {"a": {"revision": "r7"}, "b": {"revision": "r9"}}
    said = {"result": True, "decision_id": "d-1", "provenance": {"version": "1", "bundles": bundles}}

    async def story() -> None:
        async with served(tmp_path, saying(answer(json.dumps(said).encode(), JSON))) as (gate, _):
            assert (await plane(gate, "/readyz")).status_code == 200
            [found] = await asyncio.to_thread(doctors_look, gate.app.settings)
            assert found.state == "ok"
            assert (await ask(gate)).status_code == 200
            for record in await records(gate):
                assert record["decision"]["id"] == "d-1"
                assert record["decision"]["revision"] == "a=r7,b=r9"
                assert record["decision"]["effect"] == "allow"

    run(story())


def test_a_reload_to_another_engine_leaves_no_connection_to_the_old_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            served(tmp_path, saying(answer(YES, JSON))) as (gate, old),
            Server(saying(answer(b'{"result":false}', JSON))) as new,
        ):
            assert (await ask(gate)).status_code == 200
            assert old.open > 0
            policy = {"engine": "opa", "url": f"http://127.0.0.1:{new.port}"}
            await asyncio.to_thread(lambda: gate.reload(policy=policy))
            assert (await ask(gate)).status_code == 403
            await until(lambda: old.open == 0)

    run(story())


TOOLS = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name, "inputSchema": {}} for name in ("a", "b")]}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.mark.parametrize(
    ("on_error", "status", "shown"), [("deny", b"500 Oh", 0), ("allow", b"500 Oh", 2), ("allow", b"200 OK", 0)]
)
def test_the_items_of_a_list_follow_the_routes_word_too(
    tmp_path: Path, on_error: str, status: bytes, shown: int
) -> None:
    """What may be called is what is shown, also while the engine fails behind the first question; what policy denies
    stays hidden."""

    async def story() -> None:
        questions = 0

        async def play(peer: Peer) -> None:
            nonlocal questions
            while True:
                head, _ = await peer.request()
                questions += head.startswith(b"POST")
                first = questions <= 1
                await peer.send(
                    answer(YES if first else b'{"result":false}', JSON, status=b"200 OK" if first else status)
                )

        async def list_tools(peer: Peer) -> None:
            await peer.send(answer(json.dumps(TOOLS).encode(), JSON))

        async with served(tmp_path, play, on_error, plays={"/mcp": list_tools}) as (gate, _):
            accept = {"accept": "application/json, text/event-stream"}
            found = await ask(gate, "/tools", json=LIST, headers=accept)
            assert len(found.json()["result"]["tools"]) == shown
            [outcome] = [record for record in await records(gate) if record["kind"] == "outcome"]
            assert outcome["filtered"] == {"shown": shown, "hidden": 2 - shown}
            assert outcome.get("failed_open", 0) == shown
            assert "fail_open" not in outcome["decision"], "the call itself was allowed by policy"
            counted = 'tollgate_fail_open_total{route="tools"} 2.0' in await exposed(gate)
            assert counted is (shown == 2)

    run(story())
