"""What counts once: never twice within its time, never more of it than there is room for, never for ever."""

from __future__ import annotations

import asyncio

import pytest

from gateway.identity.replays import RemoteReplays, Replays, Use, serve_replays
from tests.identity.issuer import NOW, HandClock
from tests.wire.posts import posts


def use(found: Replays, clock: HandClock, owner: str, value: str, seconds: float) -> Use:
    return found.use(owner, value, clock.time(), clock.time() + seconds)


def test_a_value_counts_once_for_its_owner() -> None:
    clock = HandClock()
    found = Replays(clock)
    assert use(found, clock, "a", "n", 60) is Use.FRESH
    assert use(found, clock, "a", "n", 60) is Use.AGAIN
    assert use(found, clock, "b", "n", 60) is Use.FRESH
    assert use(found, clock, "an", "", 60) is Use.FRESH  # neither is it another owner's other value


@pytest.mark.parametrize("seconds", [1.0, 15.9, 16.0, 60.0, 61.5, 3600.0])
def test_nothing_is_forgotten_before_its_time_and_all_is_afterwards(seconds: float) -> None:
    clock = HandClock()
    found = Replays(clock)
    assert use(found, clock, "a", "n", seconds) is Use.FRESH
    clock.pass_(seconds - 0.01)
    assert use(found, clock, "a", "n", 60) is Use.AGAIN
    clock.pass_(40)
    assert use(found, clock, "a", "n", 60) is Use.FRESH


def test_a_turned_clock_makes_nothing_fresh() -> None:
    clock = HandClock()
    found = Replays(clock)
    use(found, clock, "a", "n", 60)
    clock.wall += 7200
    assert use(found, clock, "a", "n", 60) is Use.AGAIN
    clock.wall -= 7200
    assert use(found, clock, "a", "n", 60) is Use.AGAIN
    clock.wall -= 3600
    assert use(found, clock, "a", "n", 60) is Use.EARLY


def test_a_full_memory_refuses_instead_of_forgetting() -> None:
    clock = HandClock()
    found = Replays(clock, limit=100, share=1000)
    assert all(use(found, clock, "a", str(number), 60) is Use.FRESH for number in range(100))
    assert use(found, clock, "a", "new", 60) is Use.FULL
    assert use(found, clock, "b", "new", 60) is Use.FULL
    assert use(found, clock, "a", "0", 60) is Use.AGAIN
    clock.pass_(80)
    assert use(found, clock, "b", "new", 60) is Use.FRESH


def test_one_owner_cannot_take_the_room_of_all() -> None:
    clock = HandClock()
    found = Replays(clock, limit=100, share=10)
    assert [use(found, clock, "a", str(number), 60) for number in range(11)] == [Use.FRESH] * 10 + [Use.FULL]
    assert use(found, clock, "b", "0", 60) is Use.FRESH


def test_what_is_over_is_given_back_while_others_come() -> None:
    clock = HandClock()
    found = Replays(clock, limit=10_000, share=10_000)
    for number in range(5_000):
        use(found, clock, f"owner {number % 7}", str(number), 10)
    clock.pass_(30)
    for number in range(1_000):
        assert use(found, clock, "b", str(number), 10) is Use.FRESH
    assert len(found) <= 1_000


def test_what_was_made_before_the_memory_began_may_have_been_used_before() -> None:
    clock = HandClock()
    found = Replays(clock)
    assert found.use("a", "n", NOW - 1.5, NOW + 58) is Use.EARLY
    assert found.use("a", "n", NOW - 1, NOW + 58) is Use.FRESH


def test_what_one_worker_took_counts_for_no_other_and_without_their_owner_nothing_does() -> None:
    async def main() -> None:
        clock = HandClock()
        memory = Replays(clock)
        async with posts() as (one, at_one), posts() as (two, at_two):
            serve_replays(memory, at_one)
            serve_replays(memory, at_two)
            first, second = RemoteReplays(one), RemoteReplays(two)
            assert await first.use("a", "n", NOW, NOW + 60) is Use.FRESH
            assert await second.use("a", "n", NOW, NOW + 60) is Use.AGAIN
            assert await second.use("a", "old", NOW - 100, NOW + 60) is Use.EARLY
            at_two.close()
            assert await second.use("a", "other", NOW, NOW + 60) is Use.FULL

    asyncio.run(main())
