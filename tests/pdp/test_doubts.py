"""What an author is told of a policy that is served all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.pdp.compiled import compile_source
from gateway.pdp.doubts import doubts
from gateway.pdp.sources import read_folder
from tests.pdp.asking import policy

POLICIES = Path(__file__).resolve().parents[2] / "policies"
ODD = [
    ('decision if "reader" in input.subject.roles', "3: no request has input.subject.roles; ", "properties.roles"),
    ("decision if input.resource.upstream", "no request has input.resource.upstream", "input.resource.properties."),
    ("decision if input.arguments.amount < 5", "no request has input.arguments", "It is input.context.arguments"),
    ("decision if input.user", "no request has input.user; input has action, context, resource, subject", ""),
    ("decision if input.subjct.id", "no request has input.subjct", ""),
    ("decision if input.subject.properties.email", "no request has input.subject.properties.email", ""),
    ("decision if { s := 1; not input.subject.id.x; input.subject[s]; input.action.verb }", "input.action.verb", ""),
    ("import input.subject as who\n\ndecision if who.name", "5: no request has input.subject.name", ""),
    ("decision if input.subject.id in data.users", "policy.rego:3: no data file defines data.users", ""),
    ("import data.tolgate.lib\n\ndecision if lib.x", "no data file defines data.tolgate", ""),
    ("default decision := true\n\ndecision := false if input.action.name", "3: the default allows", "let the default"),
    ('default decision := {"decision": true}', "the default allows whatever no rule denies", ""),
    ("decision := true", "policy.rego:3: the decision allows whatever is asked", "give it a condition"),
    ('decision := {"decision": true, "context": {"rule": "any"}}', "the decision allows whatever is asked", ""),
]  # fmt: skip
PLAIN = [
    'default decision := false\n\ndecision if "reader" in input.subject.properties.roles',
    "decision if input.context.anything.at.all",
    "decision if input.resource.properties.anything",
    "decision := true if input.action.name",
    'decision := {"decision": false, "context": {"rule": "true"}}',
    "decision if data.tables[input.action.name]",
    "decision if data.tollgate.other\n\nother if input.resource.id",
    "decision if { some name; input[name] }",
]


@pytest.mark.parametrize(("text", "says", "advises"), ODD, ids=[item[0] for item in ODD])
def test_what_can_hardly_be_meant_is_told_with_its_place(text: str, says: str, advises: str) -> None:
    [doubt] = doubts(compile_source(policy(text, {"tables": {}})))
    assert doubt.startswith("policy.rego:")
    assert says in doubt
    assert advises in doubt


@pytest.mark.parametrize("text", PLAIN)
def test_what_may_well_be_meant_is_not(text: str) -> None:
    assert doubts(compile_source(policy(text, {"tables": {}}))) == ()


def test_the_same_is_told_once_for_a_line() -> None:
    assert len(doubts(compile_source(policy("decision if { input.user == 1; input.user == 2 }")))) == 1


@pytest.mark.parametrize(
    "folder", ["rego", *sorted(f"worked/{place.name}" for place in (POLICIES / "worked").iterdir())]
)
def test_nobody_doubts_what_is_shipped(folder: str) -> None:
    assert doubts(compile_source(read_folder(POLICIES / folder))) == ()
