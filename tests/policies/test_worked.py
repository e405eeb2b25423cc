"""The worked policies: each is served, its own tests pass in Rego and in Cerbos, and notice when a guard is gone.

Their requests (policies/requests) say in their names what is answered to them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.access import AccessRequest
from gateway.pdp.compiled import compile_source
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.lab import run_tests
from gateway.pdp.sources import read_folder
from tests.pdp.asking import now, run
from tests.pdp.engine_servers import cerbos_server
from tests.policies.cerbos_server import answers, cerbos
from tests.policies.questions import WORKED

POLICIES = Path(__file__).resolve().parents[2] / "policies"
REQUESTS = sorted((POLICIES / "requests").glob("*/*.json"))
NAMED = [f"{path.parent.name}/{path.stem}" for path in REQUESTS]

# (policy, what stands there, what a careless edit would leave)
MUTANTS = [
    ("roles", 'input.action.name == "mcp.tools/call"', "true"),
    ("roles", 'input.resource.type == "tool"', "true"),
    ("roles", "\tname in data.tools[role]", "\tsome tool in data.tools[role]\n\tstartswith(name, tool)"),
    ("roles", '"/*"])]', '"*"])]'),
    ("roles", "\tnot input.context.direction\n", ""),
    ("roles", '\tinput.subject.id != "anonymous"\n', ""),
    ("roles", '\tstartswith(input.action.name, "mcp.")\n', ""),
    ("bounds", "amount > 0", "amount >= 0"),
    ("bounds", "amount <= data", "amount < data"),
    ("bounds", "\tinput.context.arguments.currency in data.bounds.transfer.currencies\n", ""),
    ("bounds", "\tstartswith(input.context.arguments.path, data.bounds.read_file.below)\n", ""),
    ("bounds", "\tnot climbs\n", ""),
    ("bounds", 'climbs if ".." in split', 'climbs if "..." in split'),
    ("bounds", 'path, "\\\\")', 'path, "//")'),
    ("bounds", '"\\u0000")', '"\\u0001")'),
    ("bounds", "\tis_array(input.context.arguments.to)\n", ""),
    ("bounds", "\tcount(input.context.arguments.to) > 0\n", ""),
    ("bounds", "to) <= data", "to) < data"),
    ("bounds", "\t\tendswith(address, data.bounds.send.domain)\n", ""),
    ("bounds", "\tinput.context.listing == true\n\treasons", "\treasons"),
    ("bounds", "\tnot input.context.direction\n", ""),
    ("delegation", "depth > most", "depth > most + 1"),
    ("delegation", "delegated_by}) < depth", "delegated_by}) > depth"),
    ("delegation", "\tnot every_actor_is_ours\n", "\tfalse\n"),
    ("delegation", "\tis_array(input.subject.properties.delegated_by)\n", ""),
    ("delegation", 'input.resource.type == "tool"\n\tinput.subject.id != "anonymous"', 'input.resource.type == "tool"'),
    ("delegation", "if own := data.delegation.tools[input.resource.id]", "if { own := 9; input.resource.id == \"\" }"),
    ("delegation", "\tnot input.context.direction\n", ""),
    ("hours", "[0] >= data.hours.from", "[0] > data.hours.from"),
    ("hours", "[0] < data.hours.to", "[0] <= data.hours.to"),
    ("hours", "input.context.time), data.hours.zone]", 'input.context.time), "UTC"]'),
    ("hours", "\ttime.weekday(moment) in data.hours.days\n", ""),
    ("hours", "\tnot is_holiday\n", ""),
    ("hours", "role in data.hours.always", 'role != ""'),
    ("hours", "\tinput.resource.id in data.hours.open\n", ""),
    ("hours", 'input.resource.type == "tool"\n\tinput.subject.id != "anonymous"', 'input.resource.type == "tool"'),
    ("classification", "\tcleared\n", ""),
    ("classification", "\towned\n", ""),
    ("classification", "\tnot_passed_on\n", ""),
    ("classification", ">= data.levels[label]", ">= data.levels[label] - 1"),
    ("classification", 'else := "secret"', 'else := "public"'),
    ("classification", "org == data.owner", 'org != ""'),
    ("classification", "delegated_by) == 0", "delegated_by) < 2"),
    ("classification", 'input.action.name == "mcp.tools/call"\n\tinput.resource.type == "tool"', "true"),
]  # fmt: skip

# The same of Cerbos' policies: (policy, file, what stands there, what a careless edit would leave)
CERBOS_MUTANTS = [
    ("roles", "tool.yaml", 'R.attr.upstream + "/*"', 'R.attr.upstream + "*"'),
    ("roles", "endpoint.yaml", 'P.id != "anonymous"', "true"),
    ("bounds", "tool.yaml", "V.given.amount > 0.0 && ", ""),
    ("bounds", "tool.yaml", "V.given.currency in C.currencies", '"true"'),
    ("bounds", "tool.yaml", '\'!(".." in V.given.path.split("/"))\'', '"true"'),
    ("bounds", "tool.yaml", "address.endsWith(C.domain)", "true"),
    ("bounds", "tool.yaml", "R.attr.context.listing == true && ", ""),
    ("delegation", "tool.yaml", "V.depth <= V.most", "true"),
    ("delegation", "tool.yaml", "- expr: V.once", '- expr: "true"'),
    ("delegation", "tool.yaml", "actor.startsWith(issuer)", "actor.contains(issuer)"),
    ("hours", "tool.yaml", "Europe/Oslo", "UTC"),
    ("hours", "tool.yaml", "V.moment.getDayOfWeek(C.zone) in C.days", '"true"'),
    ("hours", "tool.yaml", "V.moment.getMonth(C.zone) + 1", "V.moment.getMonth(C.zone)"),
    ("classification", "bounds.yaml", "|| P.attr.org == C.owner", "|| true"),
    ("classification", "bounds.yaml", ': "secret"', ': "public"'),
    ("classification", "bounds.yaml", "size(P.attr.delegated_by) == 0", "true"),
]  # fmt: skip


@pytest.mark.parametrize("name", WORKED)
def test_every_test_of_a_worked_policy_passes_and_they_reach_every_line(name: str) -> None:
    report = run_tests(read_folder(POLICIES / "worked" / name))
    assert not report.failed, "\n".join(f"{item.file}:{item.line} {item.name}: {item.said}" for item in report.failed)
    assert (report.todo, report.uncovered, report.coverage) == ((), (), 1.0)
    assert len(report.results) >= 10


def test_what_the_readme_of_the_policies_shows_is_what_is_printed() -> None:
    text = (POLICIES / "README.md").read_text()
    blocks = re.findall(r"```\n(\$ .*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        for shown in block.split("$ ")[1:]:
            command, _, printed = shown.partition("\n")
            environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
            done = subprocess.run(
                command,
                shell=True,
                cwd=POLICIES.parent,
                env=environ,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.stdout == printed, done.stderr


@pytest.mark.parametrize("name", WORKED)
def test_a_worked_policy_is_evaluated_in_process_and_only_the_clock_keeps_its_decisions_from_being_kept(
    name: str,
) -> None:
    policy = compile_source(read_folder(POLICIES / "worked" / name))
    assert policy.isolate == ()
    assert bool(policy.uncached) is (name == "hours")


@pytest.mark.parametrize(("name", "good", "bad"), MUTANTS, ids=[f"{item[0]}-{at}" for at, item in enumerate(MUTANTS)])
def test_a_guard_that_is_taken_out_is_missed_by_a_test(tmp_path: Path, name: str, good: str, bad: str) -> None:
    folder = shutil.copytree(POLICIES / "worked" / name, tmp_path / name)
    text = (folder / "policy.rego").read_text()
    assert good in text, "the mutant no longer fits the policy"
    (folder / "policy.rego").write_text(text.replace(good, bad))
    assert run_tests(read_folder(folder)).failed


@pytest.mark.parametrize(("path"), REQUESTS, ids=NAMED)
def test_a_request_is_answered_as_its_name_says(path: Path) -> None:
    engine = EmbeddedEngine(read_folder(POLICIES / "worked" / path.parent.name))
    decision = now(engine.decide(AccessRequest(json.loads(path.read_text()))))
    assert ("allow" if decision.allow else "deny") == path.stem.partition("-")[0]
    assert not decision.fault
    assert decision.rule
    assert bool(decision.reason) is not decision.allow


def test_every_worked_policy_has_requests_of_both_answers() -> None:
    said = {(path.parent.name, path.stem.partition("-")[0]) for path in REQUESTS}
    assert said == {(name, word) for name in WORKED for word in ("allow", "deny")}


def compiled(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [cerbos(), "compile", "--output=json", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", WORKED)
def test_cerbos_compiles_the_same_policy_and_its_tests_pass(name: str) -> None:
    done = compiled(POLICIES / "cerbos" / name)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert summary["testsCount"] >= 30
    assert summary["overallResult"] == "RESULT_PASSED"


@pytest.mark.parametrize(
    ("name", "file", "good", "bad"), CERBOS_MUTANTS, ids=[f"{item[0]}-{at}" for at, item in enumerate(CERBOS_MUTANTS)]
)
def test_a_guard_that_is_taken_out_is_missed_by_a_test_of_cerbos(
    tmp_path: Path, name: str, file: str, good: str, bad: str
) -> None:
    folder = shutil.copytree(POLICIES / "cerbos" / name, tmp_path / name)
    text = (folder / file).read_text()
    assert good in text, "the mutant no longer fits the policy"
    (folder / file).write_text(text.replace(good, bad))
    done = compiled(folder)
    assert "RESULT_FAILED" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", WORKED)
def test_cerbos_answers_each_request_as_its_name_says(name: str, tmp_path: Path) -> None:
    paths = [path for path in REQUESTS if path.parent.name == name]
    with cerbos_server(POLICIES / "cerbos" / name, tmp_path) as server:
        found = run(answers(server.grpc, [json.loads(path.read_text()) for path in paths]))
    assert {path.stem: decision.fault for path, decision in zip(paths, found, strict=True)} == {
        path.stem: False for path in paths
    }
    for path, decision in zip(paths, found, strict=True):
        assert ("allow" if decision.allow else "deny") == path.stem.partition("-")[0], path.name
