"""How a decision came about: every rule's own answer, and the lines of the policy that were evaluated.

For people who ask `why` (`tollgate decide --explain`): it evaluates many times, with the engine's coverage switched on,
in an engine of its own. It must never stand on the way of a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.pdp.compiled import Compiled, engine_text, new_engine
from gateway.pdp.reads import projector
from gateway.pdp.syntax import PolicyRefused


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """What one rule says of this request: `defined` with its value, or an `error`, or neither. `line` is its first."""

    name: str
    file: str
    line: int
    defined: bool
    value: Json = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the policy that was evaluated for the decision (which is not to say that it held)."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Trace:
    input: Json  # what of the request the policy can read
    rules: tuple[RuleAnswer, ...]
    lines: tuple[Line, ...]


def trace(policy: Compiled, request: AccessRequest, rule: str) -> Trace:
    """Raises PolicyRefused when the request cannot be shown to the engine."""
    engine = new_engine(policy.source.modules, policy.source.data)
    document = dict(projector(policy.reads)(request.document))
    try:
        engine.set_input_json(orjson.dumps(document).decode())
    except TypeError as error:
        raise PolicyRefused(f"the request cannot be shown to the policy engine: {error}") from None
    engine.set_enable_coverage(True)
    _answer(engine, rule)
    report = orjson.loads(engine.get_coverage_report_as_json())
    engine.set_enable_coverage(False)
    return Trace(document, _rules(engine, policy), _lines(report))


def _rules(engine: regorus.Engine, policy: Compiled) -> tuple[RuleAnswer, ...]:
    found: dict[str, RuleAnswer] = {}
    for rule in policy.rules:
        name = ".".join(rule.path)
        if rule.kind == "function" or rule.params or rule.dynamic or name in found:
            continue
        text, error = _answer(engine, "data." + name)
        if error or text == '"<undefined>"':
            found[name] = RuleAnswer(name, rule.file, rule.line, False, error=error)
        else:
            found[name] = RuleAnswer(name, rule.file, rule.line, True, orjson.loads(text))
    return tuple(found.values())


def _answer(engine: regorus.Engine, rule: str) -> tuple[str, str]:
    """The rule's answer as JSON text, and the engine's error if there was one."""
    try:
        return engine.eval_rule_as_json(rule), ""
    except RuntimeError as error:
        return "", engine_text(error)


def _lines(report: dict[str, Json]) -> tuple[Line, ...]:
    found: list[Line] = []
    files = report["files"]
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict):
            texts = str(file["code"]).split("\n")
            covered = file["covered"]
            for number in covered if isinstance(covered, list) else ():
                if isinstance(number, int):
                    found.append(Line(str(file["path"]), number, texts[number - 1].strip()))
    return tuple(found)
