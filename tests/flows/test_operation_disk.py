"""A full disk: nothing is forwarded without a record, callers and the operator are told, and it ends by itself."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway, run

from tests.flows.stage import calling, staged

RECOVERY_SECONDS = 5.0
SIZE = "24m"  # three journal segments and room for tiles

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Takes every byte that is left."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while stream.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return filler


def ready(gate: Running) -> int:
    return httpx2.get(f"{gate.admin_url}/readyz").status_code


TOOL = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "fine"}}).encode()
KINDS = (
    "content-type: application/json",
    "accept: application/json, text/event-stream",
    "mcp-protocol-version: 2025-11-25",
)


async def post(gate: Running, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, Any]]:
    async with calling(gate.app.port) as caller:
        status, answered = await caller.ask(f"POST {path}", gate.issuer.token(), body, *headers)
        found: dict[str, Any] = json.loads(await caller.reader.readexactly(int(answered["content-length"])))
        return status, found | {"headers": answered}


def test_a_full_disk_refuses_every_call_says_so_and_recovers_by_itself(tmp_path: Path, small_disk: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            folder = small_disk / "gateway"
            folder.mkdir()
            with gateway(folder, **stage.settings(tmp_path)) as gate:
                assert (await post(gate, "/files/x"))[0] == 200
                assert await asyncio.to_thread(ready, gate) == 200
                filler = fill(small_disk)
                long = "/files/" + "x" * 7000  # it stands in each record: what is left of the journal is soon used up
                answered = 0
                for _ in range(3000):
                    status, said = await post(gate, long)
                    if status != 200:
                        break
                    answered += 1
                assert (status, said["reason"]) == (503, "audit_unavailable")
                assert said["headers"]["retry-after"]
                began = time.monotonic()
                status, said = await post(gate, "/tools", TOOL, *KINDS)
                assert time.monotonic() - began < 1
                assert (status, said["error"]["code"], said["id"]) == (200, -31503, 5)
                assert said["error"]["data"]["reason"] == "audit_unavailable"
                assert await asyncio.to_thread(ready, gate) == 503
                assert httpx2.get(f"{gate.admin_url}/healthz").status_code == 200
                forwarded = len(stage.heads)
                assert forwarded == answered + 1, "what was refused was not forwarded"

                os.unlink(filler)
                began = time.monotonic()
                while await asyncio.to_thread(ready, gate) != 200:
                    assert time.monotonic() - began < RECOVERY_SECONDS
                while (await post(gate, "/files/x"))[0] != 200:
                    assert time.monotonic() - began < RECOVERY_SECONDS
                records = await asyncio.to_thread(gate.records)
                intents = {record["exchange"] for record in records if record["kind"] == "intent"}
                arrived = {
                    line.split(b": ")[1].decode()
                    for head in stage.heads
                    for line in head.split(b"\r\n")
                    if line.startswith(b"x-request-id")
                }
                assert arrived == intents

    run(story(), 120)


def test_a_session_that_cannot_be_bound_is_not_shown(tmp_path: Path) -> None:
    """The answer that mints it would otherwise name a session that nobody owns after a restart."""

    async def initialize(peer: Any) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s-1\r\ncontent-length: %d\r\n\r\n"
        body = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
        await peer.send(head % len(body) + body)

    asked = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}).encode()

    async def story() -> None:
        async with staged() as stage:
            stage.plays["/mcp"] = initialize
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                other = sqlite3.connect(tmp_path / "var" / "handles.sqlite", isolation_level=None)
                other.execute("BEGIN IMMEDIATE")  # whoever holds it: the binding cannot be written
                status, said = await post(gate, "/tools", message, *KINDS)
                error = said["error"]
                assert (status, said["id"], error["code"], error["data"]["reason"]) == (
                    200,
                    1,
                    -31503,
                    "audit_unavailable",
                )
                assert said["headers"]["retry-after"] == "1"
                assert "handles.sqlite" not in json.dumps(said)
                assert (await asyncio.to_thread(gate.last, "outcome"))["result"] == "error"
                assert said["headers"]["x-request-id"]
                assert "mcp-session-id" not in said["headers"]
                other.close()
                status, said = await post(gate, "/tools", message, *KINDS)
                assert (status, said["headers"]["mcp-session-id"]) == (200, "s-1")

    run(story())
