"""Real engines for the tests, each on free loopback ports (and a socket file) for as long as a block runs.

Cerbos is the binary that tests/components.sh installs; OPA is there where `TOLLGATE_OPA` or `opa` on PATH names one.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.policies.cerbos_server import cerbos

READY_SECONDS = 30.0


@dataclass(frozen=True)
class OpaServer:
    url: str
    socket: str


@dataclass(frozen=True)
class CerbosServer:
    http: str
    grpc: str
    log: Path


def opa() -> str:
    found = os.environ.get("TOLLGATE_OPA") or shutil.which("opa")
    if not found:
        pytest.skip("no OPA here: TOLLGATE_OPA or opa on PATH would name one")
    return found


@contextmanager
def opa_server(scratch: Path, *arguments: str, logged: bool = True) -> Iterator[OpaServer]:
    """`arguments` name policy and data files, or bundles. Only with a decision log does OPA name its decisions."""
    [port] = free_ports(1)
    path = f"/tmp/tollgate-opa-{os.getpid()}-{port}.sock"  # pytest's own folders are longer than a socket's path may be
    command = [opa(), "run", "--server", "--disable-telemetry", "--log-level", "info" if logged else "error"]
    command += ["--set", "decision_logs.console=true"] if logged else []
    command += ["--addr", f"127.0.0.1:{port}", "--addr", f"unix://{path}", *arguments]
    with _process(command, scratch / "opa.log") as process:
        _ready(process, port, "/health", scratch / "opa.log")
        try:
            yield OpaServer(f"http://127.0.0.1:{port}", path)
        finally:
            Path(path).unlink(missing_ok=True)


@contextmanager
def cerbos_server(
    folder: Path, scratch: Path, *, tls: tuple[Path, Path] | None = None, **more: Any
) -> Iterator[CerbosServer]:
    """`tls`: certificate and key for localhost. `more` are further sections of Cerbos's configuration."""
    http_port, grpc_port = free_ports(2)
    settings: dict[str, Any] = {
        "server": {"httpListenAddr": f"127.0.0.1:{http_port}", "grpcListenAddr": f"127.0.0.1:{grpc_port}"},
        "storage": {"driver": "disk", "disk": {"directory": str(folder), "watchForChanges": False}},
        "telemetry": {"disabled": True},
        **more,
    }
    if tls is not None:
        settings["server"]["tls"] = {"cert": str(tls[0]), "key": str(tls[1])}
    base = "https://localhost" if tls is not None else "http://127.0.0.1"
    (scratch / "cerbos.json").write_text(json.dumps(settings))
    log = scratch / "cerbos.log"
    with _process([cerbos(), "server", "--config", str(scratch / "cerbos.json")], log) as process:
        _ready(process, http_port, "/_cerbos/health", log, tls=tls is not None)
        yield CerbosServer(f"{base}:{http_port}", f"{base}:{grpc_port}", log)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(READY_SECONDS)


def free_ports(count: int) -> list[int]:
    """None of them is given twice."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _ready(process: subprocess.Popen[bytes], port: int, path: str, log: Path, *, tls: bool = False) -> None:
    until(lambda: process.poll() is not None or _answers(port, path, tls), f"{process.args!r}: {log}")
    assert process.poll() is None, log.read_text()[-2000:]


def _answers(port: int, path: str, tls: bool) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
    if tls:  # whether it is the right one is not what is asked here
        unchecked = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("localhost", port, timeout=READY_SECONDS, context=unchecked)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + READY_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        pause.wait(0.02)
