"""Which parts of an input one decision got at, so that what it did not get at need not be known.

1. The engine marks each line that it evaluates. A decision is the same for two inputs that differ in places it did not
   get at: up to the first reference to such a place the engine does the same for both, and that reference has a line.
2. A reference counts as got at when any of its lines was evaluated, whatever else stands there: one too many makes a
   decision unknown, one too few would make it a guess.
For replays; it costs some hundred microseconds more than a decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.pdp.answer import Reader
from gateway.pdp.compiled import Compiled, engine_text, new_engine
from gateway.pdp.embedded import RULE
from gateway.pdp.syntax import Path, Rule, reference, visit_rule

Line = tuple[str, int]

_FAILED: Final = "The policy could not be evaluated"
_UNDEFINED: Final = '"<undefined>"'


@dataclass(frozen=True, slots=True)
class Reference:
    """A place of the input that the policy's text names, and the lines on which it does."""

    place: Path
    lines: frozenset[Line]


def references(rules: Iterable[Rule]) -> tuple[Reference, ...]:
    """All of them, each place once."""
    found: dict[Path, set[Line]] = {}
    for rule in rules:
        for kind, content in visit_rule(rule):
            names = (reference(kind, content) or ([], []))[0]
            alias = rule.scope.aliases.get(names[0], ()) if names else ()
            if names and (names[0] == "input" or alias[:1] == ("input",)):
                place = (*alias[1:], *names[1:])
                found.setdefault(place, set()).update((rule.file, line) for line in _lines(content))
    return tuple(Reference(place, frozenset(lines)) for place, lines in sorted(found.items()))


class Reaching:
    """Decides and says what was got at. One thread's own."""

    def __init__(self, policy: Compiled) -> None:
        self._policy: Final = policy
        self._engine = self._made()
        self._reader = Reader("embedded", policy.source.revision)

    def decide(self, document: bytes, unknown: Collection[Reference]) -> Decision | Reference:
        """The decision, or one of `unknown` that it got at."""
        self._engine.clear_coverage_data()
        self._engine.set_input_json(document.decode())
        try:
            answer: str = self._engine.eval_rule_as_json(RULE)
        except RuntimeError as error:
            decision = self._reader.fault(_FAILED, f"error: {engine_text(error)}", 0.0)
        except BaseException as fault:  # noqa: BLE001 (the engine's panics are no subclass of Exception)
            return self._panicked(fault, unknown)
        else:
            undefined = answer == _UNDEFINED
            decision = self._reader.undefined(0.0) if undefined else self._reader.read(orjson.loads(answer), 0.0)
        covered = _covered(orjson.loads(self._engine.get_coverage_report_as_json()))
        return next((item for item in unknown if not covered.isdisjoint(item.lines)), decision)

    def _panicked(self, error: BaseException, unknown: Collection[Reference]) -> Reference:
        """What it got at, nobody knows, and the engine is in an unknown state. What is no panic goes on its way."""
        if type(error).__name__ != "PanicException":
            raise error
        self._engine = self._made()
        return next(iter(unknown))

    def _made(self) -> regorus.Engine:
        engine = new_engine(self._policy.source.modules, self._policy.source.data)
        engine.set_enable_coverage(True)
        return engine


def _covered(report: Mapping[str, Json]) -> frozenset[Line]:
    files: Any = report["files"]
    return frozenset((str(file["path"]), int(line)) for file in files for line in file["covered"])


def _lines(node: object) -> set[int]:
    """Every line that anything of a syntax node begins in."""
    if isinstance(node, dict):
        span = node.get("span")
        own = {int(span["line"])} if isinstance(span, dict) and "line" in span else set()
        return own.union(*(_lines(item) for item in node.values()))
    return set().union(*(_lines(item) for item in node)) if isinstance(node, list) else set()
