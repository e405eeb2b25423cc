"""A candidate for a share of the subjects: stable, near its share, and each decision says whose it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.access import AccessRequest, access_request
from gateway.core.exchange import Decision, Principal
from gateway.core.sharing import among, place_of
from gateway.pdp.rollout import Rollout
from tests.pdp.asking import now, run, settled
from tests.pdp.shadowing import NO, YES, Saying
from tests.stages.exchanges import exchange

SUBJECTS = [f"agent:idp/{number}" for number in range(10_000)]


def of(subject: str, arguments: Any = None) -> AccessRequest:
    return AccessRequest(
        {
            "subject": {"type": "agent", "id": subject},
            "action": {"name": "mcp.tools/call"},
            "resource": {"type": "tool", "id": "weather/get"},
            "context": {"arguments": arguments},
        }
    )


def rollout(share: float, salt: str = "") -> Rollout:
    return Rollout(Saying(YES, "current"), Saying(NO, "candidate"), share, salt)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_candidate_decides_for_near_its_share_of_ten_thousand_subjects(share: float) -> None:
    found = rollout(share)
    chosen = sum(now(found.decide(of(subject))) is NO for subject in SUBJECTS)
    # Four standard deviations: a spread that is even fails this once in sixteen thousand salts.
    assert abs(chosen - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5


def test_a_subject_is_always_decided_for_by_the_same_one_whatever_it_asks() -> None:
    one, other = rollout(0.3), rollout(0.3)
    for subject in SUBJECTS[:500]:
        answers = {now(found.decide(of(subject, number))).revision for found in (one, other) for number in range(3)}
        assert len(answers) == 1


def test_a_share_that_grows_takes_nobody_back() -> None:
    before = {subject for subject in SUBJECTS if among(subject, "", 0.1)}
    after = {subject for subject in SUBJECTS if among(subject, "", 0.2)}
    assert before < after


def test_another_salt_draws_others() -> None:
    one = {subject for subject in SUBJECTS if among(subject, "a", 0.1)}
    other = {subject for subject in SUBJECTS if among(subject, "b", 0.1)}
    assert 50 < len(one & other) < 200, "as many in common as chance has it"


def test_none_and_all_are_exact() -> None:
    assert not any(among(subject, "", 0.0) for subject in SUBJECTS)
    assert all(among(subject, "", 1.0) for subject in SUBJECTS)
    assert min(place_of(subject, "") for subject in SUBJECTS) >= 0.0
    assert max(place_of(subject, "") for subject in SUBJECTS) < 1.0


def test_a_subjects_id_and_the_salt_cannot_be_taken_for_one_another() -> None:
    assert place_of("b", "a") != place_of("ab", "")
    assert place_of("ab", "c") != place_of("b", "ca")


def test_an_exchange_is_decided_by_its_callers_id() -> None:
    found = rollout(0.5)
    for number in range(50):
        caller = Principal(id=f"agent:idp/{number}", type="agent")
        asked = exchange(principal=caller)
        decision = now(found.decide(access_request(asked, asked.call)))
        assert (decision is NO) is among(caller.id, "", 0.5)
        items = [access_request(asked, asked.call)] * 3
        assert found.decide_many(items) == [decision] * 3


def test_questions_of_several_subjects_come_back_in_their_order() -> None:
    found = rollout(0.5)
    answers = run(settled(found.decide_many([of(subject) for subject in SUBJECTS[:100]])))
    assert [answer is NO for answer in answers] == [among(subject, "", 0.5) for subject in SUBJECTS[:100]]
    assert found.decide_many([]) == []


def test_an_engine_that_waits_is_waited_for() -> None:
    async def later(_: AccessRequest) -> Decision:
        await asyncio.sleep(0)
        return NO

    found = Rollout(Saying(YES), Saying(lambda asked: later(asked)), 1.0, "")
    assert run(settled(found.decide(of("a")))) is NO


def test_the_candidates_fault_is_a_fault_and_nobody_else_is_asked() -> None:
    fault = Decision(False, "late", "late", "candidate", "r2", fault=True)
    current = Saying(YES)
    assert now(Rollout(current, Saying(fault), 1.0, "").decide(of("a"))) is fault
    assert current.asked == []


def test_it_is_ready_when_both_are() -> None:
    class Broken(Saying):
        async def check(self) -> None:
            raise RuntimeError("not ready")

    run(rollout(0.1).check())
    for current, candidate in ((Broken(YES), Saying(NO)), (Saying(YES), Broken(NO))):
        with pytest.raises(RuntimeError):
            run(Rollout(current, candidate, 0.1, "").check())


def test_all_that_either_reads_can_matter_and_the_subject() -> None:
    found = Rollout(Saying(YES, reads=frozenset({("action",)})), Saying(NO, reads=frozenset({("resource",)})), 0.1, "")
    assert found.reads == {("action",), ("resource",), ("subject", "id")}
