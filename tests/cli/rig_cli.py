"""Command lines run in this process, and a real log written for them to read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.cli.main import run
from gateway.core.ids import Ids
from gateway.log.note import LogKeys, NoteKey
from gateway.log.writer import Sequencer

EXCHANGE = "01990000-0000-7000-8000-00000000000{}"


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


class Shell:
    """`shell("check", path)` is `tollgate check path`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        found = self._capsys.readouterr()
        return Ran(code, found.out, found.err)


def write_log(data_dir: Path, key: LogKeys | NoteKey, exchanges: int) -> str:
    """Exchanges of an intent and an outcome each, a refusal at the end; returns the vkey."""

    async def story() -> str:
        clock = RealClock()
        log = Sequencer(data_dir, node="gw-1", key=key, clock=clock, ids=Ids(clock.time))
        log.start(asyncio.get_running_loop())
        seq = 0
        for number in range(exchanges):
            common = {
                "exchange": EXCHANGE.format(number % 10) if number < 10 else f"01990000-0000-7000-8000-{number:012d}",
                "subject": {"id": f"agent:idp/a{number % 2}", "type": "agent"},
                "action": "mcp.tools/call",
                "resource": {"id": "weather/get_forecast", "type": "tool"},
                "route": "weather",
            }
            moment = "2026-11-22T12:00:00.000000Z"
            decision = {"effect": "allow", "rule": "readers", "reason": "readers may read"}
            log.submit({"kind": "intent", "id": f"i{number}", "time": moment, "decision": decision, **common})
            response = {"status": 200, "bytes": 5}
            seq = log.submit(
                {"kind": "outcome", "id": f"o{number}", "time": moment, "result": "ok", "response": response, **common}
            )
        await log.sequenced(seq)
        await log.checkpoint()
        vkey = log.vkey
        await log.close()
        return vkey

    return asyncio.run(story())
