"""Row 56 over MCP, WebSocket and a broken upstream: what is in messages and answers is in no record, line or metric."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import httpx2
import pytest
import websockets.asyncio.client as socket_client
from rig import gateway, run
from websockets.exceptions import ConnectionClosed

from tests.flows.stage import calling, staged
from tests.wire.faulty import Peer

ROW = 56
ASKED = "canary-argument-3b0c77aa"
ANSWERED = "canary-result-91d2e6f0"
NEST = '{"a":' * 200
KINDS = (
    "content-type: application/json",
    "accept: application/json, text/event-stream",
    "mcp-protocol-version: 2025-11-25",
)


def call(name: str) -> str:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {"key": ASKED}}}
    )


BODIES = (
    call("fine"),
    call("forbidden"),
    call("fine")[:-1],
    call("fine").replace('"id"', f'"{ASKED}": 1, "{ASKED}": 2, "id"'),
    call("fine").replace('"2.0"', f'"{ASKED}"'),
    f"[{call('fine')}]",
    NEST + f'"{ASKED}"' + "}" * 200,
)
GARBAGE = (
    f"{ANSWERED}\r\n\r\n",
    f"HTTP/1.1 200 {ANSWERED}\r\ncontent-length: {ANSWERED}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\nx-{ANSWERED}: a\x00b\r\n\r\n",
    f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 26\r\n\r\n[{ANSWERED}]x",
    f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{ANSWERED}\r\n",
)


def test_what_messages_and_answers_say_is_in_no_output(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tollgate")

    async def story() -> list[str]:
        ours: list[str] = []
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                token = gate.issuer.token()

                async def post(path: str, body: str) -> None:
                    async with calling(gate.app.port) as caller:
                        status, headers = await caller.ask(f"POST {path}", token, body.encode(), *KINDS)
                        ours.append(f"{status} {headers}")
                        if "content-length" in headers and "via" not in headers:  # made by the gateway
                            ours.append((await caller.reader.readexactly(int(headers["content-length"]))).decode())

                for body in BODIES:
                    await post("/tools", body)
                    await post("/files/x", body)
                for data in GARBAGE:

                    async def broken(peer: Peer, data: str = data) -> None:
                        await peer.send(data.encode())
                        raise ConnectionError("gone")

                    stage.plays |= {"/mcp": broken, "/broken": broken}
                    await post("/tools", call("fine"))
                    await post("/files/broken", "")
                bearer = {"authorization": f"Bearer {token}"}
                url = f"ws://127.0.0.1:{gate.app.port}/sockets"
                for body in BODIES:
                    async with socket_client.connect(url, additional_headers=bearer) as socket:
                        await socket.send(body)
                        try:
                            said = await socket.recv()
                            ours.append("" if said in stage.messages else str(said))
                        except ConnectionClosed as closed:
                            ours.append(str(closed))
                admin = {"authorization": f"Bearer {gate.admin_token}"}
                for page in ("/metrics", "/api/v1/status", "/api/v1/records?limit=500"):
                    ours.append((await asyncio.to_thread(httpx2.get, gate.admin_url + page, headers=admin)).text)
                found = await asyncio.to_thread(gate.records)
                ours.append(json.dumps(found))
                assert len(found) > len(BODIES) * 3
                assert any(ASKED.encode() in body for body in stage.bodies), "something was forwarded"
        return ours

    outputs = {f"output {number}": text.encode() for number, text in enumerate(run(story()))}
    outputs |= {str(path): path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file()}
    outputs["log lines"] = caplog.text.encode()
    leaks = [
        (name, secret) for name, data in outputs.items() for secret in (ASKED, ANSWERED) if secret.encode() in data
    ]
    assert leaks == []
