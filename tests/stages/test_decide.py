"""Decide: default deny, and every doubt is a deny."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.exchange import Decision
from gateway.core.pipeline import CONTINUE, Pipeline
from gateway.core.reasons import Reason, Refusal
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
