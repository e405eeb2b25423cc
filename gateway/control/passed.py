"""The stages that an exchange went through, each with its verdict, what the records know of it, and when.

Pure. No stage is timed on its own: the times are those that the records have, and the few numbers of `Times`, as long
as they are remembered. What is not known is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.control.recent import Times
from gateway.core.canonical import Json

STAGES: Final = (
    "route", "identify", "scopes", "verify", "decide", "ledger", "credentials", "record", "forward", "answer",
)  # fmt: skip
_OF_MESSAGES: Final = ("scopes", "verify", "decide", "ledger", "record", "forward")

Joined = Mapping[str, Json]


def stages(joined: Joined, records: Sequence[Joined], times: Times | None) -> list[Json]:
    """`joined` are the members of all records of the exchange, as explain.py puts them together."""
    names = list(_OF_MESSAGES if "parent" in joined else STAGES)
    where = _stopped(joined, records)
    if where and where not in names:
        names.insert(names.index("decide") + 1, where)  # a stage that most exchanges do not notice
    stop = names.index(where) if where else len(names)
    open_ = joined.get("state") == "open"
    found: list[Json] = []
    for at, name in enumerate(names):
        verdict = "passed" if at < stop else ("refused" if at == stop else "not reached")
        if "fault" in joined and at == stop:
            verdict = "fault"
        if open_ and name in ("forward", "answer"):
            verdict = "not known yet"
        stage: dict[str, Json] = {"stage": name, "verdict": verdict}
        if verdict in ("passed", "refused", "fault"):
            stage |= _FACTS.get(name, _nothing)(joined, records, times)
        if at == stop:
            stage["text"] = _member(joined, "refusal", "text") or str(joined.get("fault", ""))
        found.append(stage)
    return found


def _stopped(joined: Joined, records: Sequence[Joined]) -> str:
    """Which stage refused it, "" where none did."""
    refusal, fault = joined.get("refusal"), joined.get("fault")
    if isinstance(refusal, dict):
        stage = refusal.get("stage")
        if isinstance(stage, str):
            return {"request": "route"}.get(stage, stage)
        return "answer" if any(record.get("kind") == "intent" for record in records) else "route"
    return "answer" if isinstance(fault, str) and fault else ""


def _route(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    found: dict[str, Json] = {"text": f"route {joined['route']}"} if "route" in joined else {}
    ended, took = records[-1].get("time"), joined.get("us")
    if isinstance(ended, str) and isinstance(took, int):
        began = datetime.fromisoformat(ended) - timedelta(microseconds=took)
        found["time"] = began.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return found


def _identify(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    who = _member(joined, "subject", "id")
    return {"text": f"the caller is {who}"} if who else {}


def _verify(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    described = joined.get("descriptor")
    return {"text": f"by {', '.join(sorted(described))}"} if isinstance(described, dict) and described else {}


def _decide(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    decision = joined.get("decision")
    if not isinstance(decision, dict):
        return {}
    rule = f" by rule {decision['rule']}" if decision.get("rule") else ""
    reported = ", reported only" if decision.get("mode") == "report" else ""
    found: dict[str, Json] = {"text": f"{decision.get('effect')}{rule}{reported}"}
    if times is not None and times.decision is not None:
        found["ms"] = round(times.decision, 3)
        if times.decision == 0.0:
            found["kept"] = True  # decided before, for another request with the same input
    return found


def _ledger(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    said = [f"{kind} {', '.join(names)}" for kind in ("limits", "budgets") if (names := _names(joined.get(kind)))]
    return {"text": "; ".join(said)} if said else {}


def _names(items: Json | None) -> list[str]:
    return [str(item.get("name")) for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _record(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    intent = next((record for record in records if record.get("kind") == "intent"), None)
    return {"time": intent["time"], "text": f"seq {intent.get('seq')}"} if intent is not None else {}


def _forward(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    upstream = joined.get("upstream")
    if not isinstance(upstream, dict):
        return {}
    at = f" at {upstream['address']}" if "address" in upstream else ""
    found: dict[str, Json] = {"text": f"{upstream.get('name')}{at}"}
    return found | {"ms": upstream["ms"]} if "ms" in upstream else found


def _answer(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    last, filtered = records[-1], joined.get("filtered")
    text = f"status {_member(joined, 'response', 'status')}, {_member(joined, 'response', 'bytes')} bytes"
    if isinstance(filtered, dict):
        text += f"; of a list {filtered.get('shown')} items were shown and {filtered.get('hidden')} were not"
    found: dict[str, Json] = {"time": last.get("time"), "text": text}
    if times is not None and times.first_byte is not None:
        found["first_byte_ms"] = round(times.first_byte, 3)
    return found


def _nothing(joined: Joined, records: Sequence[Joined], times: Times | None) -> dict[str, Json]:
    return {}


def _member(joined: Joined, name: str, inner: str) -> str:
    value = joined.get(name)
    found = value.get(inner) if isinstance(value, dict) else None
    return "" if found is None else str(found)


_FACTS: Final[Mapping[str, Callable[[Joined, Sequence[Joined], Times | None], dict[str, Json]]]] = {
    "route": _route, "identify": _identify, "verify": _verify, "decide": _decide, "ledger": _ledger,
    "record": _record, "forward": _forward, "answer": _answer,
}  # fmt: skip
