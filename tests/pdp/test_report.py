"""Report mode: the decision says that it is only reported; nothing else of it changes, and a fault stays one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.access import AccessRequest, ask
from gateway.core.exchange import Call, Decision, Obligation
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal
from gateway.pdp.report import Reporting
from gateway.stages.decide import Decide
from tests.pdp.asking import now, request, run, settled
from tests.pdp.shadowing import NO, YES, Saying
from tests.stages.exchanges import exchange

FAULT = Decision(False, "late", "late", "first", "r1", fault=True)
OWED = replace(YES, obligations=(Obligation("bow", {"to": "the king"}),))


@pytest.mark.parametrize("decision", [YES, NO, FAULT, OWED])
def test_a_decision_is_what_it_was_and_says_that_it_is_reported(decision: Decision) -> None:
    reporting = Reporting(Saying(decision))
    assert now(reporting.decide(request())) == replace(decision, mode="report")
    assert reporting.decide_many([request(), request()]) == [replace(decision, mode="report")] * 2


def test_an_engine_that_waits_is_waited_for() -> None:
    async def later(_: AccessRequest) -> Decision:
        await asyncio.sleep(0)
        return NO

    async def later_all(asked: Any) -> list[Decision]:
        return [NO for _ in asked]

    class Waiting(Saying):
        decide_many: Any = staticmethod(later_all)

    reporting = Reporting(Waiting(lambda asked: later(asked)))
    assert run(settled(reporting.decide(request()))).mode == "report"
    assert [answer.mode for answer in run(settled(reporting.decide_many([request()] * 2)))] == ["report"] * 2


def judged(decision: Decision) -> Any:
    given = exchange(engine=Reporting(Saying(decision)))
    return Decide()(given), given


def test_a_no_of_the_policy_lets_pass_and_stands_on_the_exchange_as_a_no() -> None:
    verdict, given = judged(NO)
    assert verdict is CONTINUE
    assert (given.decision.allow, given.decision.mode, given.decision.rule) == (False, "report", "none")


def test_a_fault_does_not_let_pass() -> None:
    verdict, given = judged(FAULT)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.POLICY_UNAVAILABLE
    assert given.decision.would_deny is False


@pytest.mark.parametrize("allow", ["true", 1, None, 0, ""])
def test_what_is_neither_yes_nor_no_does_not_let_pass(allow: Any) -> None:
    verdict, _ = judged(replace(NO, allow=allow))
    assert isinstance(verdict, Refusal)


def test_a_no_that_is_enforced_is_a_refusal() -> None:
    verdict = Decide()(exchange(engine=Saying(NO)))
    assert isinstance(verdict, Refusal)


def test_what_is_not_understood_is_refused_in_report_mode_too() -> None:
    unreadable = Refusal(Reason.MALFORMED, "not JSON")
    assert Decide()(exchange(asked=unreadable, engine=Reporting(Saying(YES)))) is unreadable


def test_the_items_of_a_list_pass_and_are_counted_but_not_those_the_engine_failed_on() -> None:
    answers = {"yes": YES, "no": NO, "fault": FAULT, "owed": OWED}
    engine = Reporting(Saying(lambda asked: answers[asked.call.resource_id]))
    given = exchange(engine=engine)
    calls = [Call("mcp.tools/call", "tool", name, context={"listing": True}) for name in answers]
    found = run(ask(given, calls))
    assert [decision.allow for decision in found] == [True, True, False, True]
    assert given.would_deny == 2, "the no, and the yes that asks for what nobody can do"


def test_in_enforce_mode_no_item_passes_that_is_denied() -> None:
    given = exchange(engine=SimpleNamespace(decide_many=lambda asked: [NO, YES]))
    found = run(ask(given, [Call("mcp.tools/call", "tool", name) for name in "ab"]))
    assert ([decision.allow for decision in found], given.would_deny) == ([False, True], 0)
