"""Upstreams in processes of their own, which can be killed, started again at the same address, and told how to behave.

Each answers with JSON that says who it is and how often it was asked, `Mcp-Session-Id` where a session is opened.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import until

_PROGRAM = Path(__file__).with_name("replica_program.py")


@dataclass
class Replica:
    name: str
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(_PROGRAM), self.name, str(self.port)])
        until(self._listens, what=f"{self.name}'s start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def behaves(self, mode: str) -> None:
        """well, hang, drop, drop-once, cut, what `replica_program.JUNK` has, sick (its health), later (a 503 that says
        when), done (the streams of /stream end), or a status."""
        assert self._ask("POST", "/mode", mode.encode()) is not None

    def told(self) -> dict[str, Any]:
        """How often it was asked, and what for."""
        return dict(json.loads(self._ask("GET", "/told")))

    @property
    def asked(self) -> int:
        return int(self.told()["asked"])

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            return self._ask("GET", "/told") != b""
        return False

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def replicas(*names: str) -> Iterator[list[Replica]]:
    """Started, on free ports that stay theirs."""
    kept: list[socket.socket] = []
    found: list[Replica] = []
    for name in names:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        kept.append(held)
        found.append(Replica(name, held.getsockname()[1]))
    for held in kept:
        held.close()
    try:
        for replica in found:
            replica.start()
        yield found
    finally:
        for replica in found:
            replica.kill()
