"""The client leg of the public MCP conformance suite: a real client, the gateway, and the suite's judging server.

The suite's server looks at every request that arrives and at how the client took the answers, so it sees whatever the
gateway would lose or add on the way. The client is the official TypeScript SDK's. Each scenario is run straight first.

In scenarios of authorization the server has an authorization server of its own, and the gateway is transparent to it,
in two places: on the server's own name, where nothing is rewritten and everything must pass, and at its own address.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
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
# Expected not to pass where the gateway has an address of its own, all for one reason and with one check: a client
# sends the resource it is told, which has to be the gateway's name or the client would not believe it; the server
# compares it with its own name. (The scenarios whose server does not compare pass.)
OTHER_NAME = ("resource-parameter-matches-prm", "FAILURE")
COMPARED = {
    "auth/metadata-default", "auth/metadata-var1", "auth/metadata-var2", "auth/metadata-var3",
    "auth/token-endpoint-auth-basic", "auth/token-endpoint-auth-post", "auth/token-endpoint-auth-none",
}  # fmt: skip
AT_ONCE = 3  # scenarios: each is mostly the start of three programs
# A client that comes back a moment late on a busy machine gets a warning for it; too early or very late is a failure.
LATE = ("client-sse-retry-timing", "WARNING")


def judged(command: list[str], wanted: str, scenario: str, out: Path) -> Counter[tuple[str, str]]:
    """What the suite's server says of each check, with this client."""
    tool = [str(PACKAGES / ".bin" / "node"), str(PACKAGES / "@modelcontextprotocol/conformance/dist/index.js")]
    asked = ["--scenario", scenario, "--spec-version", wanted, "-o", str(out)]
    done = subprocess.run(
        [*tool, "client", "--command", shlex.join(command), *asked], capture_output=True, timeout=120, env=os.environ
    )
    found = list(out.rglob("checks.json"))
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


def scored(wanted: str) -> set[str]:
    folder = PACKAGES / "@modelcontextprotocol" / "conformance" / "requirements"
    return set(yaml.safe_load((folder / f"{wanted}.yaml").read_text())["client"])


def told(wanted: str, scenario: str, command: list[str], out: Path) -> set[tuple[str, str]]:
    """The checks and their verdicts; how often, and what was merely noted, depends on who asks how often for what."""
    return {check for check in judged(command, wanted, scenario, out) if check[1] not in ("INFO", "SKIPPED")}


def authorizations(wanted: str, folder: Path, *form: str) -> dict[str, set[tuple[str, str]]]:
    """Every scenario of authorization through the gateway, held against straight: what differs is returned."""

    def differs(scenario: str) -> set[tuple[str, str]]:
        place = folder / scenario
        place.mkdir(parents=True)
        straight = told(wanted, scenario, CLIENT, place / "straight")
        assert {status for _, status in straight} == {"SUCCESS"}, (scenario, straight)
        behind = told(wanted, scenario, [*FRONTED, str(place), *form, *CLIENT], place / "behind")
        [records] = place.glob("*/records.json")
        kinds = Counter(record["kind"] for record in json.loads(records.read_text()))
        assert kinds["intent"] == kinds["outcome"] > 0, "the client did not go through the gateway"
        return straight ^ behind

    names = sorted(name for name in scored(wanted) if name.startswith("auth/"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: found for name, found in zip(names, pool.map(differs, names), strict=True) if found}


@pytest.mark.parametrize("wanted", CARRIED)
def test_a_client_is_authorized_through_a_gateway_on_the_servers_own_name_as_without_it(
    wanted: str, tmp_path: Path
) -> None:
    assert authorizations(wanted, tmp_path, "--named") == {}


@pytest.mark.parametrize("wanted", CARRIED)
def test_at_an_address_of_its_own_only_the_name_of_the_resource_differs(wanted: str, tmp_path: Path) -> None:
    other = {OTHER_NAME, (OTHER_NAME[0], "SUCCESS")}  # it fails, and what it would have said is missing
    assert authorizations(wanted, tmp_path) == dict.fromkeys(COMPARED, other)


@pytest.mark.parametrize(("wanted", "counted"), [("2025-11-25", 18), ("2026-07-28", 32)])
def test_every_scored_scenario_is_run(wanted: str, counted: int) -> None:
    names = scored(wanted)
    assert len(names) == counted
    assert all(name in CARRIED[wanted] or name.startswith("auth/") for name in names)
    assert names >= COMPARED
