"""Eight processes append to one log through its owner: one chain, nothing lost, nothing twice, also when one dies."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.core.canonical import Json
from gateway.log import export
from gateway.log.clerk import LogClerk
from gateway.log.writer import Sequencer
from gateway.wire.post import connected
from tests.log.log_rig import eventually, exchange_id, run, sequencer, verified

ROW = 68
DRIVER = Path(__file__).parent.parent / "log" / "remote_driver.py"


def begun(count: int) -> tuple[subprocess.Popen[str], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(theirs.fileno()), str(count)],
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    return process, ours


async def served(log: Sequencer, count: int) -> tuple[subprocess.Popen[str], LogClerk, asyncio.Event]:
    """A process that appends `count` exchanges, and its clerk."""
    process, ours = begun(count)
    gone = asyncio.Event()
    return process, LogClerk(log, await connected(ours, gone.set), lambda exchange: None), gone


def rows_of(folder: Path) -> list[dict[str, Any]]:
    directory = folder / "log"
    return [json.loads(entry) for _, entry in export.entries(directory, export.pin(directory))]


def acknowledged(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate()[0].replace("A ", "").split()


def closed(log: Sequencer) -> Callable[[dict[str, Json]], dict[str, Json]]:
    return lambda record: {**record, "id": exchange_id(), "time": "2026-11-22T12:00:00.000000Z"}


def test_eight_processes_with_five_hundred_appends_each_make_four_thousand_rows_of_one_chain(tmp_path: Path) -> None:
    async def main() -> list[str]:
        log = sequencer(tmp_path, checkpoint_records=300)
        log.start(asyncio.get_running_loop())
        crew = [await served(log, 250) for _ in range(8)]
        await asyncio.gather(*(gone.wait() for _, _, gone in crew))
        found = [exchange for process, _, _ in crew for exchange in acknowledged(process)]
        assert not any(clerk.open for _, clerk, _ in crew)
        await log.close()
        return found

    found = run(main)
    rows = rows_of(tmp_path)
    assert len(rows) == 4000
    assert [row["seq"] for row in rows] == list(range(4000))
    for kind in ("intent", "outcome"):
        assert sorted(row["exchange"] for row in rows if row["kind"] == kind) == sorted(found)
    report = verified(tmp_path)
    assert report.ok, report.problems


def test_what_a_killed_process_left_open_is_closed_once_and_what_it_was_told_is_there(tmp_path: Path) -> None:
    async def main() -> list[str]:
        log = sequencer(tmp_path, checkpoint_records=300)
        log.start(asyncio.get_running_loop())
        process, clerk, gone = await served(log, 1_000_000)
        other, _, over = await served(log, 250)
        await eventually(lambda: log.size > 100)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(gone.wait(), over.wait())
        clerk.close(closed(log))
        await log.close()
        return acknowledged(process) + acknowledged(other)

    told = run(main)
    rows = rows_of(tmp_path)
    intents = Counter(row["exchange"] for row in rows if row["kind"] == "intent")
    outcomes = Counter(row["exchange"] for row in rows if row["kind"] == "outcome")
    assert intents == outcomes
    assert set(intents.values()) == {1}
    assert set(told) <= set(intents), "acknowledged and lost"
    for row in rows:
        if row.get("result") == "unknown":
            assert rows[row["intent"]]["exchange"] == row["exchange"]
    report = verified(tmp_path)
    assert report.ok, report.problems
