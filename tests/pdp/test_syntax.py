"""The syntax tree: what is not understood refuses the policy, because nothing could be concluded from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import regorus

from gateway.pdp.syntax import PolicyRefused, read_tree, visit_rule

POLICY = """package tollgate.lib["x y"]

import data.teams.lists as lists
import input.context.arguments

p[q].r := v if {
	some q, v in lists.a
	every k, w in arguments { k != w }
	not lists[q]
	[1, {2}, {"three": -v}, (5 + 6) * 7] != {x | x := v with input.y as "z"}
	q in {"a": [y | y := f(v, `raw`)]}
} else := null

f(a, b) := a if b

s contains input.e["ö"].x

default d := true
"""


def tree(text: str = POLICY) -> str:
    engine = regorus.Engine()
    engine.add_policy("a.rego", text)
    found: str = engine.get_ast_as_json()
    return found


def test_rules_are_read_with_their_places() -> None:
    rules = read_tree(tree())
    place = ("tollgate", "lib", "x y")
    assert [(rule.path, rule.kind, rule.line) for rule in rules] == [
        ((*place, "p"), "complete", 6),
        ((*place, "f"), "function", 14),
        ((*place, "s"), "set", 16),
        ((*place, "d"), "default", 18),
    ]
    imported = {"lists": ("data", "teams", "lists"), "arguments": ("input", "context", "arguments")}
    assert rules[0].scope.aliases == imported
    assert (rules[0].name, len(rules[0].dynamic), len(rules[0].bodies)) == ("p", 1, 2)


def test_everything_in_a_rule_is_visited() -> None:
    kinds = {kind for rule in read_tree(tree()) for kind, _ in visit_rule(rule)}
    assert kinds == {
        "Var", "RefDot", "RefBrack", "Array", "Set", "Object", "UnaryExpr", "ArithExpr", "BoolExpr", "SetCompr",
        "ArrayCompr", "Membership", "Call", "AssignExpr", "String", "RawString", "Number", "Bool", "Null", "NotExpr",
        "Every",
    }  # fmt: skip


def renamed(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {new if key == old else key: renamed(item, old, new) for key, item in node.items()}
    return [renamed(item, old, new) for item in node] if isinstance(node, list) else node


KINDS = ["Call", "Array", "ArithExpr", "SomeIn", "Every", "NotExpr", "Spec", "Default", "Func", "Compr"]


def understood(text: str) -> list[tuple[str, Any]]:
    return [found for rule in read_tree(text) for found in visit_rule(rule)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_node_that_is_not_known_refuses_the_policy(kind: str) -> None:
    strange = json.dumps(renamed(json.loads(tree()), kind, "Surprise"))
    with pytest.raises(PolicyRefused, match=r"^a\.rego:\d+: .*Surprise is not understood"):
        understood(strange)


def test_a_node_of_two_kinds_refuses_the_policy() -> None:
    module = json.loads(tree())
    module[0]["ast"]["rules"][0]["Spec"]["head"]["Other"] = {}
    with pytest.raises(PolicyRefused, match="2 kinds"):
        read_tree(json.dumps(module))
