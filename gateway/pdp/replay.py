"""Decides recorded decisions again by a candidate policy. Inputs in, decisions or the honest reason why not.

1. The candidate is checked as it would be served, and evaluated in this process whatever it does: who replays a policy
   that may run for ever does it in a process that can be ended.
2. What the candidate does not read need not be known. What it reads must be: not masked, not withheld, not left out.
3. Where it reads a member that a shape shows to be absent, or below what a shape shows to be no object, that is known.
4. A policy whose answer depends on more than its input (the clock, chance), or that refers to data its bundle does not
   have, has no answer for the past at all.
Equal excerpts are decided once (embedded.py keeps them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.core.whatif import NotReplayable, Path, Recorded
from gateway.pdp.builtins import NONDETERMINISTIC
from gateway.pdp.checks import touched, used
from gateway.pdp.compiled import Compiled, compile_source
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
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
        self.reads: Final = compiled.reads
        self._never: Final = _without_answer(compiled)
        self._lacking: Final[dict[tuple[Path, ...], str]] = {}

    def decide(self, recorded: Recorded) -> Decision | NotReplayable:
        why = recorded.unusable or self._never or self._unknown(recorded)
        if not why and recorded.failed:
            why = "the engine had failed: there is nothing to compare with"
        if why:
            return NotReplayable(why)
        answer = self._engine.decide(AccessRequest(recorded.document))
        if not isinstance(answer, Decision):
            raise RuntimeError("a replayed decision is made in this process")
        return answer

    def _unknown(self, recorded: Recorded) -> str:
        """What the candidate reads and nobody knows any more, "" for nothing (2)."""
        if recorded.known != ((),):
            why = self._lacking.get(recorded.known)
            if why is None:
                why = self._lacking[recorded.known] = _lacks(self.reads, recorded.known)
            if why:
                return why
        for place in recorded.masked:
            if covers(self.reads, place):
                return f"masked: {_dotted(place[:3])}"
        for name, shape in recorded.withheld.items():
            for read in self.reads:
                if _reaches(read, name, shape):
                    return f"only its shape was kept: {_dotted(('context', name))}"
        return ""


def _lacks(reads: Iterable[Path], known: tuple[Path, ...]) -> str:
    for read in sorted(reads):
        if not any(read[: len(place)] == place for place in known):
            return f"not kept: {_dotted(read[:2])}" if read[:1] == ("context",) else f"not kept: {_dotted(read)}"
    return ""


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
