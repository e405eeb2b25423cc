"""Load for streams and WebSockets: how late each chunk arrives, how many echoes pass in a second."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import statistics
import time

STREAMS = 20
SOCKETS = 8
ECHOES = 1500
_SENT = re.compile(rb'"sent":([0-9.]+)')
ASKED = b'{"model":"small-1","stream":true,"messages":[{"role":"user","content":"What is the weather in Oslo?"}]}'


async def streamed(port: int, path: str, token: str) -> dict[str, float]:
    """`STREAMS` paced streams at once. Lateness of a chunk is from the moment the upstream wrote it."""
    late: list[float] = []
    first: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {token}\r\nContent-Length: {len(ASKED)}\r\nConnection: close\r\n\r\n"
        started = time.monotonic()
        writer.write(head.encode() + ASKED)
        seen = 0
        pending = b""
        while data := await asyncio.wait_for(reader.read(65536), 20):
            now = time.monotonic()
            pending += data
            found = [float(item) for item in _SENT.findall(pending)]
            pending = pending[pending.rfind(b"\n") + 1 :]
            if found and not seen:
                first.append(now - started)
            seen += len(found)
            late.extend(now - sent for sent in found)
            if b"[DONE]" in data:
                break
        writer.close()
        if seen < 100:
            raise SystemExit(f"a stream through port {port} brought {seen} chunks of 100")

    await asyncio.gather(*(one() for _ in range(STREAMS)))
    late.sort()
    return {
        "first_byte_ms": statistics.median(first) * 1e3,
        "late_p50_ms": statistics.median(late) * 1e3,
        "late_p99_ms": late[int(len(late) * 0.99)] * 1e3,
    }


async def echo(port: int, path: str, token: str) -> dict[str, float]:
    """`SOCKETS` sockets, one 32-byte text message under way in each."""
    payload = b"the quick brown fox jumps over 1"
    mask = b"\x01\x02\x03\x04"
    frame = bytes((0x81, 0x80 | len(payload))) + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
    wanted = bytes((0x81, len(payload))) + payload

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Authorization: Bearer {token}\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        if b" 101 " not in answer[:20]:
            raise SystemExit(f"no upgrade through port {port}: {answer[:200]!r}")
        for _ in range(ECHOES):
            writer.write(frame)
            if await asyncio.wait_for(reader.readexactly(len(wanted)), 10) != wanted:
                raise SystemExit(f"an echo through port {port} came back changed")
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*(one() for _ in range(SOCKETS)))
    return {"per_second": SOCKETS * ECHOES / (time.monotonic() - started)}
