"""What counts once: never twice within its time, never more of it than there is room for, never for ever."""

from __future__ import annotations

import pytest

from gateway.identity.replays import Replays, Use
from tests.identity.issuer import HandClock


def test_a_value_counts_once_for_its_owner() -> None:
    found = Replays(HandClock())
    assert found.use("a", "n", 60) is Use.FRESH
    assert found.use("a", "n", 60) is Use.AGAIN
    assert found.use("b", "n", 60) is Use.FRESH
    assert found.use("an", "", 60) is Use.FRESH  # neither is it another owner's other value


@pytest.mark.parametrize("seconds", [1.0, 15.9, 16.0, 60.0, 61.5, 3600.0])
def test_nothing_is_forgotten_before_its_time_and_all_is_afterwards(seconds: float) -> None:
    clock = HandClock()
    found = Replays(clock)
    assert found.use("a", "n", seconds) is Use.FRESH
    clock.pass_(seconds - 0.01)
    assert found.use("a", "n", 60) is Use.AGAIN
    clock.pass_(40)
    assert found.use("a", "n", 60) is Use.FRESH


def test_a_turned_clock_makes_nothing_fresh() -> None:
    clock = HandClock()
    found = Replays(clock)
    found.use("a", "n", 60)
    clock.wall += 7200
    assert found.use("a", "n", 60) is Use.AGAIN
    clock.wall -= 14400
    assert found.use("a", "n", 60) is Use.AGAIN


def test_a_full_memory_refuses_instead_of_forgetting() -> None:
    clock = HandClock()
    found = Replays(clock, limit=100, share=1000)
    assert all(found.use("a", str(number), 60) is Use.FRESH for number in range(100))
    assert found.use("a", "new", 60) is Use.FULL
    assert found.use("b", "new", 60) is Use.FULL
    assert found.use("a", "0", 60) is Use.AGAIN
    clock.pass_(80)
    assert found.use("b", "new", 60) is Use.FRESH


def test_one_owner_cannot_take_the_room_of_all() -> None:
    found = Replays(HandClock(), limit=100, share=10)
    assert [found.use("a", str(number), 60) for number in range(11)] == [Use.FRESH] * 10 + [Use.FULL]
    assert found.use("b", "0", 60) is Use.FRESH


def test_what_is_over_is_given_back_while_others_come() -> None:
    clock = HandClock()
    found = Replays(clock, limit=10_000, share=10_000)
    for number in range(5_000):
        found.use(f"owner {number % 7}", str(number), 10)
    clock.pass_(30)
    for number in range(1_000):
        assert found.use("b", str(number), 10) is Use.FRESH
    assert len(found) <= 1_000
