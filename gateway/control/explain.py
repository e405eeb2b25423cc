"""One exchange explained: its records joined into who asked what, what was decided and why, and what came of it.

Pure, from records to a document; the admin plane and `tollgate explain` both show it. It tells what the records say and
nothing else: a member that is not there is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.control.passed import stages
from gateway.control.recent import Times
from gateway.core.canonical import Json

_ALWAYS: Final = (
    "exchange", "parent", "route", "subject", "action", "resource", "request", "trace_id", "limits", "budgets",
)  # fmt: skip


def explain(records: Sequence[Mapping[str, Json]], times: Times | None = None) -> dict[str, Json]:
    """`records` are all of one exchange, in any order. At least one. `times` are what no record says, while it is
    remembered."""
    ordered = sorted(records, key=_seq)
    joined: dict[str, Json] = {}
    for record in ordered:
        for name in _ALWAYS:
            if name in record:
                joined[name] = record[name]
        for name in ("decision", "descriptor"):  # said once, or in full only before anything left
            if name in record:
                joined.setdefault(name, record[name])
    last = ordered[-1]
    ended = last.get("kind") in ("outcome", "refusal")
    for name in ("refusal", "result", "response", "usage", "upstream", "filtered", "would_deny", "fault", "us"):
        if ended and name in last:
            joined[name] = last[name]
    joined["state"] = _state(last)
    joined["summary"] = _summary(joined)
    joined["stages"] = stages(joined, ordered, times)
    joined["steps"] = [_step(record) for record in ordered]
    joined["records"] = [dict(record) for record in ordered]
    return joined


def _seq(record: Mapping[str, Json]) -> int:
    seq = record.get("seq")
    return seq if isinstance(seq, int) else 0


def _state(last: Mapping[str, Json]) -> str:
    if last.get("kind") == "refusal":
        return "refused"
    return "ended" if last.get("kind") == "outcome" else "open"


def _member(record: Mapping[str, Json], name: str, inner: str) -> str:
    value = record.get(name)
    found = value.get(inner) if isinstance(value, dict) else None
    return "" if found is None else str(found)


def _summary(joined: Mapping[str, Json]) -> str:
    """One sentence or three: who, what, decided how, and what came of it."""
    who = _member(joined, "subject", "id") or "a caller who was not identified"
    thing = _member(joined, "resource", "id")
    if "action" in joined:
        asked = f"{who} asked for {joined['action']}" + (f" on {thing}" if thing else "")
    else:
        asked = f"{who} sent {_member(joined, 'request', 'method')} {_member(joined, 'request', 'path')}"
    if "route" in joined:
        asked += f" over route {joined['route']}"
    parts = [asked + ".", _decided(joined), _ended(joined)]
    return " ".join(part for part in parts if part)


def _decided(joined: Mapping[str, Json]) -> str:
    effect = _member(joined, "decision", "effect")
    if not effect:
        return ""
    rule, reason = _member(joined, "decision", "rule"), _member(joined, "decision", "reason")
    text = "Policy allowed it" if effect == "allow" else "Policy denied it"
    if effect != "allow" and _member(joined, "decision", "mode") == "report" and not _faulty(joined):
        text = "Policy would have denied it and was only reporting (policy.mode)"
    text += f" by rule {rule}" if rule else ""
    return text + (f": {reason}." if reason else ".")


def _faulty(joined: Mapping[str, Json]) -> bool:
    """Whether the deny is the engine's failure, which no mode lets pass."""
    return _member(joined, "refusal", "reason") == "policy_unavailable"


def _ended(joined: Mapping[str, Json]) -> str:
    if joined["state"] == "open":
        return "It is forwarded or on its way; no outcome is recorded yet."
    status = _member(joined, "response", "status")
    answered = f" The caller was answered {status}." if status not in ("", "0") else ""
    if "refusal" in joined:
        reason, text = _member(joined, "refusal", "reason"), _member(joined, "refusal", "text")
        how = "stopped in mid-answer" if reason == "budget_exhausted" and joined.get("result") else "refused"
        return f"It was {how} ({reason}): {text}.{answered}".replace("..", ".")
    took = joined.get("us")
    lasted = f" after {took / 1000:.1f} ms" if isinstance(took, int) else ""
    return f"It ended with result {joined.get('result', 'unknown')}{lasted}.{answered}"


def _step(record: Mapping[str, Json]) -> dict[str, Json]:
    kind = str(record.get("kind", ""))
    texts = {
        "intent": f"allowed and recorded before anything was sent to {_member(record, 'upstream', 'name')}",
        "outcome": f"ended: {record.get('result', 'unknown')}, status {_member(record, 'response', 'status')}",
        "refusal": f"refused: {_member(record, 'refusal', 'reason')}, status {_member(record, 'response', 'status')}",
        "recovery": "closed at a restart",
    }
    return {"seq": record.get("seq"), "time": record.get("time"), "kind": kind, "text": texts.get(kind, kind)}
