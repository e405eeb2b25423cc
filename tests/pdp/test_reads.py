"""What a policy can read of the input: too much is slow, too little would be wrong."""

from __future__ import annotations

import pytest

from gateway.pdp.compiled import compile_source
from gateway.pdp.reads import covers, projector
from tests.pdp.asking import policy, request

A_B = ("context", "arguments")

CASES = [
    ("decision := true", set()),
    ("decision if input.action.name", {("action", "name")}),
    ('decision if input["action"]["name"]', {("action", "name")}),
    ("decision if input[`action`].name", {("action", "name")}),
    ("decision if { input.action; input.action.name }", {("action",)}),
    ("decision if input.subject.properties.roles[_]", {("subject", "properties", "roles")}),
    ("decision if input.subject.properties.roles[0]", {("subject", "properties", "roles")}),
    ("decision if input.subject[input.action.name].x", {("subject",), ("action", "name")}),
    ("decision if { x := input.context; x.arguments.y }", {("context",)}),
    ("decision if { some x in input.context.arguments; x }", {A_B}),
    ("decision if { every x in input.context.arguments { x > 1 } }", {A_B}),
    ("decision if f(input.context.arguments)\n\nf(x) if x.y", {A_B}),
    ("decision if count(input.context.arguments.list) > 1", {(*A_B, "list")}),
    ("decision if not input.context.direction", {("context", "direction")}),
    ("decision if input", {()}),
    ("decision if { x := input; x.action }", {()}),
    ("decision if { some x in input; x }", {()}),
    ("decision if input[_]", {()}),
    ('decision if { k := "action"; input[k] }', {()}),
    ("decision if { walk(input, [p, v]); p; v }", {()}),
    ("decision := x if { x := [y | y := input.context.arguments.y] }", {(*A_B, "y")}),
    ("decision := {input.action.name: input.resource.id}", {("action", "name"), ("resource", "id")}),
    ("decision := true if { true } else := input.subject.id", {("subject", "id")}),
    ("default decision := false\n\ndecision if other\n\nother if input.resource.type == 1", {("resource", "type")}),
    ("decision := true\n\nnever_asked if input.resource.type", {("resource", "type")}),
    ("decision := true\n\nr[input.subject.id] := input.action.name", {("subject", "id"), ("action", "name")}),
    ("decision := true\n\nr contains input.subject.id", {("subject", "id")}),
    ("decision := true\n\nf(input.subject.id) := 1", {("subject", "id")}),
    ("import input.context.arguments\n\ndecision if arguments.path", {(*A_B, "path")}),
    ("import input.context.arguments as given\n\ndecision if given.path", {(*A_B, "path")}),
    ("import input as everything\n\ndecision if everything.action.name", {("action", "name")}),
    ("import input as everything\n\ndecision if everything", {()}),
    ("decision if { input.action.name in data.x with input.subject as {} }", {("action", "name"), ("subject",)}),
    ("decision if 1 in input.context.arguments", {A_B}),
    ("decision if -input.context.arguments.n == 1", {(*A_B, "n")}),
    ("decision if (input.action.name == input.resource.id) == true", {("action", "name"), ("resource", "id")}),
]


@pytest.mark.parametrize(("text", "reads"), CASES, ids=[text for text, _ in CASES])
def test_everything_a_rule_can_reach_counts_as_read(text: str, reads: set[tuple[str, ...]]) -> None:
    assert compile_source(policy(text)).reads == reads


def test_other_modules_count_as_well() -> None:
    source = policy("decision := true", None, lib="package tollgate.lib\n\nx if input.resource.id")
    assert compile_source(source).reads == {("resource", "id")}


def test_a_projection_has_what_is_read_and_nothing_else() -> None:
    project = projector({("subject", "id"), ("context", "arguments", "path"), ("action",)})
    asked = request({"path": "/x", "content": "long" * 1000})
    assert project(asked.document) == {
        "subject": {"id": "agent:idp/planner"},
        "context": {"arguments": {"path": "/x"}},
        "action": {"name": "mcp.tools/call"},
    }


def test_what_is_absent_stays_absent_and_null_stays_null() -> None:
    project = projector({("a", "b"), ("c",)})
    assert project({}) == {}
    assert project({"a": {}}) == {"a": {}}
    assert project({"a": {"b": None}, "c": None}) == {"a": {"b": None}, "c": None}


def test_a_value_where_an_object_was_expected_is_kept_as_it_is() -> None:
    project = projector({("a", "b")})
    for value in ("b", ["b"], 0, None, True):
        assert project({"a": value, "b": 1}) == {"a": value}


def test_a_policy_that_reads_everything_gets_the_document_itself() -> None:
    asked = request({"x": 1})
    assert projector({()})(asked.document) is asked.document


def test_a_part_or_a_whole_of_what_is_read_is_covered() -> None:
    reads = {("context", "arguments")}
    assert covers(reads, ("context", "arguments", "x"))
    assert covers(reads, ("context",))
    assert not covers(reads, ("context", "budget"))
    assert covers({()}, ("context", "budget"))


@pytest.mark.parametrize(
    "place", ["context.time", "context.request.id", "context.trace_id", "context", "context.request"]
)
def test_decisions_by_what_no_two_requests_share_are_not_kept(place: str) -> None:
    assert compile_source(policy(f"decision if input.{place}")).uncached


@pytest.mark.parametrize(
    "call", ["time.now_ns() > 0", "rand.intn(input.action.name, 2) == 1", 'uuid.rfc4122("x") != ""']
)
def test_decisions_by_chance_or_by_the_clock_are_not_kept(call: str) -> None:
    assert "calls" in compile_source(policy(f"decision if {call}")).uncached[0]
