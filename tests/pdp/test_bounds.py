"""Whether a policy may run where it cannot be stopped: what is not seen to be bounded is not."""

from __future__ import annotations

import pytest

from gateway.pdp.compiled import compile_source
from tests.pdp.asking import policy

ARGS = "input.context.arguments"

BOUNDED = [
    "decision := true",
    "decision if input.action.name in data.allowed",
    "decision if { some role in input.subject.properties.roles; data.roles[role].tools[input.resource.id] }",
    'decision if { some role in input.subject.properties.roles; some p in data.roles[role]; startswith("x", p) }',
    "decision if { some a in data.a; some b in data.b; some c in data.c; a == b; b == c }",
    f"decision if {{ some x in {ARGS}.items; x.price > 3 }}",
    f"decision if {{ every x in {ARGS}.items {{ x.price < data.most }} }}",
    f"decision if {ARGS}.items[_].price > 3",
    f"decision if count({ARGS}.items) < 10",
    f'decision if "x" in {ARGS}.items',
    f'decision if ".." in split({ARGS}.path, "/")',
    f"decision if {{ some d in data.roots; startswith({ARGS}.path, d) }}",
    f'decision if startswith(lower({ARGS}.path), "x")',
    f'decision if regex.match("^[a-z]+$", {ARGS}.path)',
    f"decision if {{ some x in [{ARGS}.a, {ARGS}.b, {ARGS}.c]; some y in [1, 2]; x == y }}",
    f"decision if {{ some x in {ARGS}.items; startswith(x, data.prefix) }}",
    f"decision if {{ one; two }}\n\none if some x in {ARGS}.a\n\ntwo if some x in {ARGS}.b",
    f"decision if {{ some x in {ARGS}.items; not data.blocked[x] }}",
    f"decision := [x | some x in {ARGS}.items] == []",
    "decision if f(data.list)\n\nf(list) if { some a in list; some b in list; a == b }",
    "decision if { names[input.action.name] }\n\nnames contains n if some n in data.names",
]

UNBOUNDED = [
    ("decision if { some i in numbers.range(1, 10); i }", "builtin numbers.range"),
    ("decision if { some i in numbers.range_step(1, 10, 2); i }", "builtin numbers.range_step"),
    (f"decision if {{ walk({ARGS}, [p, v]); p; v }}", "builtin walk"),
    ("decision if { walk(data.tree, [p, v]); p; v }", "builtin walk"),
    (f"decision if net.cidr_expand({ARGS}.net)[_]", "builtin net.cidr_expand"),
    (f"decision if bits.lsh(1, {ARGS}.n) > 0", "builtin bits.lsh"),
    (f"decision if {{ graph.reachable(data.g, {ARGS}.from)[_] }}", "builtin graph.reachable"),
    (f'decision if sprintf({ARGS}.format, [1]) == "x"', "a format made from input"),
    ('decision if { f := input.resource.id; sprintf(f, [1]) == "x" }', "a format made from input"),
    (f"decision if {{ some x in {ARGS}.a; some y in {ARGS}.b; x == y }}", "nests loops over the open part"),
    (f"decision if {{ some x in {ARGS}.a; some y in x; y }}", "nests loops over the open part"),
    (f"decision if {{ some x in {ARGS}.a; some y in data.b; x == y }}", "nests loops over the open part"),
    (f"decision if {{ some x in {ARGS}.a; x in {ARGS}.b }}", "nests loops over the open part"),
    (f"decision if {{ some x in {ARGS}.a; x in data.b }}", "nests loops over the open part"),
    (f"decision if {ARGS}.a[_] == {ARGS}.b[_]", "nests loops over the open part"),
    (f"decision if {ARGS}[_][_] == 1", "nests loops over the open part"),
    (f"decision if {{ every x in {ARGS}.a {{ some y in {ARGS}.b; x == y }} }}", "nests loops"),
    (f"decision if {{ some x in {ARGS}.a; not g(x) }}\n\ng(x) if {{ some y in {ARGS}.b; x == y }}", "nests loops"),
    (f"decision if {{ some x in {ARGS}.a; contains({ARGS}.text, x) }}", "nests loops"),
    (f"decision if {{ some x in {ARGS}.a; [y | some y in {ARGS}.b; y == x] == [] }}", "nests loops"),
    (f"decision if {{ xs := {ARGS}.a; some x in xs; some y in xs; x == y }}", "nests loops"),
    ("decision if { xs := input.context; some x in xs; some y in xs; x == y }", "nests loops"),
    ("decision if { some x in input; some y in input; x == y }", "nests loops"),
    ("import input.context.arguments as a\n\ndecision if { some x in a.b; some y in a.c; x == y }", "nests loops"),
    (f"decision if {{ some x in r; some y in r; x == y }}\n\nr contains z if some z in {ARGS}.a", "nests loops"),
    (f"decision if f({ARGS}.a)\n\nf(xs) if {{ some x in xs; g(x, xs) }}\n\ng(x, xs) if x in xs", "nests loops"),
    (f"decision if {{ some i; {ARGS}.a[i] == 1; some j; {ARGS}.b[j] == 2 }}", "nests loops"),
    (f"decision if {{ i := 1; c := [v | some i; v := {ARGS}.l[i]; {ARGS}.m[_] == v]; c == [i] }}", "nests loops"),
    (f"decision if {{ _ = {ARGS}.a[_]; _ = {ARGS}.b[_] }}", "nests loops"),
    ("decision if { some a in data.x; some b in a; some c in b; some d in data.y; d in c }", "nests loops"),
    ("decision if { some x in data.a; other with input.x as x }\n\nother if input.x == 1", "`with` evaluates rules"),
    ("decision := true\n\nf(xs) if { some x in xs; some y in xs; x == y }", "nests loops"),
    (f"decision := {{x: y | some x in {ARGS}.a; some y in {ARGS}.a}} == {{}}", "nests loops"),
    (f"decision := true\n\nr[x] := y if {{ some x in {ARGS}.a; some y in {ARGS}.a }}", "nests loops"),
]  # fmt: skip


@pytest.mark.parametrize("text", BOUNDED)
def test_a_bounded_policy_may_run_in_process(text: str) -> None:
    assert compile_source(policy(text)).isolate == ()


@pytest.mark.parametrize(("text", "words"), UNBOUNDED, ids=[text for text, _ in UNBOUNDED])
def test_anything_else_is_evaluated_apart_and_says_where_and_why(text: str, words: str) -> None:
    causes = compile_source(policy(text)).isolate
    assert any(words in cause and cause.startswith("policy.rego:") for cause in causes), causes


def test_functions_that_multiply_their_work_are_evaluated_apart() -> None:
    steps = [f"f{n}(x) if {{ f{n + 1}(x); f{n + 1}(x) }}" for n in range(20)]
    text = "decision if f0(1)\n\n" + "\n\n".join([*steps, "f20(x) if x"])
    assert any("functions call functions" in cause for cause in compile_source(policy(text)).isolate)
