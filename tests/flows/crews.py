"""A gateway of several workers, served by the command line, and callers who reach all of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from rig import ISSUER, Issuer, read_log, until

from gateway.log.verify import verify
from tests.cli.served import Served, serving

ALL = 'package tollgate\n\ndecision := {"decision": true, "context": {"rule": "all", "reason": "all may"}}\n'
NONE = ALL.replace('"decision": true', '"decision": false').replace("all may", "nobody may")


def configure(folder: Path, upstream: int, **more: Any) -> dict[str, Any]:
    """Writes gateway.yaml and a policy into `folder`, which is where the gateway will run."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "decision.rego").write_text(ALL)
    settings: dict[str, Any] = {
        "node": "gw-1",
        "listen": "127.0.0.1:0",
        "drain": "5s",
        "admin": {"listen": "127.0.0.1:0"},
        "audit": {"checkpoint": {"records": 100, "every": "50ms"}},
        "policy": {"bundle": "policies"},
        "upstreams": {
            "plain": {"url": f"http://127.0.0.1:{upstream}/api", "protocol": "http"},
            "weather": {"url": f"http://127.0.0.1:{upstream}/mcp", "protocol": "mcp", "tools": {"pin": "none"}},
        },
        "routes": [
            {"name": name, "match": {"path": f"/{name}"}, "upstream": name, "auth": "anonymous", "audit": "strict"}
            for name in ("plain", "weather")
        ],
    } | more
    (folder / "gateway.yaml").write_text(json.dumps(settings))
    return settings


def issuer_of(issuer: Issuer) -> dict[str, Any]:
    """The section `trust` that believes it."""
    return {"issuers": [{"name": "idp", "issuer": ISSUER, "audience": "tollgate", "jwks": {"file": str(issuer.jwks)}}]}


class Crewed:
    """A running gateway of several workers."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.port = int(served.announced["listen"].rpartition(":")[2])
        self.admin = f"http://{served.announced['admin']}"
        self.vkey = served.announced["vkey"]

    def ask(self, path: str, method: str = "GET", **more: Any) -> httpx2.Response:
        token = Path("var/admin.token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"} | more.pop("headers", {})
        return httpx2.request(method, self.admin + path, headers=headers, **more)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/api/v1/status").json()
        return found

    def pids(self) -> dict[int, int]:
        """Of the workers that serve."""
        return {one["worker"]: one["pid"] for one in self.status()["workers"] if one["serves"]}

    def serves(self, count: int = 2) -> None:
        """Waits until so many workers do."""
        until(lambda: len(self.pids()) == count, 30, f"{count} workers that serve")

    def kill(self, processes: dict[int, int]) -> None:
        for pid in processes.values():
            os.kill(pid, signal.SIGKILL)

    def gone(self, before: dict[int, int]) -> None:
        """Waits until none of these processes serves."""
        until(lambda: not set(self.pids().values()) & set(before.values()), 30, "the end of the killed workers")

    def metric(self, name: str) -> dict[str, float]:
        """By the labels, as they are written."""
        found = {}
        for line in self.ask("/metrics").text.splitlines():
            told = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
            if told is not None:
                found[told.group(1) or ""] = float(told.group(2))
        return found

    def idle(self) -> None:
        def over() -> bool:
            status = self.status()
            return status["exchanges"] == 0 and status["log"]["unsequenced"] == 0

        until(over, 30, "the end of all exchanges")

    def records(self) -> list[dict[str, Any]]:
        """All of them, once nothing is under way."""
        self.idle()
        size = self.status()["log"]["size"]
        until(lambda: self.status()["log"]["published"] >= size, what="a checkpoint")
        return read_log(Path("var/log"))


@contextmanager
def crew(workers: int = 2) -> Iterator[Crewed]:
    """In the working directory. The books are checked when it ends by itself."""
    with serving("--workers", str(workers)) as served:
        crewed = Crewed(served)
        yield crewed
        if served.process.poll() is None:
            served.process.terminate()
            assert served.process.wait(30) == 0, served.text
    report = verify(Path("var/log"), [crewed.vkey])
    assert report.ok, report
    records = read_log(Path("var/log"))
    assert [record["seq"] for record in records] == list(range(len(records)))
    intents = sorted(record["exchange"] for record in records if record["kind"] == "intent")
    assert intents == sorted(record["exchange"] for record in records if record["kind"] == "outcome")


async def calls(port: int, connections: int, each: int, path: str = "/plain/x", headers: str = "") -> list[int]:
    """The statuses of `each` calls one after the other on each of `connections`, which the kernel spreads."""
    found: list[int] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in range(each):
                head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 2\r\n{headers}\r\nhi"
                writer.write(head.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                found.append(int(head.split()[1]))
                length = re.search(r"(?i)content-length: (\d+)", head)
                assert length is not None, head
                await reader.readexactly(int(length.group(1)))
        finally:
            writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
