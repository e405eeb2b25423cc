"""Who is turned away when there is too much to do; no clock of the machine has a say in it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import NO_ROUTE, Route
from gateway.wire.crowd import LOOK_SECONDS, Crowd
from tests.rig import run

PLACES = 40
CRITICAL = replace(NO_ROUTE, name="c", priority="critical")
NORMAL = replace(NO_ROUTE, name="n", places=36, lateness=0.4)
SHEDDABLE = replace(NO_ROUTE, name="s", priority="sheddable", places=20, lateness=0.1)
PLAIN = replace(NO_ROUTE, name="p")


class Moved:
    now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def entered(crowd: Crowd, *routes: Route) -> list[Refusal | None]:
    async def story() -> list[Refusal | None]:
        return [crowd.enter(route) for route in routes]

    return run(story())


def test_each_class_finds_places_until_its_share_is_full_and_what_is_kept_is_the_critical_ones() -> None:
    crowd = Crowd(Moved())
    found = entered(crowd, *[SHEDDABLE] * 21, *[NORMAL] * 17, *[CRITICAL] * 4, SHEDDABLE, NORMAL)
    told = [n for n, refusal in enumerate(found) if refusal is not None]
    assert told == [20, 37, 42, 43]
    assert crowd.inside == PLACES  # who was turned away is not counted
    refusal = found[20]
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (Reason.OVERLOADED, "shed:sheddable")
    assert found[43] is not None
    assert found[43].rule == "shed:normal"


def test_a_place_that_is_left_is_a_place() -> None:
    crowd = Crowd(Moved())
    assert entered(crowd, *[SHEDDABLE] * 21)[-1] is not None
    crowd.leave()
    assert entered(crowd, SHEDDABLE) == [None]


def test_not_everybody_is_told_to_come_again_at_once() -> None:
    crowd = Crowd(Moved())
    again = {it.retry_after for it in entered(crowd, *[SHEDDABLE] * 40) if it is not None}
    assert again == {1, 2, 3, 4}


def test_a_late_loop_sheds_by_class_and_recovers_by_halves() -> None:
    async def story() -> None:
        clock = Moved()
        crowd = Crowd(clock)
        assert crowd.enter(SHEDDABLE) is None
        clock.now += LOOK_SECONDS + 0.2
        crowd.look()
        assert crowd.late == pytest.approx(0.2)
        assert crowd.enter(SHEDDABLE) is not None
        assert crowd.enter(NORMAL) is None
        clock.now += LOOK_SECONDS + 0.9
        crowd.look()
        assert crowd.enter(NORMAL) is not None
        assert crowd.enter(CRITICAL) is None
        for _ in range(4):  # on time again: 0.45, 0.225, 0.1125, 0.05625
            clock.now += LOOK_SECONDS
            crowd.look()
        assert crowd.enter(NORMAL) is None
        assert crowd.enter(SHEDDABLE) is None

    run(story())


def test_nothing_is_measured_where_no_class_is_named_and_nobody_is_turned_away() -> None:
    async def story() -> None:
        clock = Moved()
        crowd = Crowd(clock)
        assert [crowd.enter(PLAIN) for _ in range(1000)] == [None] * 1000
        assert len(asyncio.all_tasks()) == 1
        assert crowd._timer is None

    run(story())


def test_the_timer_ends_with_the_last_exchange() -> None:
    async def story() -> None:
        clock = Moved()
        crowd = Crowd(clock)
        crowd.enter(SHEDDABLE)
        crowd.leave()
        clock.now += 5
        crowd.look()
        assert crowd._timer is None
        assert crowd.late == 0.0  # what was late then says nothing of now

    run(story())


@given(st.lists(st.tuples(st.sampled_from([CRITICAL, NORMAL, SHEDDABLE]), st.booleans()), max_size=200))
def test_no_share_is_ever_passed_and_nobody_is_refused_beside_a_free_place(moves: list[tuple[Route, bool]]) -> None:
    crowd = Crowd(Moved())

    async def story() -> None:
        inside = 0
        for route, leaves in moves:
            if leaves and inside:
                crowd.leave()
                inside -= 1
            refused = crowd.enter(route) is not None
            assert refused == (route.places > 0 and inside >= route.places)
            inside += not refused
            assert crowd.inside == inside

    run(story())


def overload(classes: bool, factor: int = 3, ticks: int = 4000) -> dict[str, tuple[int, int]]:
    """Arrivals of `factor` times what PLACES can take at HOLD ticks each, a tenth of them critical: by class, how many
    came and how many were let in. The front's own cap stands behind the classes."""
    hold, pick = 10, random.Random(14)
    crowd = Crowd(Moved())
    routes = {"critical": CRITICAL, "normal": NORMAL, "sheddable": SHEDDABLE}
    came: Counter[str] = Counter()
    served: Counter[str] = Counter()
    leaving: list[int] = []

    async def story() -> None:
        for tick in range(ticks):
            while leaving and leaving[0] <= tick:
                leaving.pop(0)
                crowd.leave()
            for _ in range(factor * PLACES // hold):
                name = pick.choices(["critical", "normal", "sheddable"], [10, 45, 45])[0]
                came[name] += 1
                if crowd.inside >= PLACES or crowd.enter(routes[name] if classes else PLAIN) is not None:
                    continue
                served[name] += 1
                leaving.append(tick + hold)

    run(story())
    return {name: (came[name], served[name]) for name in routes}


def test_at_three_times_the_capacity_what_is_critical_succeeds() -> None:
    """R14: at least 99%; without classes it is a third. And the others still fill what is left."""
    found = overload(classes=True)
    came, served = found["critical"]
    assert served >= 0.99 * came
    assert sum(served for _, served in found.values()) > 0.85 * PLACES * 4000 / 10
    assert found["normal"][1] > found["sheddable"][1]
    came, served = overload(classes=False)["critical"]
    assert served < 0.4 * came
