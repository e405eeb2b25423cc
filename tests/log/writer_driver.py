"""A process that writes a log until it is killed: `writer_driver.py DATA_DIR CRASH_POINT NTH`.

Says on its standard output, line by line, `A <exchange>` after an intent was acknowledged (now the call would leave)
and `D <exchange>` after its outcome was handed in. At the NTH passage of CRASH_POINT it kills itself; `torn` dies
inside a write, with half a frame on its way; `-` waits to be killed from outside.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gateway.log.disk import RealDisk
from gateway.log.writer import Sequencer
from tests.log.log_rig import exchange_id, record, sequencer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class TearingDisk(RealDisk):
    """Dies half way through its nth write."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self._left = nth

    def append(self, fd: int, data: bytes, offset: int) -> None:
        self._left -= 1
        if self._left == 0:
            os.pwrite(fd, data[: len(data) // 2], offset)
            die()
        super().append(fd, data, offset)


def say(mark: str, exchange: str) -> None:
    os.write(1, f"{mark} {exchange}\n".encode())


async def call(log: Sequencer, large: bool) -> None:
    exchange = exchange_id()
    more = {"request": {"capture": "x" * 70_000}} if large else {}
    await log.sequenced(log.submit(record("intent", exchange, **more)))
    say("A", exchange)
    await asyncio.sleep(0)
    log.submit(record("outcome", exchange))
    say("D", exchange)


async def caller(log: Sequencer, number: int) -> None:
    for turn in itertools.count(number):
        await call(log, turn % 20 == 0)


async def main(data_dir: Path, point: str, nth: int) -> None:
    passed = itertools.count(1)

    def crash_point(name: str) -> None:
        if name == point and next(passed) == nth:
            die()

    disk = TearingDisk(nth) if point == "torn" else None
    log = sequencer(
        data_dir,
        disk=disk,
        crash_point=crash_point,
        checkpoint_records=40,
        checkpoint_seconds=0.02,
        segment_bytes=32 * 1024,
        listener=lambda entries: time.sleep(0),
    )
    log.start(asyncio.get_running_loop())
    say("R", "ready")
    await asyncio.gather(*(caller(log, number) for number in range(6)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
