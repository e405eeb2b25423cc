"""Decide: default deny, and every doubt is a deny."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.exchange import Decision, Obligation
from gateway.core.pipeline import CONTINUE, Pipeline
from gateway.core.reasons import Reason, Refusal
from gateway.core.records import decision_of
from gateway.stages.decide import Decide
from tests.stages.exchanges import exchange

YES = Decision(True, "", "all", "test", "r1")


def engine(answer: Any) -> Any:
    return SimpleNamespace(decide=lambda request: answer)


async def later(answer: Any) -> Any:
    await asyncio.sleep(0)
    return answer


def test_an_allow_goes_on_and_stands_on_the_exchange() -> None:
    given = exchange(engine=engine(YES))
    assert Decide()(given) is CONTINUE
    assert given.decision is YES


def test_a_deny_says_the_policys_reason_and_keeps_its_rule() -> None:
    verdict = Decide()(exchange(engine=engine(Decision(False, "not on Sundays", "sunday", "test", "r1"))))
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.text, verdict.rule) == (Reason.DENIED, "not on Sundays", "sunday")


def test_an_engines_fault_is_never_an_allow() -> None:
    verdict = Decide()(exchange(engine=engine(Decision(True, "late", "late", "test", "r1", fault=True))))
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.retry_after) == (Reason.POLICY_UNAVAILABLE, 1)


@pytest.mark.parametrize("said", [True, False])
def test_a_record_says_allow_of_a_fault_only_where_it_passed(said: bool) -> None:
    fault = Decision(said, "late", "late", "test", "r1", obligations=(Obligation("redact"),), fault=True)
    refused = exchange(engine=engine(fault))
    assert isinstance(Decide()(refused), Refusal)
    assert refused.decision is not None
    assert decision_of(refused.decision)["effect"] == "deny"
    assert "fail_open" not in decision_of(refused.decision)
    passed = exchange(engine=engine(fault))
    passed.route = replace(passed.route, on_error="allow")
    assert Decide()(passed) is CONTINUE
    assert passed.decision is not None
    assert passed.decision.obligations == ()
    assert (decision_of(passed.decision)["effect"], decision_of(passed.decision)["fail_open"]) == ("allow", True)


def test_on_error_lets_no_deny_pass() -> None:
    for deny in (Decision(False, "no", "r", "test", "r1"), Decision("true", "", "r", "test", "r1")):  # type: ignore[arg-type]
        given = exchange(engine=engine(deny))
        given.route = replace(given.route, on_error="allow")
        verdict = Decide()(given)
        assert isinstance(verdict, Refusal)
        assert verdict.reason is Reason.DENIED


@pytest.mark.parametrize("value", ["true", 1, [True], None])
def test_only_true_is_an_allow(value: Any) -> None:
    verdict = Decide()(exchange(engine=engine(Decision(value, "", "", "test", "r1"))))
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.DENIED


def test_what_was_not_understood_is_refused_without_asking_anybody() -> None:
    asked: list[Any] = []
    nobody = SimpleNamespace(decide=asked.append)
    unreadable = Refusal(Reason.MALFORMED, "not JSON")
    assert Decide()(exchange(asked=unreadable, engine=nobody)) is unreadable
    unknown = exchange(engine=nobody)
    unknown.asked = None
    verdict = Decide()(unknown)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.MALFORMED
    assert asked == []


def test_an_engine_that_waits_is_waited_for() -> None:
    given = exchange(engine=engine(later(Decision(False, "no", "", "test", "r1"))))
    refusal = asyncio.run(Pipeline((Decide(),), ()).admit(given))
    assert refusal is not None
    assert refusal.reason is Reason.DENIED


@pytest.mark.parametrize("answer", [None, True, "allow", later(None), later(True)])
def test_an_engine_that_answers_nonsense_lets_nothing_through(answer: Any) -> None:
    given = exchange(engine=engine(answer))
    refusal = asyncio.run(Pipeline((Decide(),), ()).admit(given))
    assert refusal is not None
    assert refusal.reason is Reason.FAULT


def test_nobody_is_judged_who_was_not_identified() -> None:
    given = exchange(principal=None, engine=engine(YES))
    refusal = asyncio.run(Pipeline((Decide(),), ()).admit(given))
    assert refusal is not None
    assert (refusal.reason, given.fault) == (Reason.FAULT, "decide: RuntimeError")
