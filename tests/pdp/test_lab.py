"""The lab: a policy's own tests, run as `opa test` would."""

from __future__ import annotations

import pytest

from gateway.pdp.lab import run_tests
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import policy

POLICY = "default decision := false\n\ndecision if {\n\tinput.n > 1\n\tinput.m\n}\n"
TESTS = """package tollgate_test

test_more_than_one_is_allowed if data.tollgate.decision with input as {"n": 2, "m": true}

test_false_is_a_failure := false

test_undefined_is_a_failure if data.tollgate.decision with input as {"n": 0}

test_an_error_is_a_failure if {
	print("before", "it breaks")
	1 / input.nothing == 1 with input as {"nothing": 0}
}

test_a_number_is_a_failure := 1

todo_test_later if false

not_a_test if false
"""


def test_only_true_passes_and_each_failure_says_why() -> None:
    report = run_tests(policy(POLICY, None, a_test=TESTS))
    said = {result.name.split(".")[-1]: (result.passed, result.said) for result in report.results}
    assert said["test_more_than_one_is_allowed"] == (True, "")
    assert said["test_false_is_a_failure"] == (False, "false")
    assert said["test_undefined_is_a_failure"] == (False, "undefined")
    assert said["test_a_number_is_a_failure"] == (False, "1")
    assert said["test_an_error_is_a_failure"][0] is False
    assert "divide by zero" in said["test_an_error_is_a_failure"][1]
    assert "before it breaks" in said["test_an_error_is_a_failure"][1]
    assert len(said) == 5
    assert len(report.failed) == 4
    assert report.todo == ("tollgate_test.todo_test_later",)


def test_a_failure_says_where_it_is() -> None:
    report = run_tests(policy(POLICY, None, a_test=TESTS))
    places = {result.name: (result.file, result.line) for result in report.results}
    assert places["tollgate_test.test_false_is_a_failure"] == ("a_test.rego", 5)


def test_lines_no_test_reached_are_told() -> None:
    text = "package tollgate_test\n\ntest_it if not data.tollgate.decision with input as {}\n"
    report = run_tests(policy(POLICY, None, a_test=text))
    assert report.failed == ()
    assert report.uncovered == (("policy.rego", 7),)
    assert 0 < report.coverage < 1
    assert run_tests(policy(POLICY, None, a_test=TESTS)).uncovered == ()


def test_a_policy_that_would_not_be_served_is_not_tested() -> None:
    with pytest.raises(PolicyRefused, match=r"http\.send"):
        run_tests(policy("decision if http.send({})", None, a_test="package t\n\ntest_it := true\n"))


def test_a_test_that_nobody_would_run_is_refused() -> None:
    with pytest.raises(PolicyRefused, match=r"^policy\.rego:5: rule test_it: is a test among what is served"):
        run_tests(policy("decision := true\n\ntest_it if decision\n"))


def test_a_policy_without_tests_has_no_results() -> None:
    assert run_tests(policy("decision := true")).results == ()


def test_a_test_that_takes_arguments_is_refused() -> None:
    with pytest.raises(PolicyRefused, match="a test is a complete rule"):
        run_tests(policy("decision := true", None, a_test="package t\n\ntest_it(x) := x\n"))


def test_tests_that_cannot_be_read_are_refused_with_their_line() -> None:
    with pytest.raises(PolicyRefused, match=r"^a_test\.rego:3:"):
        run_tests(policy("decision := true", None, a_test="package t\n\ntest_it := if\n"))
