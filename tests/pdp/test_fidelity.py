"""What the engine would evaluate otherwise than OPA is refused, and what the message advises is served.

What OPA answers was found by asking OPA 1.4.2; `test_the_engine_does_so` keeps what the engine did when it was written
down, so that a later engine that agrees with OPA shows here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import regorus

from gateway.pdp.compiled import compile_source
from gateway.pdp.patterns import wrong_with
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import policy

F = "\n\nf(x) if x == 1"
NEGATED, EVERY = "`not` stands before", "`not` within `every`"
HEAD, ELSE, ORDER = "the head takes", "before an `else`", "by order"

REFUSED = [
    ("decision if not f(input.x)" + F, NEGATED),
    ('decision if not startswith(input.x, "a")', NEGATED),
    ("decision if not is_string(input.x)", NEGATED),
    ("decision if not input.x > 3", NEGATED),
    ("decision if not input.x != 1", NEGATED),
    ("decision if not input.a[input.x]", NEGATED),
    ('decision if not input.x in ["a"]', NEGATED),
    ('decision if not "a" in input.x', NEGATED),
    ("decision if not [input.x] == [1]", NEGATED),
    ("decision if not f(2) == input.x" + F, NEGATED),
    ("decision if not f(g)\n\ng := input.x" + F, NEGATED),
    ("decision if { y := input.a; not f(y.z) }" + F, NEGATED),
    ("decision if { x := [1 | not f(input.x)]; x == [1] }" + F, NEGATED),
    ("decision if { every y in [1] { not f(input.x); y } }" + F, NEGATED),
    ("import input.x\n\ndecision if not f(x)" + F, NEGATED),
    ("decision if { every e in input.l { not input.o[e] } }", EVERY),
    ("decision if { every e in input.l { not input.o[e] == 1 } }", EVERY),
    ("decision if { every e in input.l { not blocked[e] } }\n\nblocked contains 2", EVERY),
    ("decision if { every e in input.l { y := [1 | not input.o[e]]; y } }", EVERY),
    ("decision if { every e in input.l { every w in input.m { not input.o[w]; e } } }", EVERY),
    ("decision := true\n\nr := x.a if some x in input.l", HEAD),
    ("decision := true\n\nr := input.l[x] if some x in [0, 6]", HEAD),
    ("decision := true\n\nr contains input.l[x] if some x in [0, 6]", HEAD),
    ("decision := true\n\nr contains x.reason if some x in data.denials", HEAD),
    ("decision := true\n\nr[x] := input.l[x] if some x in [0, 6]", HEAD),
    ("decision := true\n\nr[x.a] := 1 if some x in input.l", HEAD),
    ('decision := true\n\nr := {"k": f(x)} if some x in [1, 6]' + F, HEAD),
    ('decision := true\n\nr := sprintf("%v", [x.a]) if some x in input.l', HEAD),
    ("decision := true\n\nr := x.a if x := input.l[_]", HEAD),
    ("decision := true\n\nr := input.l[i] if { some i; input.m[i] == 1 }", HEAD),
    ("decision := true\n\nr := v.a if walk(input, [p, v])", HEAD),
    ("decision := true\n\nr := 3 if { input.y } else := x.a if some x in input.l", HEAD),
    ("decision := true\n\nr := input.l[v] if { v := 1 } else := 3", HEAD),
    ("decision := true\n\ng(v) := input.l[v] if { true } else := 3", ELSE),
    ("decision := true\n\ng(v) := f(v) if { true } else := 3" + F, ELSE),
    ("decision if {1, 2} < input.x", ORDER),
    ("decision if {x | some x in input.l} >= input.x", ORDER),
    ("decision if s <= input.x\n\ns contains 1", ORDER),
    ("decision if data.tollgate.s > 5\n\ns contains 1", ORDER),
]  # fmt: skip

SERVED = [
    "decision if not input.x",
    "decision if not input.x.y",
    "decision if not input.x == 1",
    "decision if not input.a == input.b",
    'decision if { k := "q"; not input[k] }',
    'decision if { k := "q"; not data.blocked[k] == 1 }',
    "decision if { y := input.a; not f(y) }" + F,
    "decision if { y := input.a; l := data.l; not y in l }",
    "decision if { y := input.a; not y > 3 }",
    'decision if { y := input.a; not startswith(y, "x") }',
    "decision if not other\n\nother if f(input.x)" + F,
    "decision if { every e in input.l { not f(e) } }" + F,
    "decision if { every e in input.l { not e == 1 } }",
    "decision if { every e in input.l { not e.x } }",
    "decision if { every e in input.l { input.o[e] } }",
    "decision if { some e in input.l; not input.o[e] }",
    "decision := true\n\nr contains y if { some x in input.l; y := x.a }",
    "decision := true\n\nr contains x if some x in input.l",
    'decision := true\n\nr contains sprintf("%v", [x]) if some x in input.l',
    "decision := true\n\nr := [x.a | some x in input.l]",
    "decision := true\n\nr := input.y if { some x in input.l; x }",
    "decision := true\n\nr := x.a if x := input.l",
    "decision := true\n\ng(x) := x.a if { some y in input.l; y }",
    "decision := true\n\ng(v) := v if { true } else := 3",
    'decision := true\n\ng(v) := sprintf("%v", [v]) if { true } else := 3',
    "decision := true\n\nr := w if { v := 7; w := input.l[v] } else := 3",
    "decision if count({1, 2}) < input.x",
    "decision if {1, 2} == input.x",
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_opa_evaluates_otherwise_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyRefused, match=r"^policy\.rego:\d+: rule ") as raised:
        compile_source(policy(text))
    assert words in str(raised.value)


@pytest.mark.parametrize("text", SERVED)
def test_what_both_evaluate_alike_is_served(text: str) -> None:
    compile_source(policy(text))


DIFFERENCES: list[tuple[str, Any, Any, Any]] = [
    ("r if not f(input.x)\nf(x) if x == 1", {}, True, None),
    ("r if { every e in input.l { not input.o[e] } }", {"l": ["a"], "o": {}}, None, True),
    ("r contains input.l[x] if some x in [0, 6]", {"l": ["p"]}, [], ["p"]),
    ("r := input.l[v] if { v := 7 } else := 3", {"l": ["p"]}, "p", 3),
    ("r := g(7)\ng(v) := input.l[v] if { true } else := 3", {"l": ["p"]}, None, 3),
    ("r if { {1} < input.o }", {"o": {}}, True, None),
]


@pytest.mark.parametrize(("text", "document", "engine", "opa"), DIFFERENCES, ids=[item[0] for item in DIFFERENCES])
def test_the_engine_does_so(text: str, document: Any, engine: Any, opa: Any) -> None:
    """`opa` is what OPA answers; None stands for undefined in both."""
    asked = regorus.Engine()
    asked.add_policy("t.rego", "package t\n\n" + text)
    asked.set_input_json(json.dumps(document))
    answer = json.loads(asked.eval_rule_as_json("data.t.r"))
    assert (None if answer == "<undefined>" else answer) == engine
    assert engine != opa


def node(text: str) -> dict[str, Any]:
    return {"String": {"value": text}}


def glob(pattern: str, *delimiters: str) -> str | None:
    return wrong_with("glob.match", [node(pattern), {"Array": {"items": [node(mark) for mark in delimiters]}}, {}])


@pytest.mark.parametrize(
    "pattern",
    ["", "^[a-z0-9_-]+$", "a.b", r"a\.b", "(a|b)?c{2,3}", "(?:x)+?", "(?i)abc", "[^/]*", "[[:alpha:]_]+",
     r"\$\{x\}", "é+", "a{2}", r"[\]\\-]"],
)  # fmt: skip
def test_a_pattern_both_read_alike_is_served(pattern: str) -> None:
    assert wrong_with("regex.match", [node(pattern), {}]) is None


@pytest.mark.parametrize(
    "pattern",
    [r"\d+", r"\w", r"^\s$", r"\bx", r"[\d]", r"[^\w]", r"\D", "[a&&b]", "[a--b]", "[a~~b]", "[[a]b]", "x{", "a{,2}",
     r"\Qa\E", "(?x)a", "(?R)a", "(?-u:a)", "a**", r"\<a", r"\u0041", r"\pL", "(?P<n>a)", "(?s).", r"\x41", r"\z"],
)  # fmt: skip
def test_a_pattern_they_read_differently_is_refused(pattern: str) -> None:
    assert wrong_with("regex.match", [node(pattern), {}]) is not None


def test_a_pattern_that_is_not_written_out_is_refused() -> None:
    assert wrong_with("regex.match", [{"Var": {"value": "p"}}, {}]) is not None
    assert wrong_with("glob.match", [{"Var": {"value": "p"}}, {"Null": {}}, {}]) is not None
    with pytest.raises(PolicyRefused, match=r"builtin regex\.match: write the pattern"):
        compile_source(policy("decision if regex.match(data.patterns.x, input.x)"))
    with pytest.raises(PolicyRefused, match=r"builtin glob\.match: write the pattern"):
        compile_source(policy('decision if { some p in data.globs; glob.match(p, ["/"], input.x) }'))


def test_globs_are_served_where_both_match_alike() -> None:
    assert glob("a*/b", "/") is None
    assert glob("*.example", ".", "/") is None
    assert wrong_with("glob.match", [node("a*"), {"Null": {}}, {}]) is None
    for pattern, delimiter in (("a:*", ":"), ("a**", "/"), ("a?", "/"), ("[ab]", "/"), ("{a,b}", "/"), ("a*", "..")):
        assert glob(pattern, delimiter) is not None
    assert wrong_with("glob.match", [node("a*"), {"Var": {"value": "d"}}, {}]) is not None
