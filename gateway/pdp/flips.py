"""What a replay found: totals, what would change by rule, subject and resource, and examples to look at.

The rule: memory is bounded whatever the log holds. Groups are counted up to GROUPS of each sort and then together;
of examples a few are kept for each kind of change. Decisions are compared by effect and obligations; the same effect
by another rule or in other words is counted apart and is no flip.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.core.records import decision_of
from gateway.core.whatif import NotReplayable, Recorded

GROUPS: Final = 10_000
SHOWN: Final = 20  # groups of each sort
OTHERS: Final = "(others)"

TO_DENY: Final = "allow_to_deny"
TO_ALLOW: Final = "deny_to_allow"
OBLIGATIONS: Final = "obligations"
REWORDED: Final = "reworded"
KINDS: Final = (TO_DENY, TO_ALLOW, OBLIGATIONS)
_SORTS: Final = ("rule", "subject", "resource")


class Flips:
    """Counts one replay. `examples`: how many are kept of each kind of change, for each pair of rules."""

    def __init__(self, examples: int = 5) -> None:
        self.decisions = 0
        self.replayed = 0
        self.kinds: Counter[str] = Counter()
        self.not_replayable: Counter[str] = Counter()
        self.revisions: Counter[str] = Counter()
        self._groups: dict[str, dict[str, Counter[str]]] = {sort: {} for sort in _SORTS}
        self._examples: dict[tuple[str, str], list[dict[str, Json]]] = {}
        self._most = examples

    def add(self, recorded: Recorded, answer: Decision | NotReplayable) -> None:
        self.decisions += 1
        if isinstance(answer, NotReplayable):
            self.not_replayable[answer.why] += 1
            return
        self.replayed += 1
        self.revisions[recorded.revision] += 1
        now = decision_of(answer)
        obligations = now.get("obligations", [])
        kind = ""
        if recorded.allow != answer.allow:
            kind = TO_DENY if recorded.allow else TO_ALLOW
        elif recorded.allow and list(recorded.obligations) != obligations:
            kind = OBLIGATIONS
        if kind:
            self._changed(kind, recorded, now)
        elif (recorded.rule, recorded.reason) != (answer.rule, answer.reason):
            self.kinds[REWORDED] += 1

    @property
    def unchanged(self) -> int:
        return self.replayed - sum(self.kinds[kind] for kind in KINDS)

    def record(self) -> dict[str, Json]:
        """The whole of it."""
        by: dict[str, Json] = {f"by_{sort}": _largest(self._groups[sort]) for sort in _SORTS}
        return {
            "decisions": self.decisions,
            "replayed": self.replayed,
            "unchanged": self.unchanged,
            **{kind: self.kinds[kind] for kind in KINDS},
            REWORDED: self.kinds[REWORDED],
            "not_replayable": sum(self.not_replayable.values()),
            "not_replayable_because": dict(self.not_replayable.most_common()),
            "revisions": dict(self.revisions.most_common(SHOWN)),
            **by,
            "examples": [example for found in self._examples.values() for example in found],
        }

    def _changed(self, kind: str, recorded: Recorded, now: dict[str, Json]) -> None:
        self.kinds[kind] += 1
        rules = f"{recorded.rule or '(none)'} -> {now['rule'] or '(none)'}"
        for sort, name in zip(_SORTS, (rules, recorded.subject, recorded.resource), strict=True):
            groups = self._groups[sort]
            if name not in groups and len(groups) >= GROUPS:
                name = OTHERS
            groups.setdefault(name, Counter())[kind] += 1
        key = (kind, rules)
        if key not in self._examples and len(self._examples) >= SHOWN:
            return
        kept = self._examples.setdefault(key, [])
        if len(kept) < self._most:
            kept.append(_example(kind, recorded, now))


def _example(kind: str, recorded: Recorded, now: dict[str, Json]) -> dict[str, Json]:
    before: dict[str, Json] = {
        "effect": "allow" if recorded.allow else "deny", "rule": recorded.rule, "reason": recorded.reason,
        "obligations": list(recorded.obligations),
    }  # fmt: skip
    after: dict[str, Json] = {name: now.get(name, []) for name in before}
    return {
        "change": kind,
        "exchange": recorded.exchange,
        "seq": recorded.seq,
        "time": recorded.time,
        "subject": recorded.subject,
        "action": recorded.action,
        "resource": recorded.resource,
        "route": recorded.route,
        "revision": recorded.revision,
        "diff": {
            name: {"was": before[name], "would_be": after[name]} for name in before if before[name] != after[name]
        },
    }


def _largest(groups: dict[str, Counter[str]]) -> list[Json]:
    ordered = sorted(groups.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [{"name": name, **{kind: count[kind] for kind in KINDS}} for name, count in ordered[:SHOWN]]
