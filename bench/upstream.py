"""The upstream of every measured path: a bare asyncio.Protocol, so that its own cost stays small.

`POST /mcp` answers a 307-byte JSON result; `POST /v1/chat/completions` streams chunks, one each `PACE` seconds, each
carrying the moment it left; `GET /ws` upgrades and echoes frames; `POST /agent` answers an A2A message. To the
gateway's own questions it says what it is: `server/discover` and `tools/list` of MCP 2026-07-28, and the agent's card,
which is read from a file. `python bench/upstream.py PORT [CARD]`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import httptools
import uvloop

CHUNKS = 100
PACE = 0.005
RESULT = (
    b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Oslo: -4 C, snow, wind 5 m/s from the north, '
    b"visibility 4 km, pressure 1003 hPa, humidity 91 percent, next update at 18:00 local time, issued by station "
    b"18700, "
    b'valid for one day"}],"isError":false}}'
)
RESULT = RESULT + b" " * (307 - len(RESULT))
REPLY = (
    b'{"jsonrpc":"2.0","id":1,"result":{"message":{"messageId":"r-1","role":"ROLE_AGENT",'
    b'"parts":[{"text":"A table for two at seven, by the window"}]}}}'
)
REPLY = REPLY + b" " * (307 - len(REPLY))
TOOL: dict[str, Any] = {
    "name": "get_forecast",
    "description": "The forecast of one city for some days.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
LISTED = {
    b"server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
    b"tools/list": {"tools": [TOOL]},
}


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


HEAD = answer(RESULT)[: -len(RESULT)]
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upstream(asyncio.Protocol):
    def __init__(self, card: bytes) -> None:
        self.card = card

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.key = b""
        self.url = b""
        self.asked = b""
        self.body = b""
        self.echo = False

    def data_received(self, data: bytes) -> None:
        if self.echo:
            self.transport.write(unmasked(data))
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            accept = base64.b64encode(hashlib.sha1(self.key + GUID).digest())
            head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            self.transport.write(head + b"sec-websocket-accept: " + accept + b"\r\n\r\n")
            self.echo = True

    def on_url(self, url: bytes) -> None:
        self.url = url
        self.asked = self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"sec-websocket-key":
            self.key = value
        elif name == b"mcp-method":
            self.asked = value

    def on_body(self, data: bytes) -> None:
        if self.asked:
            self.body += data

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self.url.startswith(b"/v1/"):
            self.task = asyncio.get_running_loop().create_task(self.stream())
        elif self.asked in LISTED:
            said = {"jsonrpc": "2.0", "id": json.loads(self.body)["id"], "result": LISTED[self.asked]}
            self.transport.write(answer(json.dumps(said).encode()))
        elif self.url.endswith(b"/agent-card.json"):
            self.transport.write(answer(self.card))
        else:
            self.transport.write(HEAD + (REPLY if self.url == b"/agent" else RESULT))

    async def stream(self) -> None:
        self.transport.write(SSE)
        for _ in range(CHUNKS):
            event = b'data: {"choices":[{"delta":{"content":"word"}}],"sent":%.6f}\n\n' % time.monotonic()
            self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(PACE)
        self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def unmasked(data: bytes) -> bytes:
    """The same frames without their masks. Frames of under 126 bytes, whole: what the measurement sends."""
    out = bytearray()
    at = 0
    while at + 6 <= len(data):
        size = data[at + 1] & 0x7F
        mask = data[at + 2 : at + 6]
        payload = data[at + 6 : at + 6 + size]
        out += bytes((data[at], size)) + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
        at += 6 + size
    return bytes(out)


async def main(port: int, card: bytes = b"{}") -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(card), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *[Path(path).read_bytes() for path in sys.argv[2:3]]))
