"""The client leg of the public MCP conformance suite: a real client, the gateway, and the suite's judging server.

The suite's server looks at every request that arrives and at how the client took the answers, so it sees whatever the
gateway would lose or add on the way. The client is the official TypeScript SDK's. Each scenario is run straight first.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rig import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ROOT / ".cache" / "node" / "node_modules"
CLIENT = [str(PACKAGES / ".bin" / "node"), str(ROOT / "tests/clients/node/reference/client.mjs")]
FRONTED = [sys.executable, str(ROOT / "tests/flows/fronted.py")]

CARRIED = {
    "2025-11-25": (
        "initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers",
        "http-custom-headers", "http-invalid-tool-headers", "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}  # fmt: skip
# Expected not to pass, and why: in all of them the server is its own protected resource with its own authorization
# server, and the client brings the token it got there. Through a gateway the resource is the gateway: it takes the
# credentials of its own issuers only, and hands none of a caller's on (a token is never passed through).
OWN_AUTHORIZATION = "auth/"
# A client that comes back a moment late on a busy machine gets a warning for it; too early or very late is a failure.
LATE = ("client-sse-retry-timing", "WARNING")


def judged(command: list[str], wanted: str, scenario: str, out: Path) -> Counter[tuple[str, str]]:
    """What the suite's server says of each check, with this client."""
    tool = [str(PACKAGES / ".bin" / "node"), str(PACKAGES / "@modelcontextprotocol/conformance/dist/index.js")]
    asked = ["--scenario", scenario, "--spec-version", wanted, "-o", str(out)]
    done = subprocess.run(
        [*tool, "client", "--command", shlex.join(command), *asked], capture_output=True, timeout=120, env=os.environ
    )
    found = list(out.glob("*/checks.json"))
    assert len(found) == 1, done.stdout.decode() + done.stderr.decode()
    told = [(check["id"], check["status"]) for check in json.loads(found[0].read_text())]
    return Counter((name, "SUCCESS") if (name, status) == LATE else (name, status) for name, status in told)


@pytest.mark.parametrize(("wanted", "scenario"), [(wanted, one) for wanted, all_ in CARRIED.items() for one in all_])
def test_a_real_client_is_judged_the_same_through_the_gateway(wanted: str, scenario: str, tmp_path: Path) -> None:
    straight = judged(CLIENT, wanted, scenario, tmp_path / "straight")
    behind = judged([*FRONTED, str(tmp_path), *CLIENT], wanted, scenario, tmp_path / "behind")
    assert {status for _, status in straight} <= {"SUCCESS", "INFO", "SKIPPED"}, straight
    assert behind == straight
    [told] = tmp_path.glob("*/records.json")
    kinds = Counter(record["kind"] for record in json.loads(told.read_text()))
    assert kinds["intent"] == kinds["outcome"] > 0, "the client did not go through the gateway"


@pytest.mark.parametrize("wanted", CARRIED)
def test_every_scored_scenario_is_run_or_is_about_authorization(wanted: str) -> None:
    folder = PACKAGES / "@modelcontextprotocol" / "conformance" / "requirements"
    scored = set(yaml.safe_load((folder / f"{wanted}.yaml").read_text())["client"])
    left = scored - set(CARRIED[wanted])
    assert left
    assert all(name.startswith(OWN_AUTHORIZATION) for name in left), left
