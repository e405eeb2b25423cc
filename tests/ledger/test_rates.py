"""Sliding windows over time: never more than they say in any window, never much less, and bounded memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.limits import LimitSettings
from tests.ledger.exchanges import HandClock, Limits, exchange
from tests.thorough import examples

SECOND = 1_000_000_000


def limits(clock: HandClock, most: int = 3, window: int = 64, keys_limit: int = 100) -> Limits:
    return Limits([LimitSettings("l", ("subject.id",), rate=most, window=window, sliding=True)], clock, keys_limit)


def test_a_call_counts_until_its_part_is_out_of_the_window_and_not_longer() -> None:
    clock = HandClock(1000 * SECOND)
    counted = limits(clock, most=1)
    assert counted.take(exchange()) is None
    clock.pass_(64.999)
    assert counted.take(exchange()) is not None
    clock.pass_(0.001)
    assert counted.take(exchange()) is None


def test_a_refusal_says_when_to_come_back_and_that_is_true() -> None:
    clock = HandClock(1000 * SECOND)
    counted = limits(clock)
    for _ in range(3):
        assert counted.take(exchange()) is None
        clock.pass_(10)
    refusal = counted.take(exchange())
    assert refusal is not None
    assert refusal.retry_after is not None
    clock.pass_(refusal.retry_after - 1)
    assert counted.take(exchange()) is not None
    clock.pass_(1)
    assert counted.take(exchange()) is None


@settings(max_examples=examples(150), deadline=None)
@given(
    most=st.integers(1, 10),
    window=st.sampled_from([1, 60, 3600]),
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=150),
)
def test_no_window_sees_more_than_the_limit_and_one_that_rested_sees_all(
    most: int, window: int, steps: list[float]
) -> None:
    clock = HandClock(SECOND)
    counted = limits(clock, most, window)
    times: list[int] = []
    for step in steps:
        clock.pass_(step * window / most)
        now = int(clock.monotonic() * SECOND)
        within = [at for at in times if at > now - window * SECOND]
        recent = [at for at in times if at > now - window * SECOND * 66 // 64]
        admitted = counted.take(exchange()) is None
        assert len(within) < most or not admitted
        assert len(recent) >= most or admitted
        if admitted:
            times.append(now)


def test_keys_at_rest_make_room_whatever_became_of_their_last_call() -> None:
    clock = HandClock(1000 * SECOND)
    counted = Limits(
        [
            LimitSettings("l", ("subject.id",), rate=1, window=64, sliding=True),
            LimitSettings("one", ("route",), concurrent=1),
        ],
        clock,
        keys_limit=2,
    )
    first = exchange("a")
    assert counted.take(first) is None
    clock.pass_(100)
    assert counted.take(exchange("a")) is not None, "its place is taken; its window was emptied"
    counted.release(first)
    for who in ("b", "c"):
        found = exchange(who)
        assert counted.take(found) is None, who
        counted.release(found)
    refusal = counted.take(exchange("d"))
    assert refusal is not None, "two are not at rest"
    assert refusal.rule == "l"
