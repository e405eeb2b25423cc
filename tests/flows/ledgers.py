"""The two ledgers that are kept outside the gateway: the upstream's (what arrived) and the callers' (what came back).

`Upstream` runs in a thread and answers in bytes of its own making; `Callers` are processes (caller_driver.py). Neither
knows anything of the gateway's records: that is what makes them worth comparing with.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.flows.aside import Aside

DRIVER = Path(__file__).with_name("caller_driver.py")
EVENTS = 30
_RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'


class Upstream:
    """Takes any request. `received` holds the x-request-id of each, noted before a byte of the answer is sent."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.open = 0
        self._aside = Aside(self._serve)
        self.port = self._aside.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                self.received.append(headers["x-request-id"])
                await reader.readexactly(int(headers.get("content-length", 0)))
                await self._answer(first, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _answer(self, first: str, writer: asyncio.StreamWriter) -> None:
        if "/events" not in first and "/endless" not in first:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_RESULT)
            writer.write(head + _RESULT)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(EVENTS) if "/events" in first else itertools.count():
            writer.write(b"9\r\ndata: 1\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")

    def close(self) -> None:
        self._aside.close()


class Callers:
    """`acknowledged` and `refused` are x-request-ids, in the order in which this process learned of them."""

    def __init__(self, processes: int, connections: int) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self._over = 0
        self._more = threading.Condition()
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(DRIVER), str(connections)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        self._threads = [threading.Thread(target=self._read, args=(each,)) for each in self._processes]
        for thread in self._threads:
            thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            mark, _, exchange = line.strip().partition(" ")
            with self._more:
                if mark == "O":
                    self._over += 1
                elif mark == "A":
                    self.acknowledged.append(exchange)
                else:
                    self.refused.append(exchange)
                self._more.notify_all()

    def go(self, port: int, credential: str, count: int = 0) -> None:
        self._over = 0
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"go {port} {count} {credential}\n")
            process.stdin.flush()

    def acknowledge(self, count: int, seconds: float = 30) -> None:
        """Returns when so many answers have come back in all."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.acknowledged) >= count, seconds), "no answer comes"

    def over(self, seconds: float = 30) -> None:
        """Returns when every process is done: from then on the ledger does not grow."""
        with self._more:
            assert self._more.wait_for(lambda: self._over == len(self._processes), seconds), "a caller hangs"

    def close(self) -> None:
        """Ends the processes; what they said is read to its end. Idempotent."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join(10)
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def ledgers(processes: int, connections: int) -> Iterator[tuple[Upstream, Callers]]:
    upstream, callers = Upstream(), Callers(processes, connections)
    try:
        yield upstream, callers
    finally:
        callers.close()
        upstream.close()
