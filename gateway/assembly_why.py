"""Why a policy decided as it did: finds the policy of that revision and the input of that digest, and has it told.

1. A decision is explained by the policy that made it, or not at all: another revision would give another reason. 2. By
the very input that it was given, or not at all: one that was put together again counts when its digest is the recorded
one. 3. The work is done in a process of its own, at most `AT_ONCE` at a time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.assembly_candidates import inner_engines
from gateway.control.recent import Recent
from gateway.core.access import AccessRequest
from gateway.core.canonical import Json, digest
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint
from gateway.core.recalled import proposals
from gateway.core.snapshot import Snapshot
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import PolicySource
from gateway.pdp.why import Asked
from gateway.pdp.why_child import explained

AT_ONCE = 2
REVISIONS = 4  # of policies that decided lately and no longer do

_REMOTE = "This engine is asked over the network: it gives its reason and rule, and cannot be asked what it looked at"
_GONE = "The policy of that revision is not here any more: activate it, or ask with --bundle, to be told more"
_FORGOTTEN = (
    "What the policy was given is not kept: the arguments of a call are in no record, unless audit.capture keeps them"
)


@dataclass(frozen=True, slots=True)
class Known:
    """A policy that decisions may have been made by."""

    source: PolicySource
    reads: frozenset[tuple[str, ...]]
    obligations: frozenset[str]


class PolicyWhys:
    """The port Whys of a running gateway. `note` is told each snapshot that comes into force."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.recent = Recent()

    def note(self, engine: DecisionPoint) -> None:
        for found in embedded(engine):
            self._known[found.revision] = known(found)
            self._known.move_to_end(found.revision)
        while len(self._known) > REVISIONS:
            self._known.popitem(last=False)

    async def recorded(self, records: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        snapshot = self._snapshot()
        self.note(snapshot.engine)
        decision = decision_in(records)
        if decision is None:
            return {}
        policy = self._known.get(str(decision.get("revision", "")))
        if policy is None:
            return _said(decision, {"note": _GONE if decision.get("engine") == EmbeddedEngine.name else _REMOTE})
        name = str(decision.get("input", ""))
        given = next((item for item in (one.given(name) for one in embedded(snapshot.engine)) if item), None)
        upstreams = {route.name: route.upstream for route in snapshot.routes}
        async with self._places:  # 3
            return await asyncio.to_thread(why_recorded, policy, decision, records, upstreams, given)

    async def asked(self, document: Mapping[str, Json], decision: Decision) -> dict[str, Json]:
        self.note(self._snapshot().engine)
        policy = self._known.get(decision.revision)
        if policy is None:
            return {"note": _REMOTE}
        async with self._places:
            return await asyncio.to_thread(_why_asked, policy, document, decision)


def embedded(engine: DecisionPoint) -> Iterator[EmbeddedEngine]:
    """Those of an arrangement whose policy is here."""
    if isinstance(engine, EmbeddedEngine):
        yield engine
    for inner in inner_engines(engine):
        yield from embedded(inner)


def known(engine: EmbeddedEngine) -> Known:
    return Known(engine.source, engine.reads, engine.obligations)


def decision_in(records: Sequence[Mapping[str, Json]]) -> Mapping[str, Json] | None:
    """The decision of an exchange's records."""
    for record in records:
        decision = record.get("decision")
        if isinstance(decision, dict):
            return decision
    return None


def why_asked(engine: DecisionPoint, document: Mapping[str, Json], decision: Decision) -> dict[str, Json]:
    """Blocks. Why a question was decided so, by the part of an arrangement that decided it."""
    for found in embedded(engine):
        if found.revision == decision.revision:
            return _why_asked(known(found), document, decision)
    return {"engine": decision.engine, "note": _REMOTE}


def _why_asked(policy: Known, document: Mapping[str, Json], decision: Decision) -> dict[str, Json]:
    facts: dict[str, Json] = {"engine": decision.engine, "revision": decision.revision}
    try:
        given = Excerpts(policy.reads).of(AccessRequest(document))
    except TypeError as error:
        return {**facts, "note": f"The request cannot be shown to the policy engine: {error}"}
    asked = Asked(given, decision.allow, None if decision.fault else decision.rule, policy.obligations)
    return {**facts, **explained(policy.source, asked)}


def why_recorded(
    policy: Known,
    decision: Mapping[str, Json],
    records: Sequence[Mapping[str, Json]],
    upstreams: Mapping[str, str],
    given: bytes | None = None,
) -> dict[str, Json]:
    """Blocks. `policy` is of the recorded revision (1). `given`: the input, where it is still known; else it is put
    together again, and held against the digest of what was decided (2)."""
    name, origin = decision.get("input"), "memory"
    if given is None:
        given, origin = _recalled(policy, str(name or ""), records, upstreams), "records"
    if given is None:
        return _said(decision, {"note": _FORGOTTEN})
    rule = str(decision.get("rule", ""))
    fault = rule == "late" or rule.startswith(("error: ", "panic: "))  # how it failed is told anew
    asked = Asked(given, decision.get("effect") == "allow", None if fault else rule, policy.obligations)
    return _said(decision, {"input_from": origin, **explained(policy.source, asked)})


def _recalled(
    policy: Known, name: str, records: Sequence[Mapping[str, Json]], upstreams: Mapping[str, str]
) -> bytes | None:
    excerpts = Excerpts(policy.reads)
    for document in proposals(records, upstreams):
        try:
            found = excerpts.of(AccessRequest(document))
        except orjson.JSONEncodeError:
            continue
        if digest(found) == name:
            return found
    return None


def _said(decision: Mapping[str, Json], found: dict[str, Json]) -> dict[str, Json]:
    facts = {name: decision[name] for name in ("engine", "revision", "input") if name in decision}
    return {**facts, **found}
