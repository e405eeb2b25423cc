"""The shipped policy by its own tests, and by mutants: what the policy guards, its tests notice when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.pdp.compiled import compile_source
from gateway.pdp.lab import run_tests
from gateway.pdp.sources import PolicySource, read_folder, source_of

FOLDER = Path(__file__).resolve().parents[2] / "policies" / "rego"

# (file, what stands there, what a careless edit would leave)
MUTANTS = [
    ("decision.rego", "if refusal", "if false"),
    ("decision.rego", '"decision": false, "context": refusal', '"decision": true, "context": refusal'),
    ("decision.rego", '{"rule": grant}} if grant\n', '{"rule": "any"}} if true\n'),
    ("decision.rego", '"rule": "no_grant"', '"rule": "default"'),
    ("grants.rego", "startswith(what.name, trim", "contains(what.name, trim"),
    ("grants.rego", '\tendswith(pattern, "*")\n\tstartswith(what', "\tstartswith(what"),
    ("grants.rego", '\tinput.subject.id == "anonymous"\n', ""),
    ("grants.rego", "data.anonymous[input.resource.properties.route]", "data.anonymous[_]"),
    ("grants.rego", 'if input.context.direction\n', "if false\n"),
    ("grants.rego", 'input.context.arguments.mode != "form"', 'input.context.arguments.mode == "url"'),
    ("grants.rego", 'array.concat(["everyone"], input', 'array.concat(["cook"], input'),
    ("grants.rego", 'trim_prefix(input.action.name, "http.")', '"GET"'),
    ("grants.rego", 'if pattern == name', "if startswith(name, pattern)"),
    ("grants.rego", 'if input.resource.type == "endpoint"', ""),
    ("refusals.rego", "input.context.listing == false", "true"),
    ("refusals.rego", "not amount_is_positive", "false"),
    ("refusals.rego", "\tis_number(input.context.arguments.amount)\n", ""),
    ("refusals.rego", "amount >", "amount >="),
    ("refusals.rego", "not path_is_text", "false"),
    ("refusals.rego", 'path_is_unsafe if ".." in split', 'path_is_unsafe if "..." in split'),
    ("refusals.rego", 'path, "\\\\")', 'path, "//")'),
    ("refusals.rego", '"\\u0000")', '"\\u0001")'),
    ("refusals.rego", "not path_is_confined", "path_is_confined"),
    ("refusals.rego", 'trim_suffix(folder, "/"), "/"', 'trim_suffix(folder, "/"), ""'),
    ("refusals.rego", 'climbs(address) if contains(address, "..")', "climbs(address) if false"),
    ("refusals.rego", 'climbs(address) if contains(address, "%2e")', "climbs(address) if false"),
    ("refusals.rego", 'climbs(address) if contains(address, "%2f")', "climbs(address) if false"),
    ("refusals.rego", "climbs(lower(", "climbs(upper("),
    ("reasons.rego", '(sampling)', "(it)"),
    ("data.yaml", "amount: {most: 500}", "amount: {most: 50000}"),
    ("data.yaml", "tools: {weather: [get_forecast]}", "tools: {weather: [get_forecast, transfer]}"),
    ("data.yaml", 'models: {"*": ["small-*"]}', 'models: {"*": ["*"]}'),
    ("data.yaml", "  weather/delete_station: ", "  weather/delete_nothing: "),
    ("data.yaml", "  reference:\n", "  weather:\n"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> PolicySource:
    return read_folder(FOLDER)


def test_every_test_of_the_shipped_policy_passes(shipped: PolicySource) -> None:
    report = run_tests(shipped)
    assert not report.failed, "\n".join(f"{item.file}:{item.line} {item.name}: {item.said}" for item in report.failed)
    assert len(report.results) >= 50
    assert not report.todo


def test_every_line_of_the_shipped_policy_is_tested(shipped: PolicySource) -> None:
    assert run_tests(shipped).uncovered == ()


@pytest.mark.parametrize(("file", "good", "bad"), MUTANTS, ids=[f"{item[0]}-{at}" for at, item in enumerate(MUTANTS)])
def test_a_guard_that_is_taken_out_is_missed_by_a_test(tmp_path: Path, file: str, good: str, bad: str) -> None:
    for path in FOLDER.iterdir():
        text = path.read_text()
        if path.name == file:
            assert good in text, "the mutant no longer fits the policy"
            text = text.replace(good, bad)
        (tmp_path / path.name).write_text(text)
    assert run_tests(read_folder(tmp_path)).failed


def test_the_shipped_policy_is_evaluated_in_process_and_its_decisions_are_kept(shipped: PolicySource) -> None:
    policy = compile_source(shipped)
    assert policy.isolate == ()
    assert policy.uncached == ()


def test_the_shipped_policy_reads_no_more_of_the_arguments_than_its_rules_are_about(shipped: PolicySource) -> None:
    """Reading all of them would send every large argument to the child process and make each call its own key."""
    read = {path for path in compile_source(shipped).reads if path[:2] == ("context", "arguments")}
    assert read == {("context", "arguments", name) for name in ("amount", "mode", "path")}


def test_the_tests_change_nothing_of_the_revision(shipped: PolicySource) -> None:
    served = {module.path: module.text for module in shipped.modules}
    assert source_of(served, shipped.data).revision == shipped.revision
    assert source_of(served | {"x_test.rego": "package x_test\n"}, shipped.data).revision == shipped.revision
    assert source_of(served, {**shipped.data, "forbidden": {}}).revision != shipped.revision
