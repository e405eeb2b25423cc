"""Which records are worth an alert, and when two are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.notices import Adjusted, Alert
from gateway.notices.alerts import Judge, Rules, judged
from tests.notices.entries import Log, intent, outcome

ENTRY = {"key": ["acme"], "name": "org-month", "period": "2026-09-01T00:00:00Z", "reserved": "1", "settled": "1"}


def marked(*marks: int, **entry: Any) -> dict[str, Any]:
    return outcome(1, budgets=[{**ENTRY, "unit": "usd", "marks": [*marks], **entry}])


def stopped(**members: Any) -> dict[str, Any]:
    budget = {name: ENTRY[name] for name in ("key", "name", "period")} | {"unit": "usd"}
    refusal = {"reason": "budget_exhausted", "rule": "org-month", "text": "The budget is used up", "budget": budget}
    return {"kind": "refusal", "time": "2026-09-21T14:13:20.000000Z", "exchange": "x", "refusal": refusal, **members}


def opened(at: str = "2026-09-21T14:13:20.000000Z", to: str = "open") -> dict[str, Any]:
    return {"kind": "admin", "time": at, "breaker": {"upstream": "weather", "from": "closed", "to": to, "why": "5xx"}}


def failing(at: str = "2026-09-21T14:13:20.000000Z") -> dict[str, Any]:
    return outcome(1, time=at, decision={"effect": "allow", "fail_open": True})


def keys(*records: dict[str, Any], rules: Rules = Rules()) -> list[str]:  # noqa: B008 (frozen)
    return [alert.key for record in records for alert in judged(record, rules)]


def test_a_soft_mark_is_told_with_its_budget_account_and_share() -> None:
    [half, most] = judged(marked(500, 825), Rules())
    assert (half.kind, half.about) == ("mark", "org-month")
    assert half.title == "Budget org-month passed 50%"
    assert most.title == "Budget org-month passed 82.5%"
    assert half.text == '["acme"] used 50% of budget org-month in the period from 2026-09-01T00:00:00Z.'
    assert half.facts["key"] == ["acme"]
    assert half.facts["exchange"] == "x-1"


def test_marks_of_one_budget_differ_by_mark_account_and_period_and_by_nothing_else() -> None:
    same = keys(marked(500), {**marked(500), "exchange": "other", "id": "other"})
    assert same[0] == same[1]
    others = keys(marked(500), marked(800), marked(500, key=["beta"]), marked(500, period="2026-10-01T00:00:00Z"))
    assert len(set(others)) == 4


def test_a_rolling_account_is_told_of_once_a_day() -> None:
    first, second = marked(500), marked(500)
    for record in (first, second):
        del record["budgets"][0]["period"]
    second["time"] = "2026-09-21T23:59:59.000000Z"
    assert len(set(keys(first, second))) == 1
    second["time"] = "2026-09-22T00:00:00.000000Z"
    assert len(set(keys(first, second))) == 2


def test_a_stop_is_told_once_for_each_account_and_period_whether_it_refused_or_cut_a_stream() -> None:
    cut = outcome(1, refusal=stopped()["refusal"])
    assert len(set(keys(stopped(), stopped(exchange="y"), cut))) == 1
    [alert] = judged(stopped(), Rules())
    assert alert.title == "Budget org-month is used up"
    assert alert.text.endswith("The budget is used up")


def test_another_refusal_is_no_alert() -> None:
    refused = stopped()
    refused["refusal"] = {"reason": "denied", "text": "budget_exhausted"}
    assert keys(refused) == []


def test_a_breaker_that_opens_is_told_once_in_a_stretch_and_one_that_closes_never() -> None:
    assert len(set(keys(opened(), opened("2026-09-21T14:59:59.000000Z")))) == 1
    assert len(set(keys(opened(), opened("2026-09-21T15:00:00.000000Z")))) == 2
    assert keys(opened(to="closed"), opened(to="half_open")) == []


def test_fail_open_is_told_of_its_route() -> None:
    [alert] = judged(failing(), Rules())
    assert (alert.kind, alert.about) == ("fail_open", "openai")
    assert len(set(keys(failing(), failing("2026-09-21T14:20:00.000000Z")))) == 1
    assert keys({**failing(), "kind": "intent"}) == []  # its outcome says it
    assert keys(outcome(1, failed_open=2)) != []


@pytest.mark.parametrize(("kind", "left"), [("mark", 1), ("stop", 1), ("breaker", 1), ("fail_open", 1)])
def test_only_what_is_wanted_is_told(kind: str, left: int) -> None:
    found = keys(marked(500), stopped(), opened(), failing(), rules=Rules(frozenset({kind})))
    assert len(found) == left


def test_a_judge_finds_in_entries_what_is_in_records_and_counts_for_the_digest() -> None:
    """Entries without a sign are not parsed: what would be found must have one."""
    log = Log()
    log.add(intent(0), outcome(0), marked(500), stopped(), opened(), failing(), {"kind": "refusal", "time": "t"})
    judge = Judge(Rules())
    for entry in log.entries:
        judge.read(entry)
    whole = [alert for entry in log.entries for alert in judged(json.loads(entry), Rules())]
    assert judge.news == whole
    assert judge.tallies == {
        "calls": 3, "refused": 2, "usd": 3 * 12_500, "mark org-month": 1, "stop org-month": 1, "breaker weather": 1,
        "fail_open openai": 1,
    }  # fmt: skip


def test_what_an_administrator_did_to_an_account_is_news_of_that_account() -> None:
    log = Log()
    adjustment = {"name": "org-month", "key": ["acme"], "period": "2026-09-01T00:00:00Z", "granted": "5"}
    log.add(marked(500), {"kind": "admin", "action": "budget.top-up", "adjustment": adjustment, "time": "t"}, stopped())
    judge = Judge(Rules())
    for entry in log.entries:
        judge.read(entry)
    first, second, third = judge.news
    assert second == Adjusted('org-month ["acme"]')
    assert isinstance(first, Alert)
    assert isinstance(third, Alert)
    assert first.account == third.account == second.account
