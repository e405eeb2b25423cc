"""Real Redis servers for tests: each in a folder of its own, on a free port, ended with the test."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis

from gateway.core.accounts import Budget, Standing, Tally
from gateway.core.ports import Clock
from gateway.stores.redis_counters import RedisCounters
from gateway.stores.redis_leases import LeasedCounters
from gateway.stores.redis_reconciling import Reconciling
from gateway.stores.redis_wire import Server
from gateway.stores.redis_words import Names

START_SECONDS = 10.0


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def free_port(below: int = 65536) -> int:
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
            if port < below:
                return port


class Running:
    """One redis-server process."""

    def __init__(self, folder: Path, port: int, options: Sequence[str]) -> None:
        program = shutil.which("redis-server")
        if program is None and os.environ.get("TOLLGATE_TESTS") == "fast":
            pytest.skip("redis-server is not here")
        assert program is not None, "redis-server is not here: tests/components.sh installs it"
        self.folder, self.port, self.options = folder, port, tuple(options)
        self._program = program
        self.process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        words = [
            self._program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
        ]
        process = subprocess.Popen([*words, *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, f"redis-server on port {self.port} ended"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0):
                    return process
            except OSError:
                assert time.monotonic() < end, "redis-server does not listen"
                time.sleep(0.02)

    def client(self, **more: object) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, **more)  # type: ignore[call-overload,no-any-return]

    def at(self) -> Server:
        return Server("127.0.0.1", self.port)

    def halt(self) -> None:
        """Stops answering, keeps its connections."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.process.kill()
            self.process.wait()

    def again(self) -> None:
        """Started once more, on the same port."""
        self.stop()
        self.process = self._launch()


@contextmanager
def server(*options: str, port: int = 0) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        found = Running(Path(folder), port or free_port(), options)
        try:
            yield found
        finally:
            found.stop()


class Log:
    """What a node's log says, as Totals would."""

    def __init__(self, budgets: Sequence[Budget] = (), tallies: Sequence[Tally] = ()) -> None:
        self.budgets, self.tallies, self.asked = budgets, tallies, 0

    async def standing(self) -> tuple[Sequence[Budget], Standing]:
        self.asked += 1
        return self.budgets, Standing(0, tuple(self.tallies))


class Node:
    """One gateway's counters with what keeps them connected."""

    def __init__(
        self,
        servers: Sequence[Server],
        name: str,
        wait: float,
        log: Log | None = None,
        clock: Clock | None = None,
        share: float = 0.05,
    ) -> None:
        self.counters = RedisCounters(Names("tollgate", name), clock or RealClock(), wait)
        self.leases = LeasedCounters(
            self.counters, clock or RealClock(), lambda: len(self.keeping.peers), share, lasts=90.0
        )
        self.keeping = Reconciling(self.counters, servers, random.random, (log or Log()).standing, self.leases.tend)

    async def there(self, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            await self.keeping.reconciled.wait()


@asynccontextmanager
async def node(
    *servers: Server,
    name: str = "gw-1",
    wait: float = 2.0,
    log: Log | None = None,
    clock: Clock | None = None,
    share: float = 0.05,
) -> AsyncIterator[Node]:
    found = Node(servers, name, wait, log, clock, share)
    found.keeping.start()
    try:
        await found.there()
        yield found
    finally:
        found.leases.release()
        await found.keeping.aclose()


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)
