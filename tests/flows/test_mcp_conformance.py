"""The public MCP conformance suite, straight at two servers and through the gateway: the same, check by check.

The servers are npm's `server-everything` (older era only) and a reference server of our own on the official TypeScript
SDK, which passes every scored check of both requirement sets when it is asked directly. In the middle stands the
shipped policy, which grants the route `reference` to anonymous callers, with limits on. A check that fails straight and
passes through the gateway is a difference too; each one that may be is named here, with the guard that does it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from rig import ROOT, Running, gateway, until

pytestmark = pytest.mark.slow

PACKAGES = ROOT / ".cache" / "node" / "node_modules"
CLIENTS = ROOT / "tests" / "clients" / "node"
SERVERS = {
    "everything": (
        "--import", str(CLIENTS / "loopback.mjs"),
        str(PACKAGES / "@modelcontextprotocol/server-everything/dist/index.js"), "streamableHttp",
    ),
    "reference": (str(CLIENTS / "reference" / "server.mjs"),),
}  # fmt: skip
SETS = ("2025-11-25", "2026-07-28")
LIMITS = [
    {"name": "rate", "key": ["subject.id", "route"], "rate": "100000/minute", "burst": 10000},
    {"name": "open", "key": ["subject.id"], "concurrent": 500},
]
# What must have come by, so that a suite which was never led through the gateway cannot pass.
ACTIONS = {
    "2025-11-25": {
        "mcp.initialize", "mcp.ping", "mcp.logging/setLevel", "mcp.completion/complete", "mcp.tools/list",
        "mcp.tools/call", "mcp.resources/list", "mcp.resources/read", "mcp.resources/subscribe", "mcp.prompts/list",
        "mcp.prompts/get", "mcp.stream.open", "mcp.session.end",
    },
    "2026-07-28": {
        "mcp.server/discover", "mcp.completion/complete", "mcp.tools/list", "mcp.tools/call", "mcp.resources/list",
        "mcp.resources/read", "mcp.prompts/list", "mcp.prompts/get", "mcp.subscriptions/listen",
    },
}  # fmt: skip

Check = tuple[str, str]  # scenario, id
Results = Mapping[Check, Counter[str]]  # how often each status came


@contextmanager
def server(name: str, folder: Path) -> Iterator[int]:
    """One of the servers, on loopback; its port."""
    said = folder / f"{name}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [PACKAGES / ".bin" / "node", *SERVERS[name]], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        port = re.compile(r'^\{"port": ?(\d+)\}$', re.MULTILINE)
        until(lambda: port.search(said.read_text()) or process.poll() is not None, 20, f"the start of {name}")
        found = port.search(said.read_text())
        assert found is not None, said.read_text()
        yield int(found[1])
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def suite(port: int, wanted: str, out: Path) -> Results:
    """Runs the server leg against localhost and reads what it says of each check."""
    command = ["conformance", "server", "--url", f"http://localhost:{port}/mcp", "--requirements", wanted, "-o", out]
    places = os.pathsep.join([str(PACKAGES / ".bin"), os.environ["PATH"]])
    tool = shutil.which("conformance", path=places)
    assert tool is not None, "the npm environment is not there; tests/components.sh installs it"
    done = subprocess.run([tool, *command[1:]], env={**os.environ, "PATH": places}, capture_output=True, timeout=240)
    assert out.is_dir(), done.stderr.decode()
    found: dict[Check, Counter[str]] = {}
    for folder in out.iterdir():
        scenario = re.sub(r"^server-(.*?)-\d{4}-\d\d-\d\dT.*$", r"\1", folder.name)
        told = folder / "checks.json"
        checks = json.loads(told.read_text()) if told.exists() else [{"id": "scenario", "status": "GIVEN UP"}]
        for check in checks:
            found.setdefault((scenario, check["id"]), Counter())[check["status"]] += 1
    return found


def scored(wanted: str, results: Results) -> tuple[int, list[Check]]:
    """How many checks of the set's scored scenarios passed, and those that failed."""
    folder = PACKAGES / "@modelcontextprotocol" / "conformance" / "requirements"
    names = set(yaml.safe_load((folder / f"{wanted}.yaml").read_text())["server"])
    mine = {check: statuses for check, statuses in results.items() if check[0] in names}
    assert {check[0] for check in mine} == names, "a scored scenario was not run"
    passed = sum(statuses["SUCCESS"] for statuses in mine.values())
    return passed, [check for check, statuses in mine.items() if set(statuses) - {"SUCCESS", "INFO", "SKIPPED"}]


@contextmanager
def through(port: int, folder: Path) -> Iterator[Running]:
    """A gateway in front of the server, with the same path."""
    reference = {"name": "reference", "match": {"path": "/mcp"}, "upstream": "reference", "auth": "anonymous"}
    upstream = {"url": f"http://localhost:{port}/mcp", "protocol": "mcp"}
    with gateway(folder, upstreams={"reference": upstream}, routes=[reference], limits=LIMITS) as running:
        yield running


def compared(name: str, wanted: str, folder: Path) -> tuple[Results, Results]:
    with server(name, folder) as port:
        straight = suite(port, wanted, folder / "straight")
    with server(name, folder) as port, through(port, folder) as running:
        behind = suite(running.app.port, wanted, folder / "behind")
        seen = running.records()
    actions = {record["action"] for record in seen if record["kind"] == "intent"}
    assert ACTIONS[wanted] <= actions, "the suite did not go through the gateway"
    assert {record["subject"]["id"] for record in seen if record["kind"] == "intent"} == {"anonymous"}
    assert {record["upstream"]["name"] for record in seen if record["kind"] == "outcome"} == {"reference"}
    assert not any(record["kind"] == "refusal" and "fault" in record for record in seen)
    return straight, behind


def differences(straight: Results, behind: Results) -> dict[Check, tuple[Mapping[str, int], Mapping[str, int]]]:
    return {
        check: (dict(straight.get(check, {})), dict(behind.get(check, {})))
        for check in straight.keys() | behind.keys()
        if straight.get(check) != behind.get(check)
    }


@pytest.mark.parametrize(("wanted", "all_scored"), [("2025-11-25", 70), ("2026-07-28", 120)], ids=SETS)
def test_a_conforming_server_conforms_through_the_gateway_check_by_check(
    wanted: str, all_scored: int, tmp_path: Path
) -> None:
    straight, behind = compared("reference", wanted, tmp_path)
    passed, failed = scored(wanted, straight)
    assert (passed, failed) == (all_scored, [])
    assert differences(straight, behind) == {}


# What the gateway upholds by itself, whatever the server does: these fail straight and pass behind it, nothing else
# differs. (The reference server upholds all of it too.)
HOST = "a Host that is not ours is refused"
SESSION = "an ended session is unknown"
ENVELOPE = "a message that does not say what its version asks for, or says it in two ways, is not forwarded"
UNKNOWN = "a method that the message's version does not have is not forwarded"
TASK = "a task that nobody was given is unknown"
UPHELD: dict[str, dict[Check, str]] = {
    "2025-11-25": {
        ("dns-rebinding-protection", "localhost-host-rebinding-rejected"): HOST,
        ("server-session-lifecycle", "server-session-terminated-returns-404"): SESSION,
    },
    "2026-07-28": {
        ("server-stateless", "sep-2575-request-meta-invalid-missing-meta"): ENVELOPE,
        ("server-stateless", "sep-2575-request-meta-invalid-missing-protocol-version"): ENVELOPE,
        ("server-stateless", "sep-2575-request-meta-invalid-missing-client-capabilities"): ENVELOPE,
        ("server-stateless", "sep-2575-http-server-header-mismatch-400"): ENVELOPE,
        ("server-stateless", "sep-2575-http-server-error-jsonrpc-id"): ENVELOPE,
        ("server-stateless", "sep-2575-http-server-method-not-found-404"): UNKNOWN,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-initialize"): UNKNOWN,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-ping"): UNKNOWN,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-logging-setlevel"): UNKNOWN,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-resources-subscribe"): UNKNOWN,
        ("server-stateless", "sep-2575-http-server-method-not-found-404-resources-unsubscribe"): UNKNOWN,
        ("tasks-dispatch-and-envelope", "sep-2663-tasks-result-removed-method-not-found"): UNKNOWN,
        ("tasks-dispatch-and-envelope", "tasks-removed-tasks-list"): UNKNOWN,
        ("tasks-dispatch-and-envelope", "sep-2663-tasks-get-invalid-task-id-32602"): TASK,
        ("tasks-request-headers", "tasks-headers-reject-mismatched-method"): ENVELOPE,
    },
}


@pytest.mark.parametrize("wanted", SETS)
def test_what_an_older_server_passes_it_passes_through_the_gateway_and_differs_only_for_the_better(
    wanted: str, tmp_path: Path
) -> None:
    straight, behind = compared("everything", wanted, tmp_path)
    found = differences(straight, behind)
    assert found.keys() == UPHELD[wanted].keys()
    for check, (before, after) in found.items():
        assert set(before) == {"FAILURE"}, (check, before)
        assert after == {"SUCCESS": 1} or after.get("FAILURE", 0) < before["FAILURE"], (check, after)
