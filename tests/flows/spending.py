"""Callers who spend, an upstream that keeps its own count, and gateways that are killed in between.

Three counts are kept by three parties: the callers' (what came back), the upstream's (what it would bill), the log's
(what was reserved and settled). They meet at the exchange's id, which the upstream is sent and the caller is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.cli.served import PROGRAM
from tests.flows.aside import Aside
from tests.rig import read_log

TRY_LATER = 503
PROMPT = 10  # tokens of each call's input, by the upstream's count; the gateway reckons with its bytes, which are more
BEHAVIOURS = ("ok", "stream", "error", "hang", "drop", "cut", "slow")
_RESET = struct.pack("ii", 1, 0)


class Vendor:
    """An OpenAI-shaped model in a thread. `billed`: by exchange, (input, output) tokens that it counts as used."""

    def __init__(self) -> None:
        self.billed: dict[str, tuple[int, int]] = {}
        self.twice: list[str] = []
        self._aside = Aside(self._serve)
        self.port = self._aside.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                how, _, output = body["user"].partition(":")
                await self._answer(headers["x-request-id"], how, int(output), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def _bill(self, exchange: str, tokens: int) -> None:
        if exchange in self.billed and self.billed[exchange][1] > tokens:
            self.twice.append(exchange)
        self.billed[exchange] = (PROMPT, tokens)

    async def _answer(
        self, exchange: str, how: str, output: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if exchange in self.billed:
            self.twice.append(exchange)
        if how == "error":
            self.billed[exchange] = (0, 0)
            writer.write(_whole(500, {"error": {"message": "not today", "type": "server_error"}}))
        elif how == "ok":
            self._bill(exchange, output)
            writer.write(_whole(200, {"id": "c", "object": "chat.completion", "choices": [], "usage": _usage(output)}))
        elif how in ("hang", "drop"):  # it worked, and nobody hears of it
            self._bill(exchange, output)
            if how == "hang":
                await reader.read(1)
            raise ConnectionError
        else:
            await self._stream(exchange, how, output, writer)

    async def _stream(self, exchange: str, how: str, output: int, writer: asyncio.StreamWriter) -> None:
        self._bill(exchange, 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(output):
            if how == "cut" and at >= output // 2:
                await writer.drain()
                raise ConnectionError
            writer.write(_event({"object": "chat.completion.chunk", "choices": [{"delta": {"content": "a"}}]}))
            await writer.drain()
            self._bill(exchange, at + 1)
            if how == "slow":
                await asyncio.sleep(0.002)
        writer.write(_event({"object": "chat.completion.chunk", "choices": [], "usage": _usage(output)}))
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()

    def close(self) -> None:
        self._aside.close()


def _usage(output: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT, "completion_tokens": output, "total_tokens": PROMPT + output}


def _whole(status: int, said: object) -> bytes:
    body = json.dumps(said).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status, len(body), body,
    )  # fmt: skip


def _event(said: object) -> bytes:
    data = b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass
class Made:
    """One call: what it asked for, and what came back. `status` 0: nothing did."""

    caller: int
    how: str
    most: int
    size: int
    status: int = 0
    exchange: str = ""


def asked(how: str, output: int, most: int) -> bytes:
    body = {
        "model": "spend-1",
        "max_tokens": most,
        "user": f"{how}:{output}",
        "messages": [{"role": "user", "content": "what is there to be had for this?"}],
    }
    if how in ("stream", "cut", "slow"):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


class Caller:
    """One connection at a time to one gateway of several."""

    def __init__(self, ports: Sequence[int], tokens: Sequence[str], pick: random.Random) -> None:
        self._ports, self._tokens, self._pick = ports, tokens, pick
        self._streams: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def call(self, how: str, output: int, most: int, path: str = "/model/v1/chat/completions") -> Made:
        who, port = self._pick.randrange(len(self._tokens)), await self._open()
        body = asked(how, output, most)
        made = Made(who, how, most, len(body))
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._tokens[who]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(15):
                await self._send(port, head.encode() + body, made)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self._drop(port)
        return made

    async def _open(self) -> int:
        """A gateway that there is a connection to: one that is down is waited for, or another one taken."""
        while True:
            port = self._pick.choice(self._ports)
            if port in self._streams:
                return port
            try:
                self._streams[port] = await asyncio.open_connection("127.0.0.1", port)
                return port
            except OSError:
                await asyncio.sleep(0.02)

    async def _send(self, port: int, request: bytes, made: Made) -> None:
        reader, writer = self._streams[port]
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        made.exchange = headers.get("x-request-id", "")
        made.status = int(first.split(" ")[1])
        if made.how == "slow" and made.status == 200:  # its caller goes away in the middle
            await reader.read(64)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._drop(port)
        elif "content-length" in headers:
            await reader.readexactly(int(headers["content-length"]))
        else:
            await reader.readuntil(b"0\r\n\r\n")
        if headers.get("connection") == "close":
            self._drop(port)

    def _drop(self, port: int) -> None:
        known = self._streams.pop(port, None)
        if known is not None:
            known[1].transport.abort()

    def close(self) -> None:
        for port in [*self._streams]:
            self._drop(port)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Node:
    """A gateway in a process of its own, which is killed and started again on the same folder and port."""

    folder: Path
    port: int
    admin: int
    process: subprocess.Popen[str] | None = None
    kills: int = 0
    workers: int = 1

    def start(self) -> None:
        with (self.folder / "stderr").open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "serve", "--config", "gateway.yaml", "--json", *_workers(self.workers)],
                cwd=self.folder, env=self._environ(), stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "stderr").read_text()[-3000:]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.kills += 1

    def stop(self) -> None:
        """As an operator does: all is settled and published."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(10)
            if self.process.stdout is not None:
                self.process.stdout.close()

    def invoiced(self) -> None:
        """`tollgate usage invoice` finds that the verified log is what the gateway's book says."""
        today = datetime.now(UTC).date()
        days = ["--from", str(today - timedelta(days=1)), "--to", str(today + timedelta(days=1))]
        vkey = (self.folder / "var" / "log" / "vkey").read_text().strip()
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "usage", "invoice", "--data-dir", "var", "--key", vkey, *days],
            cwd=self.folder, env=self._environ(), check=True, capture_output=True, timeout=120,
        )  # fmt: skip

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    @property
    def records(self) -> list[dict[str, Any]]:
        return read_log(self.folder / "var" / "log")

    @property
    def admin_token(self) -> str:
        return (self.folder / "var" / "admin.token").read_text().strip()


def _workers(number: int) -> list[str]:
    return ["--workers", str(number)] if number > 1 else []


async def spend(
    made: list[Made],
    callers: int,
    calls: int,
    make: Callable[[int], Caller],
    pick: random.Random,
    behaviours: Sequence[str] = BEHAVIOURS,
) -> None:
    """So many calls of random cost by so many callers at once; each is put into `made` when it is over."""
    weights = [60, 15, 6, 2, 3, 6, 8][: len(behaviours)]
    left = iter(range(calls))

    async def one(number: int) -> None:
        caller = make(number)
        for _ in left:
            bound = pick.randint(5, 60)
            [how] = pick.choices(behaviours, weights)
            while True:
                call = await caller.call(how, pick.randint(1, bound), bound)
                made.append(call)
                if call.status != TRY_LATER:
                    break
                await asyncio.sleep(0.05)  # its gateway has lost its owner, or its counters: it comes again
        caller.close()

    await asyncio.gather(*(one(number) for number in range(callers)))
