"""A process that calls a gateway: `caller_driver.py CONNECTIONS`, told what to do by lines on its standard input.

`go PORT COUNT CREDENTIAL` opens the connections and calls COUNT times on each (0: until the gateway is gone), in turn a
plain request, a tool call and an event stream. Its standard output is its ledger: `A <x-request-id>` when the first
byte of an upstream's answer was received, `R <x-request-id>` for an answer of the gateway's own, `O` when all is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

PLAIN = (b"POST /plain/x", b"application/octet-stream", b"0123456789" * 20)
TOOL = (
    b"POST /weather",
    b"application/json",
    json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get", "arguments": {}}}
    ).encode(),
)
EVENTS = (b"GET /plain/events", b"application/octet-stream", b"")
KINDS = (PLAIN, TOOL, EVENTS)


def say(mark: str, exchange: str = "") -> None:
    os.write(1, f"{mark} {exchange}\n".encode())


async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, credential: str) -> None:
    line, kind, body = KINDS[number % len(KINDS)]
    head = b"%b HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\ncontent-type: %b\r\n"
    head += (
        b"accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\ncontent-length: %d\r\n\r\n"
    )
    writer.write(head % (line, credential.encode(), kind, len(body)) + body)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(item.lower().split(": ", 1) for item in lines if item)
    ours = "proxy-status" in headers or " 200 " not in first
    say("R" if ours else "A", headers["x-request-id"])
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)


async def connection(port: int, count: int, credential: str, number: int) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while count == 0 or number < count:
                await call(reader, writer, number, credential)
                number += 1
        finally:
            writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        if count:
            raise


async def go(connections: int, port: int, count: int, credential: str) -> None:
    starts = range(connections) if count == 0 else [0] * connections
    await asyncio.gather(*(connection(port, count, credential, number) for number in starts))


def main(connections: int) -> None:
    for line in sys.stdin:
        _, port, count, credential = line.split()
        asyncio.run(go(connections, int(port), int(count), credential))
        say("O")


if __name__ == "__main__":
    main(int(sys.argv[1]))
