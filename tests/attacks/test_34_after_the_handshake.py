"""Row 34: what is open is judged for as long as it is open: each frame, and twice a second where nothing moves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client as socket_client
from rig import Running, gateway, run
from websockets.exceptions import ConnectionClosed

from gateway.identity.apikey import mint
from tests.flows.stage import Stage, calling, staged

ROW = 34
SECONDS = 1.0  # within which a revocation reaches what is open (ruling 4)
SLACK = 0.5  # for a machine that does other things too

KEY, DIGEST = mint("ci")


def keys_of(folder: Path, *entries: dict[str, Any]) -> None:
    fresh = folder / "keys.new"
    fresh.write_text(json.dumps(entries))  # quoted: a digest may look like a number
    fresh.replace(folder / "keys.yaml")


def trusted(gate_folder: Path, stage: Stage) -> dict[str, Any]:
    keys_of(gate_folder, {"id": "ci", "sha256": DIGEST})
    return stage.settings(gate_folder) | {"trust": {"api_keys": {"file": str(gate_folder / "keys.yaml")}}}


def gone(gate: Running) -> None:
    keys_of(gate.folder)


def expired(gate: Running) -> None:
    keys_of(gate.folder, {"id": "ci", "sha256": DIGEST, "expires": time.time() - 1})


def other_rights(gate: Running) -> None:
    keys_of(gate.folder, {"id": "ci", "sha256": DIGEST, "roles": ["less"]})


def connect(gate: Running, credential: str) -> socket_client.connect:
    return socket_client.connect(
        f"ws://127.0.0.1:{gate.app.port}/sockets", additional_headers={"authorization": f"Bearer {credential}"}
    )


async def closed(socket: socket_client.ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as found:
        await socket.recv()
    assert found.value.rcvd is not None
    return found.value.rcvd.code


@pytest.mark.parametrize("revoke", [gone, expired, other_rights])
def test_a_revoked_key_loses_its_streams_and_sockets_within_a_second(
    tmp_path: Path, revoke: Callable[[Running], None]
) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **trusted(tmp_path, stage)) as gate:
                async with calling(gate.app.port) as caller, connect(gate, KEY) as socket:
                    status, _ = await caller.ask("GET /files/events", KEY)
                    assert status == 200
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
                    revoke(gate)
                    began = time.monotonic()
                    cut, code = await asyncio.gather(caller.is_cut(), closed(socket))
                    assert time.monotonic() - began < SECONDS + SLACK
                    assert (cut, code) == (True, 1008)
                await stage.cut.wait()
                records = await asyncio.to_thread(gate.records)
                ended = {each["action"]: each for each in records if each["kind"] == "outcome"}
                assert ended["http.GET"]["result"] == ended["ws.open"]["result"] == "error"
                assert "credential ended" in ended["http.GET"]["fault"]
                assert "credential ended" in ended["ws.open"]["fault"]

    run(story())


def test_the_next_frame_and_the_next_event_after_a_revocation_go_nowhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **trusted(tmp_path, stage)) as gate:
                async with calling(gate.app.port) as caller, connect(gate, KEY) as socket:
                    await caller.ask("GET /files/events", KEY)
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    await socket.send("before")
                    assert await socket.recv() == "before"
                    gone(gate)

                    async def revoke() -> None:
                        assert gate.app.assembly.api_keys is not None
                        gate.app.assembly.api_keys.poll()

                    gate.call(revoke())  # as of now the key is known to be gone, and no timer has looked yet
                    await socket.send("after")
                    stage.say(b"2")
                    assert await closed(socket) == 1008
                    with pytest.raises((asyncio.IncompleteReadError, OSError)):
                        await caller.chunk()
                    assert stage.messages == ["before"]

    run(story())


def test_a_token_that_ends_ends_what_it_opened(tmp_path: Path) -> None:
    leeway = 30.0

    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                ends = int(time.time() - leeway) + 3
                token = gate.issuer.token(exp=ends, iat=ends - 600)
                async with calling(gate.app.port) as caller, connect(gate, token) as socket:
                    status, _ = await caller.ask("GET /files/events", token)
                    assert status == 200
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    cut, code = await asyncio.gather(caller.is_cut(), closed(socket))
                    late = time.time() - (ends + leeway)
                    assert 0 <= late < SECONDS + SLACK
                    assert (cut, code) == (True, 1008)
                async with calling(gate.app.port) as caller:
                    assert (await caller.ask("GET /files/x", token))[0] == 401

    run(story())


def test_a_reload_that_takes_the_issuer_away_ends_what_its_tokens_opened_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                token = gate.issuer.token()
                async with calling(gate.app.port) as caller, connect(gate, token) as socket:
                    await caller.ask("GET /files/events", token)
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    gate.reload(trust={})
                    began = time.monotonic()
                    cut, code = await asyncio.gather(caller.is_cut(), closed(socket))
                    assert time.monotonic() - began < SECONDS + SLACK
                    assert (cut, code) == (True, 1008)

    run(story())


def test_what_nobody_opened_ends_when_its_route_asks_who_calls(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            whole = stage.settings(tmp_path, auth="anonymous")
            required = [{**route, "auth": "required"} for route in whole["routes"]]
            with gateway(tmp_path, **whole) as gate:
                address = f"ws://127.0.0.1:{gate.app.port}/sockets"
                async with calling(gate.app.port) as caller, socket_client.connect(address) as socket:
                    await caller.ask("GET /files/events", "")
                    stage.say(b"1")
                    assert await caller.event() == b"1"
                    gate.reload(routes=whole["routes"][::-1])
                    stage.say(b"2")
                    assert await caller.event() == b"2", "a reload that changes nothing for it"
                    gate.reload(routes=required)
                    began = time.monotonic()
                    cut, code = await asyncio.gather(caller.is_cut(), closed(socket))
                    assert time.monotonic() - began < SECONDS + SLACK
                    assert (cut, code) == (True, 1008)

    run(story())


FORBIDDEN = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "forbidden"}})
FINE = json.dumps({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "fine"}})


@pytest.mark.parametrize(
    "frames",
    [FORBIDDEN, FORBIDDEN.encode(), [FORBIDDEN[:20], FORBIDDEN[20:]], [each.encode() for each in FORBIDDEN]],
    ids=["text", "binary", "fragments", "a byte a fragment"],
)
def test_a_call_is_judged_in_whatever_frames_it_comes(tmp_path: Path, frames: Any) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with connect(gate, gate.issuer.token()) as socket:
                    assert socket.response is not None
                    assert "sec-websocket-extensions" not in socket.response.headers  # no compressed frame is agreed on
                    await socket.send(frames)
                    denied = json.loads(await socket.recv())
                    assert (denied["id"], denied["error"]["code"]) == (7, -31403)
                    await socket.send(FINE)
                    assert await socket.recv() == FINE
                    assert stage.messages == [FINE]
                records = await asyncio.to_thread(gate.records)
                judged = [each for each in records if each.get("action") == "ws.message"]
                assert [each["kind"] for each in judged] == ["refusal", "intent", "outcome"]

    run(story())


def test_an_open_socket_is_judged_by_the_policy_in_force_now(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                async with connect(gate, gate.issuer.token()) as socket:
                    await socket.send(FINE)
                    assert await socket.recv() == FINE
                    nobody = 'package tollgate\n\ndecision := {"decision": false, "context": {"reason": "no"}}\n'
                    (tmp_path / "policies" / "decision.rego").write_text(nobody)
                    gate.reload()
                    await socket.send(FINE)
                    assert json.loads(await socket.recv())["error"]["code"] == -31403
                    assert stage.messages == [FINE]

    run(story())
