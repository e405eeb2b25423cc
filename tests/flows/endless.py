"""Upstreams whose streams do not end by themselves, a gateway with budgets before them, and what came of it.

The events are of the sizes that the tests count with: a piece is ten tokens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import websockets.asyncio.client as socket_client
from rig import Running, gateway
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from tests.flows.canned import open_policy
from tests.flows.stage import EVENT_STREAM, chunk
from tests.wire.faulty import Peer, Server

PRICES = """
currency: usd
models: [{model: "m*", input: 1, output: 10, max_output_tokens: 100000}]
"""
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = "thirty bytes of a long story. "  # 10 tokens
ASKED = {"model": "m", "stream": True, "max_tokens": 50000, "messages": [{"role": "user", "content": "Oslo?"}]}


def chat(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def response(text: str) -> bytes:
    said = {"type": "response.output_text.delta", "delta": text, "sequence_number": 1, "item_id": "i"}
    said |= {"output_index": 0, "content_index": 0, "logprobs": []}
    return b"event: response.output_text.delta\ndata: %b\n\n" % json.dumps(said).encode()


def message(text: str) -> bytes:
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\ndata: %b\n\n" % json.dumps(said).encode()


def progress(text: str) -> bytes:
    said = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "message": text}}
    return b"event: message\ndata: %b\n\n" % json.dumps(said).encode()


def update(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"jsonrpc": "2.0", "id": 7, "result": _update(text)}).encode()


def bare_update(text: str) -> bytes:
    """The same in the binding HTTP+JSON."""
    return b"data: %b\n\n" % json.dumps(_update(text)).encode()


def _update(text: str) -> dict[str, Any]:
    said = {"messageId": "s", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    status = {"state": "TASK_STATE_WORKING", "message": said}
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": status}}


def plain(text: str) -> bytes:
    return b"data: %b\n\n" % text.encode()


class Endless:
    """An upstream whose streams have no end, or `count` events and an end; `given_up` once the gateway left one. After
    `hold` events it waits until it is released."""

    def __init__(
        self, event: bytes, count: int = 0, end: bytes = b"", at_once: int = 1, head: bytes = EVENT_STREAM,
        hold: int = 0,
    ) -> None:  # fmt: skip
        self.event, self.count, self.end, self.at_once, self.head = event, count, end, at_once, head
        self.hold = hold
        self.options: dict[str, Any] = {}  # of the upstream, in the configuration
        self.given_up, self.holds, self.released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.sent = 0
        self.server = Server(self._play)

    @property
    def whole(self) -> bytes:
        return self.event * self.count + self.end

    async def _play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(self.head)
        try:
            while not self.count or self.sent < self.count:
                self.sent += self.at_once
                await peer.send(chunk(self.event * self.at_once))
                await asyncio.sleep(0)
                if self.hold and self.sent == self.hold:
                    self.holds.set()
                    await self.released.wait()
            await peer.send((chunk(self.end) if self.end else b"") + b"0\r\n\r\n")
        except OSError:
            self.given_up.set()


def budget(unit: str, amount: float, **more: Any) -> dict[str, Any]:
    return {"name": "story", "key": ["subject.id"], "unit": unit, "amount": amount, "period": "total", **more}


@asynccontextmanager
async def told(
    folder: Path, upstream: Endless, protocol: str, *budgets: dict[str, Any], **more: Any
) -> AsyncIterator[tuple[Running, httpx2.AsyncClient]]:
    """A gateway before it, and a caller."""
    (folder / "prices.yaml").write_text(PRICES)
    async with upstream.server:
        found: dict[str, Any] = {
            "policy": open_policy(folder),
            "upstreams": {
                "up": {"url": f"http://127.0.0.1:{upstream.server.port}", "protocol": protocol, **upstream.options}
            },
            "routes": [{"name": "up", "match": {"path": "/up"}, "upstream": "up"}],
            "prices": str(folder / "prices.yaml"),
            "budgets": list(budgets),
        }
        with gateway(folder, **found, **more) as gate:
            headers = {"authorization": f"Bearer {gate.issuer.token()}"}
            async with httpx2.AsyncClient(base_url=gate.url, headers=headers, timeout=20) as http:
                yield gate, http


def events(body: bytes) -> list[Any]:
    """The data of all events; JSON read."""
    found = [part.partition(b"data: ")[2] for part in body.split(b"\n\n") if part]
    return [json.loads(data) if data[:1] == b"{" else data for data in found]


async def outcome(gate: Running) -> dict[str, Any]:
    records = await asyncio.to_thread(gate.records)
    [found] = [record for record in records if record["kind"] == "outcome"]
    return found


async def said_back(socket: socket_client.ClientConnection, message: str) -> tuple[str, Close | None]:
    """The echo, or how the socket was closed instead."""
    try:
        await socket.send(message)
        return str(await socket.recv()), None
    except ConnectionClosed as closed:
        return "", closed.rcvd or Close(1006, "")
