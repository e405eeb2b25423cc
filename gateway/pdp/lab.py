"""Runs a policy's own tests: every rule named `test_...` in its `*_test.rego` files must be true.

As in `opa test`: false, undefined and an error are failures, `todo_test_...` is counted and not run. The policy itself
is checked as it would be served, before any test runs. It reports which lines of the policy no test evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.pdp.compiled import compile_source, engine_text, new_engine
from gateway.pdp.sources import PolicySource
from gateway.pdp.syntax import Rule, read_tree


@dataclass(frozen=True, slots=True)
class TestResult:
    """`said` is why it failed, with what the test printed."""

    __test__ = False  # its name is the policy author's word, not pytest's

    name: str
    file: str
    line: int
    passed: bool
    said: str = ""


@dataclass(frozen=True, slots=True)
class LabReport:
    """`todo` are tests that wait to be written, `uncovered` lines (file, line) of the policy that no test reached."""

    results: tuple[TestResult, ...]
    todo: tuple[str, ...]
    uncovered: tuple[tuple[str, int], ...]
    coverage: float  # share of the policy's lines that were evaluated

    @property
    def failed(self) -> tuple[TestResult, ...]:
        return tuple(result for result in self.results if not result.passed)


def run_tests(source: PolicySource) -> LabReport:
    """Raises PolicyRefused for a policy that would not be served, or tests that cannot be read."""
    compile_source(source)
    engine = new_engine((*source.modules, *source.tests), source.data)
    engine.set_gather_prints(True)
    engine.set_enable_coverage(True)
    files = {module.path for module in source.tests}
    tree = read_tree(engine.get_ast_as_json())
    for rule in tree:
        if rule.file not in files and rule.path[-1].startswith(("test_", "todo_test_")):
            raise rule.refuse(
                "is a test among what is served, where nobody runs it; put it into a file ending in _test.rego"
            )
    rules = [rule for rule in tree if rule.file in files]
    found = {rule.path: rule for rule in rules if rule.path[-1].startswith("test_")}
    todo = {".".join(rule.path) for rule in rules if rule.path[-1].startswith("todo_test_")}
    results = tuple(_run(engine, rule) for rule in found.values())
    uncovered, coverage = _coverage(engine, {module.path for module in source.modules})
    return LabReport(results, tuple(sorted(todo)), uncovered, coverage)


def _run(engine: regorus.Engine, rule: Rule) -> TestResult:
    name = ".".join(rule.path)
    if rule.kind not in ("complete", "default") or rule.params or rule.dynamic:
        raise rule.refuse("a test is a complete rule without arguments")
    try:
        answer = engine.eval_rule_as_json("data." + name)
    except RuntimeError as error:
        answer = f"error: {engine_text(error)}"
    printed: Iterable[str] = engine.take_prints()
    if answer == "true":
        return TestResult(name, rule.file, rule.line, True)
    said = "undefined" if answer == '"<undefined>"' else answer
    return TestResult(name, rule.file, rule.line, False, "\n".join((said, *printed)))


def _coverage(engine: regorus.Engine, files: set[str]) -> tuple[tuple[tuple[str, int], ...], float]:
    report = orjson.loads(engine.get_coverage_report_as_json())
    missed: list[tuple[str, int]] = []
    reached = 0
    for file in report["files"]:
        if file["path"] in files:
            missed.extend((file["path"], line) for line in file["not_covered"])
            reached += len(file["covered"])
    total = reached + len(missed)
    return tuple(sorted(missed)), reached / total if total else 0.0
