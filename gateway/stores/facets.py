"""What the index of records keeps of an entry: who, what, where, of which kind, with which effect and reason; and when.

Entries are canonical JSON, and most of one gateway's differ in a few places only. So the common shape is read by
position, and the rest of it is looked up among what was parsed before. The rule: nothing is taken by position that a
parse of an entry with the same bytes in the same places has not confirmed. Whatever has another shape is parsed.

1. The bytes before `exchange` are known, and closed by a brace they were an object: so this `exchange` is the entry's
   own, and with it `id` and `kind`, which follow it at fixed distances. `action` and `decision` lie in those bytes.
2. The last `seq` with the entry's number is the entry's own: what comes behind it (`subject`, `time`, `trace_id`,
   `upstream`, `usage`) has no member of that name. `route` ends right before it, `subject` and `time` follow.
3. An entry with a refusal is parsed, for the sake of its reason: a refusal is an object and `request` follows it, where
   else a string precedes `request` (`node` or `parent`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import orjson

_KNOWN_MOST = 4096  # shapes remembered, below 1 KiB each


class Facet(NamedTuple):
    """The members by which records are sought, all but `exchange` and `time`."""

    subject: str | None
    action: str | None
    route: str | None
    kind: str
    effect: str | None
    reason: str | None


Facts: TypeAlias = "tuple[Facet, str | None, str]"
"""A record's facet, its exchange and its time."""


def facts_of(record: dict[str, Any]) -> Facts:
    subject, decision, refusal = record.get("subject"), record.get("decision"), record.get("refusal")
    facet = Facet(
        subject.get("id") if subject else None,
        record.get("action"),
        record.get("route"),
        record["kind"],
        decision.get("effect") if decision else None,
        refusal.get("reason") if refusal else None,
    )
    return facet, record.get("exchange"), record["time"]


class FactReader:
    """`read` gives what `facts_of` gives for the parsed entry. One thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes, bytes], Facet] = {}
        self._at = 0  # where the last one had its exchange

    def read(self, seq: int, entry: bytes) -> Facts:
        at = self._at
        if not entry.startswith(b'"exchange":"', at):
            at = self._at = max(0, entry.find(b'"exchange":"'))
        own = entry.rfind(b',"seq":%d,' % seq)
        behind = entry.find(b",", own + 7)
        time = entry.find(b',"time":"', behind)
        if (
            own < at
            or time < 0
            or entry[time + 36 : time + 37] != b'"'
            or entry[at + 48 : at + 56] != b'","id":"'
            or entry[at + 92 : at + 102] != b'","kind":"'
            or not _unrefused(entry, at)  # 3
            or b"\\" in entry[at + 12 : at + 48]
        ):
            return facts_of(orjson.loads(entry))
        route = entry.rfind(b',"route":"', at, own)
        shape = (
            entry[:at],
            entry[at + 102 : at + 109],
            entry[route + 10 : own] if route > 0 else b"",
            entry[behind:time],
        )
        facet = self._known.get(shape)
        if facet is None:
            return self._learn(shape, at, time, entry)
        return facet, entry[at + 12 : at + 48].decode(), entry[time + 9 : time + 36].decode()

    def _learn(self, shape: tuple[bytes, bytes, bytes, bytes], at: int, time: int, entry: bytes) -> Facts:
        record = orjson.loads(entry)
        found = facts_of(record)
        before, kind, route, subject = shape
        if (
            _object(before) == {name: record[name] for name in record if name < "exchange"}  # 1
            and found[1] == entry[at + 12 : at + 48].decode()
            and kind in (b'intent"', b"outcome")
            and found[0].kind == kind.decode().rstrip('"')
            and found[2] == entry[time + 9 : time + 36].decode()
            and _object(b'{"route":"' + route if route else b"{") == _part(record, "route")  # 2
            and _object(b"{" + subject[1:]) == _part(record, "subject")
        ):
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[shape] = found[0]
        return found


def _unrefused(entry: bytes, at: int) -> bool:
    request = entry.find(b',"request":{', at + 102)
    return request > 0 and entry[request - 1 : request] == b'"'


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: record[name]} if name in record else {}


def _object(opened: bytes) -> Any:
    """What the bytes are with a closing brace, None if that is no JSON."""
    try:
        return orjson.loads(opened.removesuffix(b",") + b"}")
    except orjson.JSONDecodeError:
        return None
