"""R1: the process dies at every named point and at random moments; three ledgers are compared afterwards.

The client's (what was acknowledged, read from the dying process's pipe), the verifier's (its own code, on the dead
directory and after the restart), and the log's own. Nothing acknowledged is missing, every intent is closed after the
restart, the number of unknown outcomes is the number of calls in flight.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.log import export
from gateway.log.crash import CRASH_POINTS
from tests.log.log_rig import run, sequencer, verified

DRIVER = Path(__file__).with_name("writer_driver.py")
READY_SECONDS = 3.0
RANDOM_KILLS = 40


@dataclass(frozen=True)
class Ledger:
    acknowledged: list[str]
    done: set[str]


def until_death(data_dir: Path, point: str, nth: int, acknowledgements: int | None = None) -> Ledger:
    """Runs the driver until it dies, or kills it after so many acknowledgements."""
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), str(data_dir), point, str(nth)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    acknowledged: list[str] = []
    done = set()
    for line in process.stdout:
        mark, _, exchange = line.decode().strip().partition(" ")
        if mark == "A":
            acknowledged.append(exchange)
            if len(acknowledged) == acknowledgements:
                process.send_signal(signal.SIGKILL)
        elif mark == "D":
            done.add(exchange)
        assert len(acknowledged) < 20_000, f"{point} was never passed"
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(20) == -signal.SIGKILL, errors
    return Ledger(acknowledged, done)


def judge(data_dir: Path, ledger: Ledger) -> None:
    begun_once = (data_dir / "log" / "checkpoint").exists()
    assert begun_once or not ledger.acknowledged
    dead = verified(data_dir)
    assert dead.ok or not begun_once, dead.problems
    begun = time.monotonic()
    log = sequencer(data_dir)
    ready = time.monotonic() - begun
    recovery = log.recovery
    run(log.close)
    assert ready < READY_SECONDS
    after = verified(data_dir)
    assert after.ok, after.problems
    assert not after.in_flight
    assert after.pending == 0
    assert set(recovery.closed) == {exchange for exchange, _ in dead.in_flight}
    said = bool(recovery.closed or recovery.replayed or recovery.torn)
    assert after.size == dead.size + dead.pending + len(recovery.closed) + said
    assert recovery.replayed == dead.pending
    directory = data_dir / "log"
    records = [json.loads(entry) for _, entry in export.entries(directory, export.pin(directory))]
    intents = {item["exchange"] for item in records if item["kind"] == "intent"}
    outcomes = {item["exchange"]: item["result"] for item in records if item["kind"] == "outcome"}
    assert set(ledger.acknowledged) <= intents, "an acknowledged intent is missing"
    assert set(outcomes) == intents
    unknown = {exchange for exchange, result in outcomes.items() if result == "unknown"}
    assert set(recovery.closed) <= unknown
    never_done = set(ledger.acknowledged) - ledger.done
    assert never_done <= unknown, "a call whose outcome was never handed in has one"


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("point", [name for name in CRASH_POINTS if not name.startswith("recovery.")] + ["torn"])
def test_dying_at_a_named_point_loses_nothing_acknowledged(tmp_path: Path, point: str, nth: int) -> None:
    judge(tmp_path, until_death(tmp_path, point, nth))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["recovery.before_close", "recovery.after_close", "tile.after_write", "torn"])
def test_dying_during_recovery_is_recovered_from(tmp_path: Path, point: str) -> None:
    first = until_death(tmp_path, "journal.after_sync", 30)
    second = until_death(tmp_path, point, 1)
    judge(tmp_path, Ledger(first.acknowledged + second.acknowledged, first.done | second.done))


@pytest.mark.slow
def test_dying_at_random_moments_again_and_again_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """One directory through all deaths, each driver recovering what the one before left."""
    chance = random.Random(20261122)
    acknowledged: list[str] = []
    done: set[str] = set()
    for number in range(RANDOM_KILLS):
        ledger = until_death(tmp_path, "-", 0, chance.randrange(1, 120))
        acknowledged += ledger.acknowledged
        done |= ledger.done
        dead = verified(tmp_path)
        assert dead.ok, (number, dead.problems)
    judge(tmp_path, Ledger(acknowledged, done))
