"""Row 37: whatever form the caller's credential has, no byte of it reaches an upstream, over any protocol."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import websockets.sync.client as socket_client
from rig import Running, gateway, routes_to

from gateway.identity.apikey import mint
from tests.flows.aside import Aside
from tests.flows.stage import policy

ROW = 37
KEY, DIGEST = mint("ci")
COOKIE = "canary-cookie-20cb17"


class Tap:
    """Stands before an upstream and keeps every byte that is sent to it."""

    def __init__(self, base: str) -> None:
        self.seen = bytearray()
        self._to = (urlsplit(base).hostname, urlsplit(base).port)
        self._aside = Aside(self._serve)
        self.url = f"http://127.0.0.1:{self._aside.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        try:
            await asyncio.gather(self._copy(reader, back, self.seen), self._copy(there, writer, bytearray()))
        finally:
            writer.close()
            back.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                kept += data
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    def close(self) -> None:
        self._aside.close()


@contextmanager
def tapped(folder: Path, bases: dict[str, str]) -> Iterator[tuple[Running, dict[str, Tap]]]:
    taps = {name: Tap(base) for name, base in bases.items()}
    try:
        settings = routes_to({name: tap.url for name, tap in taps.items()}) | {"policy": policy(folder)}
        for route in settings["routes"]:
            route["auth"] = "required"
        (folder / "keys.yaml").write_text(json.dumps([{"id": "ci", "sha256": DIGEST}]))
        with gateway(folder, **settings) as gate:
            gate.reload(trust=gate.settings["trust"] | {"api_keys": {"file": str(folder / "keys.yaml")}})
            yield gate, taps
    finally:
        for tap in taps.values():
            tap.close()


FORMS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda secret: {"authorization": f"Bearer {secret}"},
    "lower-case bearer": lambda secret: {"authorization": f"bearer {secret}"},
    "x-api-key": lambda secret: {"x-api-key": secret},
    "api-key": lambda secret: {"API-Key": secret},
    "two headers": lambda secret: {"authorization": f"Bearer {secret}", "x-api-key": secret},
    "beside aliases": lambda secret: {
        "x-api-key": secret, "proxy-authorization": f"Bearer {secret}",
        "x-auth-token": secret, "x-forwarded-access-token": secret,
    },
}  # fmt: skip


# The card names the upstream behind the tap, so nothing of it leads through the gateway; /echo has no such endpoint.
EXPECTED = [200, 200, 502, 200, 200, 200, 200, 200, 200]


def message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def everything(gate: Running, headers: dict[str, str]) -> list[int]:
    """One request over each protocol; the statuses."""
    both = headers | {"accept": "application/json, text/event-stream", "cookie": f"session={COOKIE}"}
    rpc = both | {"mcp-protocol-version": "2025-11-25"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    parts = {"role": "ROLE_USER", "messageId": "m-1", "parts": [{"text": "hello"}]}
    chat = {"model": "small-1", "messages": [{"role": "user", "content": "Oslo?"}], "stream": True, "max_tokens": 9}
    with httpx2.Client(base_url=gate.url, timeout=20) as client:
        answers = [
            client.post("/weather", headers=rpc, json=message("initialize", params)),
            client.post(
                "/concierge/rpc", headers=both | {"a2a-version": "1.0"}, json=message("SendMessage", {"message": parts})
            ),
            client.get("/concierge/.well-known/agent-card.json", headers=both),
            client.post("/openai/v1/chat/completions", headers=both, json=chat),
            client.post("/anthropic/v1/messages", headers=both | {"anthropic-version": "2023-06-01"}, json=chat),
            client.post("/echo/v1/models", headers=both, json={}),
            client.get("/echo/v1/models?page=1", headers=both),
        ]
        session = rpc | {"mcp-session-id": answers[0].headers["mcp-session-id"]}
        answers.append(client.post("/weather", headers=session, json=message("tools/list", {})))
        answers.append(client.delete("/weather", headers=session))
    with socket_client.connect(f"ws://127.0.0.1:{gate.app.port}/echo/ws", additional_headers=both) as found:
        found.send("hello")
        found.recv(10)
    return [answer.status_code for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "key"])
def test_no_byte_of_a_credential_reaches_an_upstream(tmp_path: Path, bases: dict[str, str], kind: str) -> None:
    with tapped(tmp_path, bases) as (gate, taps):
        secret = KEY if kind == "key" else gate.issuer.token()
        for name, form in FORMS.items():
            statuses = everything(gate, form(secret))
            assert statuses == EXPECTED, (name, statuses)
        for name, tap in taps.items():
            seen = bytes(tap.seen)
            assert seen.count(b"HTTP/1.1\r\n") >= 2 * len(FORMS), f"{name} was hardly asked"
            pieces = [secret, *secret.split("."), secret[-43:], COOKIE]
            for piece in pieces:
                assert piece.encode() not in seen, (name, piece)
            for header in (b"authorization:", b"api-key", b"api_key", b"cookie:"):
                assert header not in seen.lower(), (name, header)


@pytest.mark.parametrize("query", ["access_token", "api_key", "x-api-key", "anything"])
def test_a_credential_in_the_query_goes_nowhere(tmp_path: Path, bases: dict[str, str], query: str) -> None:
    with tapped(tmp_path, bases) as (gate, taps):
        bearer = {"authorization": f"Bearer {gate.issuer.token()}"}
        answer = httpx2.get(f"{gate.url}/echo/x?{query}={KEY}", headers=bearer)
        assert answer.status_code == 400
        assert KEY not in answer.text
        assert not taps["model"].seen
        assert KEY not in json.dumps(gate.records())


def test_two_different_credentials_go_nowhere(tmp_path: Path, bases: dict[str, str]) -> None:
    with tapped(tmp_path, bases) as (gate, taps):
        both = {"authorization": f"Bearer {gate.issuer.token()}", "x-api-key": KEY}
        assert httpx2.get(f"{gate.url}/echo/x", headers=both).status_code == 400
        with socket.create_connection(("127.0.0.1", gate.app.port)) as raw:
            raw.sendall(
                f"GET /echo/x HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY}\r\nx-api-key: {KEY}\r\n\r\n".encode()
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
        assert not taps["model"].seen
