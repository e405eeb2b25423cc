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
def serving(folder: Path, scratch: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to the HTTP API of a Cerbos that serves the folder's policies."""
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
        connection = _ready(process, http_port, scratch / "cerbos.log")
        yield connection
        connection.close()
    finally:
        process.terminate()
        process.wait(READY_S)


def allowed(server: http.client.HTTPConnection, questions: Sequence[dict[str, Any]]) -> list[bool]:
    """What Cerbos answers to requests of one principal, asked as the gateway's engine asks."""
    subject = questions[0]["subject"]
    properties = subject["properties"]
    principal = {
        "id": subject["id"],
        "roles": properties["roles"] or ["anonymous"],
        "attr": {"type": subject["type"], **{name: value for name, value in properties.items() if name != "roles"}},
    }
    resources = [_resource(question) for question in questions]
    body = json.dumps({"requestId": "1", "principal": principal, "resources": resources})
    server.request("POST", "/api/check/resources", body, {"content-type": "application/json"})
    answer = server.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    results = json.loads(text)["results"]
    return [
        result["actions"][question["action"]["name"]] == "EFFECT_ALLOW"
        for result, question in zip(results, questions, strict=True)
    ]


def _resource(question: dict[str, Any]) -> dict[str, Any]:
    resource = question["resource"]
    attr = {**resource["properties"], "context": question["context"]}
    return {
        "actions": [question["action"]["name"]],
        "resource": {"kind": resource["type"], "id": resource["id"], "attr": attr},
    }


def _free(count: int) -> list[int]:
    """Ports that are free together: none is given twice."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> http.client.HTTPConnection:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
        try:
            connection.request("GET", "/_cerbos/health")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                return connection
        except OSError:
            pass
        connection.close()
        time.sleep(0.05)
    raise AssertionError(f"Cerbos did not start: {log.read_text()[-2000:]}")
