"""Reads recorded decisions out of a log directory, each with the input it was made of, as far as it was kept.

1. A decision is an intent or a refusal with a `decision`; an outcome repeats its intent's and is passed over.
2. With a full capture the input is the capture's, but for what it says was masked; with a shape what has only a shape
   is withheld; without one it is what the record itself says, and only that is known.
3. `context.time` is known without a capture only where the exchange's id, made before it, and the record, made after
   it, are of the same second.
4. A capture in `blob/` must have the digest it is named by. What cannot be read back is `unusable`, never guessed.
5. What is skipped unparsed has no capture: else a caller's own members might be taken for the record's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.core.canonical import Json
from gateway.core.masking import places
from gateway.core.records import asked_subject, item_digest
from gateway.core.whatif import EVERYTHING, Recorded
from gateway.log.entries import EntryReader

Places = tuple[tuple[str, ...], ...]

_OUTCOME: Final = b'"kind":"outcome"'
_CAPTURE: Final = b'"capture":{'
_FILTERED: Final = b'"filtered":{'
_DECIDED: Final = b'"decision":{'

# What a record says of the input without a capture (2). `resource` is whole: a caller's own request has no property
# besides these.
_SAID: Final[Places] = (
    ("subject", "type"), ("subject", "id"), ("subject", "properties", "roles"), ("subject", "properties", "org"),
    ("subject", "properties", "team"),
    ("subject", "properties", "agent"), ("subject", "properties", "issuer"), ("subject", "properties", "delegated_by"),
    ("action",), ("resource", "type"), ("resource", "id"), ("resource", "properties", "route"),
    ("resource", "properties", "digest"), ("context", "listing"), ("context", "trace_id"),
    ("context", "request", "id"), ("context", "request", "method"), ("context", "request", "path"),
    ("context", "request", "peer"),
)  # fmt: skip
_UPSTREAM: Final = ("resource", "properties", "upstream")
_TIME: Final = ("context", "time")
_DIRECTION: Final = ("context", "direction")


@dataclass(slots=True)
class Skimmed:
    """What was passed over, for the totals: `entries` read, items of lists, which are judged and not recorded."""

    entries: int = 0
    items: int = 0


@dataclass(slots=True)
class DecisionReader:
    """`directory` is `<data_dir>/log`. `since` (inclusive) and `until` (exclusive) are RFC 3339 UTC with six digits."""

    directory: Path
    since: str = ""
    until: str = ""
    skimmed: Skimmed = field(default_factory=Skimmed)

    def read(self, stop: int | None = None) -> Iterator[Recorded]:
        """In the order of the log, up to `stop`. Holds no more than one bundle of entries."""
        for seq, entry in EntryReader(self.directory).read(0, stop):
            self.skimmed.entries += 1
            if _OUTCOME in entry and _CAPTURE not in entry:  # 1, 5
                if _FILTERED in entry:
                    self._items(orjson.loads(entry))
                continue
            if _DECIDED not in entry:
                continue
            record = orjson.loads(entry)
            decided = record.get("kind") in ("intent", "refusal") and isinstance(record.get("decision"), dict)
            if decided and self._within(record):
                yield self.recorded(seq, record)

    def recorded(self, seq: int, record: dict[str, Any]) -> Recorded:
        """One decision with its input."""
        try:
            return self._recorded(seq, record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return _unusable(seq, record, f"the record cannot be read: {type(error).__name__}")

    def _recorded(self, seq: int, record: dict[str, Any]) -> Recorded:
        request = record["request"]
        capture = request.get("capture") if isinstance(request, dict) else None
        if isinstance(capture, dict) and set(capture) == {"blob", "bytes"}:
            capture = self._blob(str(capture["blob"]))
            if capture is None:
                return _unusable(seq, record, "the capture's blob is missing or was changed")
        if isinstance(capture, dict) and "input" in capture:
            return _captured(seq, record, capture)
        if record.get("shortened"):
            return _unusable(seq, record, "the record was shortened")
        return _bare(seq, record)

    def _blob(self, named: str) -> Any:
        name = named.removeprefix("sha256:")
        if not name.isalnum():
            return None
        try:
            data = (self.directory / "blob" / name).read_bytes()
        except OSError:
            return None
        return orjson.loads(data) if hashlib.sha256(data).hexdigest() == name else None  # 4

    def _items(self, record: dict[str, Any]) -> None:
        filtered = record.get("filtered")
        if isinstance(filtered, dict) and self._within(record):
            self.skimmed.items += sum(count for count in filtered.values() if isinstance(count, int))

    def _within(self, record: dict[str, Any]) -> bool:
        time = record.get("time", "")
        return (not self.since or time >= self.since) and (not self.until or time < self.until)


def _captured(seq: int, record: dict[str, Any], capture: dict[str, Any]) -> Recorded:
    document = capture["input"]
    if not isinstance(document, dict):
        return _unusable(seq, record, "the capture cannot be read")
    level = capture.get("level")
    if level == "full":
        masked = places(capture["masked"]) if "masked" in capture else ()
        return _made(seq, record, document, EVERYTHING, masked=masked)
    if level == "shape" and isinstance(capture.get("shape"), dict):
        return _made(seq, record, document, EVERYTHING, withheld=capture["shape"])
    return _unusable(seq, record, "the capture cannot be read")


def _bare(seq: int, record: dict[str, Any]) -> Recorded:
    """From the record itself (2)."""
    request, resource, subject = record["request"], record["resource"], record["subject"]
    kind, _, rest = subject["id"].partition(":")
    issuer = rest.partition("/")[0] if "/" in rest and kind != "key" else ""
    below: dict[str, Json] = {"route": record["route"]}
    if item := item_digest(record):
        below["digest"] = item
    own = "parent" not in record
    known: list[tuple[str, ...]] = [place for place in _SAID if own or place != ("context", "request", "id")]
    upstream = record.get("upstream")
    if isinstance(upstream, dict) and "name" in upstream:
        below["upstream"] = upstream["name"]
        known.append(_UPSTREAM)
    context: dict[str, Json] = {
        "listing": False,
        "request": {
            "id": record["exchange"], "method": request["method"], "path": request["path"], "peer": request["peer"],
        },
    }  # fmt: skip
    if "trace_id" in record:
        context["trace_id"] = record["trace_id"]
    second = _second(record["exchange"], record["time"]) if own else ""
    if second:
        context["time"] = second
        known.append(_TIME)
    if own and (resource["type"] != "endpoint" or not record["action"].startswith("mcp.")):
        known.append(_DIRECTION)  # only messages about a server's own requests have one
    document: dict[str, Json] = {
        "subject": {"type": subject["type"], "id": subject["id"], "properties": asked_subject(subject, issuer)},
        "action": {"name": record["action"]},
        "resource": {"type": resource["type"], "id": resource["id"], "properties": below},
        "context": context,
    }
    return _made(seq, record, document, tuple(known))


def _second(exchange: str, time: str) -> str:
    """The second that an exchange began in, "" where that is not certain (3)."""
    digits = exchange.replace("-", "")
    if len(digits) != 32 or digits[12] != "7":
        return ""
    begun = datetime.fromtimestamp(int(digits[:12], 16) // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{begun}Z" if time[:19] == begun else ""


def _made(
    seq: int,
    record: dict[str, Any],
    document: dict[str, Json],
    known: Places,
    *,
    masked: Places = (),
    withheld: dict[str, Json] | None = None,
    unusable: str = "",
) -> Recorded:
    decision = record["decision"]
    obligations = decision.get("obligations", [])
    refusal = record.get("refusal")
    return Recorded(
        seq=seq,
        exchange=str(record.get("exchange", "")),
        time=str(record.get("time", "")),
        allow=decision.get("effect") == "allow",
        rule=str(decision.get("rule", "")),
        reason=str(decision.get("reason", "")),
        revision=str(decision.get("revision", "")),
        obligations=tuple(obligations) if isinstance(obligations, list) else (),
        document=document,
        known=known,
        masked=masked,
        withheld=withheld or {},
        failed=decision.get("fail_open") is True
        or (isinstance(refusal, dict) and refusal.get("reason") == "policy_unavailable"),
        unusable=unusable,
        subject=_name(record.get("subject")),
        action=str(record.get("action", "")),
        resource=_name(record.get("resource")),
        route=str(record.get("route", "")),
    )


def _unusable(seq: int, record: dict[str, Any], why: str) -> Recorded:
    return _made(seq, record, {}, (), unusable=why)


def _name(part: object) -> str:
    return str(part.get("id", "")) if isinstance(part, dict) else ""
