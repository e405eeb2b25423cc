"""What is refused when a policy is loaded: the message names the file, the line, the rule and what is wrong."""

from __future__ import annotations

import pytest

from gateway.pdp.builtins import ALLOWED, CHEAP, NONDETERMINISTIC, REFUSED, UNBOUNDED
from gateway.pdp.compiled import compile_source
from gateway.pdp.sources import source_of
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import policy

ENTRY = "decision := true\n"


def refusal(text: str, **more: str) -> str:
    with pytest.raises(PolicyRefused) as raised:
        compile_source(policy(text, None, **more))
    return str(raised.value)


def test_a_plain_policy_is_served() -> None:
    assert compile_source(policy(ENTRY)).isolate == ()


def test_a_parse_error_names_its_line() -> None:
    assert refusal("decision := if {") == "policy.rego:3:13: unexpected keyword `if`"


def test_an_unsafe_variable_is_found_before_the_first_request() -> None:
    assert refusal("decision if { allwed }").startswith("policy.rego:3:15: use of undefined variable `allwed`")


def test_another_package_is_refused_because_it_would_never_be_asked() -> None:
    text = refusal(ENTRY, lib="package tolgate\n\ndeny := true")
    assert text.startswith("lib.rego:1: package tolgate is never asked")
    assert refusal(ENTRY, lib="package tollgates").startswith("lib.rego:1:")


def test_a_package_below_is_fine() -> None:
    compile_source(policy("decision if data.tollgate.lib.fine", None, lib="package tollgate.lib\n\nfine := true"))


def test_no_decision_is_refused() -> None:
    assert "no file has the rule decision" in refusal("allow := true")
    with pytest.raises(PolicyRefused, match="no file has the rule decision"):
        compile_source(source_of({"a.rego": "package tollgate.lib\n\ndecision := true"}))


@pytest.mark.parametrize("rule", ["decision contains true", "decision(x) := x", "decision[x] := true if x := 1"])
def test_a_decision_that_is_no_complete_rule_is_refused(rule: str) -> None:
    assert "must be a complete rule" in refusal(rule)


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"print", "trace"}))
def test_a_builtin_that_would_answer_otherwise_is_refused_with_its_reason(name: str) -> None:
    text = refusal(f"decision if {{\n\tfound := {name}(input.x)\n\tfound\n}}")
    assert text == f"policy.rego:4: rule decision: builtin {name}: {REFUSED[name]}"


@pytest.mark.parametrize("name", ["io.jwt.decode_verify", "crypto.sha256", "graphql.parse", "opa.nothing", "nothing"])
def test_a_builtin_that_is_not_there_is_refused(name: str) -> None:
    assert f"rule decision: builtin {name}: " in refusal(f"decision if {name}(input.x)")


@pytest.mark.parametrize(
    "text",
    [
        "decision if { x := [http.send({}) | true]; x }",
        'decision := {"decision": true, "context": {"reason": http.send({})}}',
        "decision if not http.send({})",
        "decision if { every x in http.send({}) { x } }",
        "decision if { some x in http.send({}); x }",
        "decision if input.a[http.send({})]",
        "decision if { true } else := http.send({})",
        "decision if f(1)\n\nf(x) := http.send(x)",
        "decision := true\n\nf(x) := x if { x with input as http.send({}) }",
        "decision := true\n\nr[http.send({})] := 1",
        "decision := true\n\nr contains http.send({})",
        "decision if (http.send({}) == 1) == true",
        "decision if 1 in {http.send({})}",
        "decision if -http.send({}) == 1",
        "decision if data.tollgate[http.send({})]",
    ],
)
def test_a_refused_builtin_is_found_wherever_it_stands(text: str) -> None:
    assert "builtin http.send" in refusal(text)


def test_a_rule_with_a_builtins_name_is_refused() -> None:
    assert "has the name of a builtin" in refusal(ENTRY + "\ncount(x) := 1 if x")


def test_walk_without_a_pattern_is_refused() -> None:
    assert "walk(x, [path, value])" in refusal("decision if { [path, value] := walk(input); value; path }")


def test_a_set_rule_with_a_variable_in_its_name_is_refused() -> None:
    assert "rule p:" in refusal(ENTRY + "\np[q].r contains s if { q := 1; s := 2 }")


@pytest.mark.parametrize(
    "text",
    [
        "decision := f(input.n)\n\nf(n) := f(n - 1) if n > 0",
        "decision := f(1)\n\nf(x) := g(x)\n\ng(x) := f(x)",
        "decision := a\n\na := b\n\nb := a",
        "decision if f(1)\n\nf(x) if r\n\nr if f(2)",
        "decision if decision",
        "decision if data.tollgate.decision",
        "decision if data.tollgate[input.x]",
        "decision if data[input.x].decision",
        "decision if { x := data.tollgate; x }",
    ],
)
def test_recursion_is_refused_because_it_would_end_the_process(text: str) -> None:
    assert "is recursive" in refusal(text)


def test_a_function_that_is_not_there_or_called_wrongly_is_refused() -> None:
    assert "no function of this policy" in refusal("decision if data.tollgate.f(1)")
    assert "f takes 1 arguments, 3 are given" in refusal("decision if f(1, 2, 3)\n\nf(x) if x")


def test_a_rule_of_two_kinds_is_refused() -> None:
    assert "rule a: is a set rule here and a complete rule elsewhere" in refusal(ENTRY + "\na := 1\n\na contains 2")


def test_only_input_and_data_are_imported() -> None:
    assert "import path must begin with" in refusal("import foo.bar\n\n" + ENTRY)


def test_data_below_the_policys_own_package_is_refused() -> None:
    with pytest.raises(PolicyRefused, match="the policy's data defines tollgate"):
        compile_source(policy(ENTRY, {"tollgate": {"decision": True}}))


def test_the_tables_of_builtins_agree() -> None:
    assert ALLOWED.isdisjoint(REFUSED)
    assert set(UNBOUNDED) | CHEAP | NONDETERMINISTIC <= ALLOWED
