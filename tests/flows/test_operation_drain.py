"""SIGTERM: what is under way finishes within the grace, nobody new gets in, what outlasts the grace is cut and told."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client as socket_client
from rig import Issuer, base_settings, check_books, read_log, run
from websockets.exceptions import ConnectionClosed

from tests.cli.served import Served, serving
from tests.flows.stage import Stage, calling, staged

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, issuer: Issuer, stage: Stage, **settings: Any) -> None:
    whole = base_settings(folder, issuer) | stage.settings(folder) | settings
    (folder / "gateway.yaml").write_text(json.dumps(whole))


def port_of(served: Served) -> int:
    return int(served.announced["listen"].rpartition(":")[2])


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    return {record["exchange"]: record for record in read_log(folder / "var/log") if record["kind"] == "outcome"}


def test_streams_and_sockets_finish_within_the_grace_and_nobody_new_gets_in(folder: Path) -> None:
    issuer = Issuer(folder)
    token = issuer.token()

    async def story() -> tuple[str, str]:
        async with staged() as stage, AsyncExitStack() as stack:
            configure(folder, issuer, stage, drain="20s")
            served = stack.enter_context(serving())
            port = port_of(served)
            caller = await stack.enter_async_context(calling(port))
            resting = await stack.enter_async_context(calling(port))
            assert (await resting.ask("POST /files/x", token))[0] == 200
            status, headers = await caller.ask("GET /files/events", token)
            assert status == 200
            stage.say(b"before")
            assert await caller.event() == b"before"
            bearer = {"authorization": f"Bearer {token}"}
            socket = await socket_client.connect(f"ws://127.0.0.1:{port}/sockets", additional_headers=bearer)
            await socket.send("before")
            assert await socket.recv() == "before"

            served.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(served.said, "draining")
            while not await refused(port):  # noqa: ASYNC110 (it is another process that closes it)
                await asyncio.sleep(0)
            assert await resting.reader.readuntil(b"[]}}")
            assert await resting.reader.read() == b""  # one that rests is told at once
            stage.say(b"after")
            assert await caller.event() == b"after"
            await socket.send("after")
            assert await socket.recv() == "after"
            assert served.process.poll() is None
            stage.say(None)
            assert await caller.chunk() == b""
            assert served.process.poll() is None, "a socket is still open"
            await socket.close()
            assert await asyncio.to_thread(served.process.wait, 10) == 0
            return served.announced["vkey"], headers["x-request-id"]

    vkey, stream = run(story())
    check_books(folder, vkey)
    found = outcomes(folder)
    assert {record["result"] for record in found.values()} == {"ok"}
    assert found[stream]["usage"]["bytes_out"] == len(b"data: before\n\ndata: after\n\n")
    opened = [record for record in found.values() if record["action"] == "ws.open"]
    assert [record["usage"]["calls"] for record in opened] == [2]


def test_what_outlasts_the_grace_is_cut_told_and_recorded_as_the_gateways_doing(folder: Path) -> None:
    issuer = Issuer(folder)
    token = issuer.token()

    async def story() -> str:
        async with staged() as stage, AsyncExitStack() as stack:
            configure(folder, issuer, stage, drain="300ms")
            served = stack.enter_context(serving())
            port = port_of(served)
            caller = await stack.enter_async_context(calling(port))
            await caller.ask("GET /files/events", token)
            stage.say(b"before")
            assert await caller.event() == b"before"
            bearer = {"authorization": f"Bearer {token}"}
            socket = await socket_client.connect(f"ws://127.0.0.1:{port}/sockets", additional_headers=bearer)
            await socket.send("before")
            assert await socket.recv() == "before"
            served.process.send_signal(signal.SIGTERM)
            assert await caller.is_cut()
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            await stage.cut.wait()
            assert await asyncio.to_thread(served.process.wait, 15) == 0
            vkey: str = served.announced["vkey"]
            return vkey

    check_books(folder, run(story()))
    found = list(outcomes(folder).values())
    assert len(found) == 2
    for record in found:
        assert record["result"] == "error", record
        assert "going down" in record["fault"], record
