"""The breaker's rules, by their numbers; time is a number here."""

from __future__ import annotations

from gateway.core.breaking import Breaker, BreakerSettings, End, State


def opened(failures: int = 3, open_s: float = 2.0, at: float = 100.0) -> Breaker:
    breaker = Breaker(BreakerSettings(failures, open_s))
    for _ in range(failures):
        fail(breaker, at)
    return breaker


def fail(breaker: Breaker, at: float) -> None:
    admitted = breaker.admit(at)
    assert admitted is not None
    breaker.ended(admitted, End.FAILED, at)


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_it() -> None:  # 1
    breaker = Breaker(BreakerSettings(3, 2.0))
    for _ in range(4):
        fail(breaker, 0)
        fail(breaker, 0)
        admitted = breaker.admit(0)
        assert admitted is not None
        breaker.ended(admitted, End.ANSWERED, 0)
    assert breaker.state(0) is State.CLOSED
    fail(breaker, 0)
    fail(breaker, 0)
    assert breaker.state(0) is State.CLOSED
    fail(breaker, 0)
    assert breaker.state(0) is State.OPEN


def test_while_open_nothing_is_asked() -> None:  # 2
    breaker = opened()
    assert [breaker.admit(at) for at in (100.0, 101.0, 101.999)] == [None, None, None]


def test_behind_it_one_question_is_asked_and_its_answer_closes() -> None:  # 3
    breaker = opened()
    assert breaker.state(102.0) is State.HALF_OPEN
    probe = breaker.admit(102.0)
    assert probe is not None
    assert [breaker.admit(102.0), breaker.admit(500.0)] == [None, None]
    breaker.ended(probe, End.ANSWERED, 102.5)
    assert breaker.state(102.5) is State.CLOSED
    fail(breaker, 103.0)
    fail(breaker, 103.0)
    assert breaker.state(103.0) is State.CLOSED, "what failed before it opened counts no more"


def test_a_probe_that_fails_opens_it_once_more_for_the_whole_time() -> None:  # 3
    breaker = opened()
    probe = breaker.admit(102.0)
    assert probe is not None
    breaker.ended(probe, End.FAILED, 102.3)
    assert breaker.admit(104.2) is None
    assert breaker.admit(104.4) is not None


def test_an_end_that_says_nothing_counts_as_neither() -> None:  # 4
    breaker = Breaker(BreakerSettings(2, 2.0))
    fail(breaker, 0)
    for _ in range(5):
        admitted = breaker.admit(0)
        assert admitted is not None
        breaker.ended(admitted, End.UNKNOWN, 0)
    assert breaker.state(0) is State.CLOSED
    fail(breaker, 0)
    assert breaker.state(0) is State.OPEN


def test_a_probe_whose_caller_left_gives_its_place_to_the_next_at_once() -> None:  # 4
    breaker = opened()
    probe = breaker.admit(102.0)
    assert probe is not None
    breaker.ended(probe, End.UNKNOWN, 102.1)
    assert breaker.admit(102.1) is not None
    assert breaker.admit(102.1) is None


def test_what_was_asked_before_the_last_change_changes_nothing() -> None:  # 5
    breaker = Breaker(BreakerSettings(2, 2.0))
    early = [breaker.admit(0) for _ in range(3)]
    fail(breaker, 0)
    fail(breaker, 0)
    for admitted, end in zip(early, (End.ANSWERED, End.FAILED, End.UNKNOWN), strict=True):
        assert admitted is not None
        breaker.ended(admitted, end, 1.9)
    assert breaker.state(1.9) is State.OPEN
    assert breaker.state(2.0) is State.HALF_OPEN, "late failures do not keep it open longer"
    probe = breaker.admit(2.0)
    assert probe is not None
    assert early[0] is not None
    breaker.ended(early[0], End.ANSWERED, 2.0)
    assert breaker.admit(2.0) is None, "an old answer does not close it behind the probe's back"
