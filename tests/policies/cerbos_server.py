"""A real Cerbos with the policies of one folder, on free loopback ports, for as long as a test needs it.

The binary is that of the npm package that tests/components.sh installs; `TOLLGATE_CERBOS` or `cerbos` on PATH names
another.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.cerbos import CerbosAsker, CerbosSettings
from gateway.pdp.remote import RemoteEngine, RemoteSettings
from tests.pdp.asking import settled

ROOT = Path(__file__).resolve().parents[2]
_PACKAGED = "node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
READY_S = 30.0


def cerbos() -> str:
    """The path of the binary; the test is skipped, and says so, where there is none."""
    packaged = next((str(place) for place in (ROOT / "tests/clients/node" / _PACKAGED,) if place.exists()), None)
    found = os.environ.get("TOLLGATE_CERBOS") or packaged or shutil.which("cerbos")
    if not found:
        pytest.skip("no Cerbos here: tests/components.sh installs it, TOLLGATE_CERBOS would name one")
    return found


@contextmanager
def serving(folder: Path, scratch: Path) -> Iterator[str]:
    """The gRPC target of a Cerbos that serves the folder's policies."""
    http_port, grpc_port = _free(2)
    settings = {
        "server": {"httpListenAddr": f"127.0.0.1:{http_port}", "grpcListenAddr": f"127.0.0.1:{grpc_port}"},
        "storage": {"driver": "disk", "disk": {"directory": str(folder), "watchForChanges": False}},
        "telemetry": {"disabled": True},
    }
    (scratch / "cerbos.json").write_text(json.dumps(settings))
    with (scratch / "cerbos.log").open("wb") as log:
        command = [cerbos(), "server", "--config", str(scratch / "cerbos.json"), "--log-level=warn"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _ready(process, http_port, scratch / "cerbos.log")
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.terminate()
        process.wait(READY_S)


async def answers(target: str, questions: Sequence[dict[str, Any]]) -> list[Decision]:
    """What the gateway's own Cerbos engine answers, asked as for a list of that many items."""
    engine = RemoteEngine(CerbosAsker(CerbosSettings(target)), RemoteSettings("worked", deadline_s=READY_S))
    try:
        found: list[Decision] = await settled(engine.decide_many([AccessRequest(question) for question in questions]))
        return found
    finally:
        await engine.aclose()


def _free(count: int) -> list[int]:
    """Ports that are free together: none is given twice."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
        try:
            connection.request("GET", "/_cerbos/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise AssertionError(f"Cerbos did not start: {log.read_text()[-2000:]}")
