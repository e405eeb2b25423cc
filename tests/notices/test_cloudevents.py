"""What an outcome is as a CloudEvent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.notices.cloudevents import EventForm, batch, event
from tests.notices.entries import Log, intent, outcome


def entry(record: dict[str, Any]) -> bytes:
    log = Log()
    log.add(record)
    return log.entries[0]


def test_an_outcome_is_an_event_whose_id_and_source_name_its_record() -> None:
    found = event(entry(outcome(1)), EventForm("gw-1"))
    assert found == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "gw-1",
        "type": "tollgate.usage",
        "subject": "acme",
        "time": "2026-09-21T14:13:20.000000Z",
        "datacontenttype": "application/json",
        "data": {
            "bytes_in": 10, "bytes_out": 20, "calls": 1, "input_tokens": 3, "output_tokens": 4, "usd": "0.0125",
            "seq": 0, "exchange": "x-1", "result": "ok", "route": "openai", "upstream": "openai", "action": "llm.chat",
            "resource": "gpt-5", "resource_type": "model", "subject": "agent:idp/planner", "org": "acme",
            "team": "blue", "agent": "rig",
        },
    }  # fmt: skip
    assert json.loads(batch([found])) == [found]


@pytest.mark.parametrize(
    ("subject", "named"),
    [("subject.org", "acme"), ("team", "blue"), ("agent", "rig"), ("subject.id", "agent:idp/planner")],
)
def test_the_subject_is_whose_usage_it_is(subject: str, named: str) -> None:
    found = event(entry(outcome(1)), EventForm("gw-1", "acme.used", subject))
    assert found is not None
    assert (found["subject"], found["type"]) == (named, "acme.used")


def test_a_caller_without_org_is_named_by_its_id() -> None:
    found = event(entry(outcome(1, subject={"id": "key:ci", "type": "service"})), EventForm("gw-1"))
    assert found is not None
    assert found["subject"] == "key:ci"


def test_nothing_but_an_outcome_is_an_event() -> None:
    """Not even a record that quotes one."""
    assert event(entry(intent(1)), EventForm("gw-1")) is None
    quoting = {"id": "a", "kind": "admin", "time": "t", "what": {"kind": "outcome"}}
    assert event(entry(quoting), EventForm("gw-1")) is None


def test_what_recovery_closed_is_told_too() -> None:
    closed = outcome(1, result="unknown", budgets=[{"name": "org", "settled": "2"}])
    closed.pop("usage")
    found = event(entry(closed), EventForm("gw-1"))
    assert found is not None
    assert found["data"]["result"] == "unknown"  # type: ignore[index, call-overload]
    assert found["data"]["budgets"] == [{"name": "org", "settled": "2"}]  # type: ignore[index, call-overload]
