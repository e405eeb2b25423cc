"""What the log's tests share: a real sequencer on a temporary directory, records as the stages write them, an
unreliable disk, and an independent verifier's verdict."""

from __future__ import annotations

import asyncio
import errno
import itertools
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.log.disk import RealDisk
from gateway.log.note import VerifierKey
from gateway.log.verify import Report, verify
from gateway.log.writer import LogSettings, Sequencer

NODE = "gw.example/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEADLINE_SECONDS = 20.0

T = TypeVar("T")


class WallClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def exchange_id() -> str:
    return str(uuid.uuid4())


def record(kind: str, exchange: str = "", **more: Json) -> dict[str, Json]:
    """A record as the stages hand it in."""
    made: dict[str, Json] = {
        "kind": kind,
        "id": str(uuid.uuid4()),
        "time": "2026-11-22T12:00:00.000000Z",
        "action": "mcp.tools/call",
        "subject": {"id": "agent:idp/planner", "type": "agent", "roles": ["reader"]},
        "resource": {"id": "weather/get_forecast", "type": "tool"},
        **more,
    }
    if exchange:
        made["exchange"] = exchange
    if kind == "outcome":
        made.setdefault("result", "ok")
    return made


def sequencer(data_dir: Path, **more: Any) -> Sequencer:
    """Small segments, so that tests see many; checkpoints only when asked for or at the end, unless told otherwise."""
    settings = {"segment_bytes": 16 * 1024, "checkpoint_records": 1_000_000, "checkpoint_seconds": 3600.0}
    settings |= {name: more.pop(name) for name in list(more) if name in LogSettings.__dataclass_fields__}
    more = {"node": NODE, "key": KEY, "clock": WallClock(), "ids": Ids(time.time)} | more
    return Sequencer(data_dir, settings=LogSettings(**settings), **more)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The coroutine, with a deadline: a test that waits for ever says where."""

    async def limited() -> T:
        return await asyncio.wait_for(main(), DEADLINE_SECONDS)

    return asyncio.run(limited())


async def eventually(what: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> float:
    """Waits until it is true; how long that took."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, "it never came true"
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


async def exchanges(log: Sequencer, count: int) -> list[str]:
    """`count` whole exchanges, their intents durable."""
    made = []
    for _ in range(count):
        made.append(exchange_id())
        await log.sequenced(log.submit(record("intent", made[-1])))
        log.submit(record("outcome", made[-1]))
    return made


def written(data_dir: Path, count: int, **more: Any) -> list[str]:
    """A log with `count` exchanges, closed."""

    async def main() -> list[str]:
        log = sequencer(data_dir, **more)
        log.start(asyncio.get_running_loop())
        seqs = []
        made = []
        for _ in range(count):
            made.append(exchange_id())
            seqs.append(log.submit(record("intent", made[-1])))
            log.submit(record("outcome", made[-1]))
            if len(seqs) % 512 == 0:
                await log.sequenced(seqs[-1])
        await log.close()
        return made

    return run(main)


def verified(data_dir: Path, **more: Any) -> Report:
    return verify(data_dir / "log", [str(VerifierKey.of(NODE, KEY))], now=time.time(), **more)


class FaultyDisk(RealDisk):
    """A real disk that fails on demand: `broken` names the operations that raise, `error` what they raise."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.error = errno.ENOSPC
        self.calls = itertools.count()

    def _check(self, name: str) -> None:
        next(self.calls)
        if name in self.broken:
            raise OSError(self.error, f"injected into {name}")

    def append(self, fd: int, data: bytes, offset: int) -> None:
        self._check("append")
        super().append(fd, data, offset)

    def allocate(self, path: Path, size: int) -> int:
        self._check("allocate")
        return super().allocate(path, size)

    def replace(self, path: Path, data: bytes, scratch: Path) -> None:
        self._check("replace")
        super().replace(path, data, scratch)

    def sync_dir(self, path: Path) -> None:
        self._check("sync_dir")
        super().sync_dir(path)
