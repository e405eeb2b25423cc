"""`/readyz` asks what the gateway stands on: the log, the policy, each store (contract, section 7)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import httpx2
import pytest
from rig import Running, gateway, until

from tests.flows.canned import answer, canned, open_policy, say
from tests.flows.test_faults import settings
from tests.flows.test_reload_whole import APART

INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
).encode()


def ready(running: Running) -> bool:
    return say(running.app.admin_port, "GET /readyz").status == 200


def problems(running: Running) -> list[str]:
    headers = {"authorization": f"Bearer {running.admin_token}"}
    found: list[str] = httpx2.get(f"{running.admin_url}/api/v1/status", headers=headers).json()["problems"]
    return found


@pytest.mark.parametrize(
    ("file", "table", "called"),
    [
        ("handles.sqlite", "handles", "sessions and tasks"),
        ("records.sqlite", "portions", "index of records"),
        ("usage.sqlite", "position", "book of usage"),
        ("descriptors.sqlite", "descriptors", "descriptors"),
    ],
)
def test_a_store_that_does_not_answer_is_named_and_comes_back(
    tmp_path: Path, file: str, table: str, called: str
) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        assert ready(running)
        other = sqlite3.connect(tmp_path / "var" / file, isolation_level=None)
        other.execute(f"ALTER TABLE {table} RENAME TO away")
        until(lambda: not ready(running), seconds=5, what="not ready")
        [problem] = problems(running)
        assert problem.startswith(called)
        assert httpx2.get(f"{running.admin_url}/healthz").status_code == 200
        assert "away" not in httpx2.get(f"{running.admin_url}/readyz").text
        other.execute(f"ALTER TABLE away RENAME TO {table}")
        until(lambda: ready(running), seconds=5, what="ready again")
        other.close()


def test_sessions_that_cannot_be_written_are_seen_until_they_can(tmp_path: Path) -> None:
    """Reading still works then: the last binding tells that it could not be written."""
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        said = json.dumps({"jsonrpc": "2.0", "id": 7, "result": result}).encode()
        upstream.says["/mcp"] = answer(said, "application/json", "200 OK", "Mcp-Session-Id: s-1")
        other = sqlite3.connect(tmp_path / "var" / "handles.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        found = say(running.app.port, "POST /tools", "Content-Type: application/json", body=INITIALIZE)
        assert found.json()["error"]["code"] == -31503
        until(lambda: not ready(running), seconds=8, what="not ready")
        other.execute("ROLLBACK")
        until(lambda: ready(running), seconds=8, what="ready again")
        other.close()


def test_a_policy_that_can_decide_nothing_is_seen_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        running.reload(policy=open_policy(tmp_path, APART, "apart") | {"timeout": "10s"})
        assert say(running.app.port, "GET /files/x").status == 200
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(tmp_path / "no-interpreter"))
            for child in children():
                os.kill(child, signal.SIGKILL)
            until(lambda: not ready(running), seconds=5, what="not ready")
            assert any(item.startswith("policy") for item in problems(running))
        until(lambda: ready(running), seconds=10, what="ready again")
        assert say(running.app.port, "GET /files/x").status == 200


def children() -> list[int]:
    """Processes of this one that evaluate a policy."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            command = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if parent == str(os.getpid()) and b"child.py" in command:
            found.append(int(path.parent.name))
    return found
