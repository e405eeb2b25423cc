"""Decides recorded decisions again by a candidate policy. Inputs in, decisions or the honest reason why not.

1. The candidate is checked as it would be served, and evaluated in this process whatever it does: who replays a policy
   that may run for ever does it in a process that can be ended.
2. What the candidate does not get at need not be known (reached.py). What it gets at must be: not masked, not withheld,
   not left out.
3. Where it reads a member that a shape shows to be absent, or below what a shape shows to be no object, that is known.
4. A policy whose answer depends on more than its input (the clock, chance), or that refers to data its bundle does not
   have, has no answer for the past at all.
Equal excerpts are decided once (embedded.py keeps them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.core.whatif import EVERYTHING, NotReplayable, Path, Recorded
from gateway.pdp.builtins import NONDETERMINISTIC
from gateway.pdp.checks import touched, used
from gateway.pdp.compiled import Compiled, compile_source
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.reached import Reaching, Reference, references
from gateway.pdp.reads import covers
from gateway.pdp.sources import PolicySource
from gateway.pdp.syntax import Rule, callee, target, visit_rule

KEPT: Final = 65_536  # decisions, by excerpts of at most KEPT_BYTES
KEPT_BYTES: Final = 4096
_NEVER: Final = 86_400.0  # a replay is late for nobody
_ANY_BYTES: Final = 1 << 40


class Replay:
    """A Replayer. Raises PolicyRefused when made, for a candidate that would not be served. One thread's own."""

    def __init__(self, source: PolicySource) -> None:
        compiled = compile_source(source)
        settings = EmbeddedSettings(
            deadline_s=_NEVER,
            in_process_bytes=_ANY_BYTES,
            cache_entries=KEPT,
            cache_key_bytes=KEPT_BYTES,
        )
        self._engine: Final = EmbeddedEngine(replace(compiled, isolate=()), settings)  # 1
        self.revision: str = source.revision
        self._never: Final = _without_answer(compiled)
        self._references: Final = references(compiled.rules)
        self._reaching: Final = Reaching(compiled)
        self._excerpts: Final = Excerpts(compiled.reads)
        self._lacking: Final[dict[tuple[Path, ...], dict[Reference, str]]] = {}
        self._reached: Final[dict[tuple[bytes, frozenset[Reference]], Decision | Reference]] = {}

    def decide(self, recorded: Recorded) -> Decision | NotReplayable:
        why = recorded.unusable or self._never
        if not why and recorded.failed:
            why = "the engine had failed: there is nothing to compare with"
        if why:
            return NotReplayable(why)
        request = AccessRequest(recorded.document)
        unknown = self._unknown(recorded)
        if unknown:
            return self._without(request, unknown)
        answer = self._engine.decide(request)
        if not isinstance(answer, Decision):
            raise RuntimeError("a replayed decision is made in this process")
        return answer

    def _unknown(self, recorded: Recorded) -> dict[Reference, str]:
        """What the candidate's text names and nobody knows any more, each with its reason (2)."""
        found: dict[Reference, str] = {}
        if recorded.known != EVERYTHING:
            lacking = self._lacking.get(recorded.known)
            if lacking is None:
                lacks = {item: _lacks(item.place, recorded.known) for item in self._references}
                lacking = self._lacking[recorded.known] = {item: why for item, why in lacks.items() if why}
            found |= lacking
        for place in recorded.masked:
            found |= {
                item: f"masked: {_dotted(item.place)}" for item in self._references if covers([item.place], place)
            }
        for name, shape in recorded.withheld.items():
            why = f"only its shape was kept: {_dotted(('context', name))}"
            found |= {item: why for item in self._references if _reaches(item.place, name, shape)}
        return found

    def _without(self, request: AccessRequest, unknown: dict[Reference, str]) -> Decision | NotReplayable:
        """The decision, where it is made without getting at what is unknown."""
        key = self._excerpts.of(request), frozenset(unknown)
        answer = self._reached.get(key)
        if answer is None:
            answer = self._reaching.decide(key[0], unknown)
            if len(self._reached) >= KEPT:
                self._reached.clear()
            if len(key[0]) <= KEPT_BYTES:
                self._reached[key] = answer
        return NotReplayable(unknown[answer]) if isinstance(answer, Reference) else answer


def _lacks(place: Path, known: tuple[Path, ...]) -> str:
    if any(place[: len(other)] == other for other in known):
        return ""
    return f"not kept: {_dotted(place[:2] if place[:1] == ('context',) else place)}"


def _reaches(read: Path, name: str, shape: Json) -> bool:
    """Whether a read of the input gets at what a shape stands for (3)."""
    place = ("context", name)
    if read[:2] != place[: len(read)]:
        return False
    rest = read[2:]
    for part in rest:
        if not isinstance(shape, dict):
            return True
        members = shape.get("members")
        if not isinstance(members, dict):
            return shape.get("type") not in ("string", "number", "boolean", "null")
        if part not in members:
            return False
        shape = members[part]
    return True


def _without_answer(policy: Compiled) -> str:
    """Why a candidate has no answer for the past (4), "" if it has."""
    known = frozenset(rule.path for rule in policy.rules)
    for rule in policy.rules:
        for kind, content in visit_rule(rule):
            if kind == "Call" and target(rule.scope, names := callee(content, rule.file), known) is None:
                name = ".".join(names)
                if name in NONDETERMINISTIC:
                    return f"depends on time or chance: it calls {name}"
        absent = _absent_data(rule, known, policy.source.data)
        if absent:
            return f"external data: {absent} is not in the bundle"
    return ""


def _absent_data(rule: Rule, known: frozenset[Path], data: Mapping[str, Json]) -> str:
    for place in sorted(used(rule, known)):
        if place and not touched(place, known) and place[0] not in data:
            return _dotted(("data", *place))
    return ""


def _dotted(place: Path) -> str:
    return ".".join(place) or "the whole input"
