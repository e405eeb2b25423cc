"""A usage record as a CloudEvent 1.0, in the shape that usage meters such as OpenMeter ingest.

1. One event for each outcome in the log, also for one that recovery closed. `id` is the record's id and `source` the
node, so that whoever gets an event twice knows it. 2. `data` is what the record says was used, with whom, what and
where; nothing of a body is in a record, so nothing of one is in an event. 3. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.core.canonical import Json

CONTENT_TYPE = "application/cloudevents-batch+json"
SUBJECTS = ("subject.org", "team", "agent", "subject.id")
_OUTCOME = b'"kind":"outcome"'


@dataclass(frozen=True, slots=True)
class EventForm:
    """`subject` is one of SUBJECTS; a caller that has none of it is named by its id."""

    source: str
    type: str = "tollgate.usage"
    subject: str = "subject.org"


def event(entry: bytes, form: EventForm) -> dict[str, Json] | None:
    """The event of an entry of the log; None where it is no outcome."""
    if _OUTCOME not in entry:  # most others are told apart without being read
        return None
    record: dict[str, Json] = orjson.loads(entry)
    if record.get("kind") != "outcome":
        return None
    subject = _members(record.get("subject"))
    found: dict[str, Json] = {
        "specversion": "1.0",
        "id": record["id"],
        "source": form.source,
        "type": form.type,
        "time": record["time"],
        "datacontenttype": "application/json",
        "data": _data(record, subject),
    }
    named = subject.get(form.subject.removeprefix("subject.")) or subject.get("id")
    if isinstance(named, str):
        found["subject"] = named
    return found


def batch(events: Sequence[Mapping[str, Json]]) -> bytes:
    return orjson.dumps(events)


def _data(record: Mapping[str, Json], subject: Mapping[str, Json]) -> dict[str, Json]:
    resource, upstream = _members(record.get("resource")), _members(record.get("upstream"))
    said: dict[str, Json] = {
        **_members(record.get("usage")),
        "seq": record.get("seq"),
        "exchange": record.get("exchange"),
        "result": record.get("result"),
        "route": record.get("route"),
        "upstream": upstream.get("name"),
        "action": record.get("action"),
        "resource": resource.get("id"),
        "resource_type": resource.get("type"),
        "subject": subject.get("id"),
        "org": subject.get("org"),
        "team": subject.get("team"),
        "agent": subject.get("agent"),
        "trace_id": record.get("trace_id"),
        "budgets": record.get("budgets"),
    }
    return {name: value for name, value in said.items() if value is not None}


def _members(found: Json) -> Mapping[str, Json]:
    return found if isinstance(found, dict) else {}
