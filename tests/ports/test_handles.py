"""The contract of the Handles port, run against every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.core.exchange import Handle
from gateway.core.ports import Handles
from gateway.core.reasons import Malformed
from gateway.stores.memory import Bounds, MemoryHandles
from gateway.stores.sqlite import SqliteHandles

SESSION = Handle("mcp-session", "s-1")
PLACE = {"route": "weather", "upstream": "weather"}


class MovedClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


Make: TypeAlias = Callable[..., Handles]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> Make:
    def of(bounds: Bounds = Bounds()) -> Handles:  # noqa: B008
        if request.param == "memory":
            return MemoryHandles(clock, bounds)
        store = SqliteHandles(tmp_path / "handles.db", clock, bounds)
        request.addfinalizer(store.close)
        return store

    return of


def test_a_bound_handle_has_its_owner_and_an_unknown_one_has_none(make: Make) -> None:
    async def story() -> None:
        handles = make()
        assert await handles.owner(SESSION, **PLACE) is None
        await handles.bind(SESSION, subject="agent:idp/a", **PLACE)
        assert await handles.owner(SESSION, **PLACE) == "agent:idp/a"

    asyncio.run(story())


def test_kind_route_and_upstream_are_part_of_a_handle(make: Make) -> None:
    async def story() -> None:
        handles = make()
        await handles.bind(SESSION, subject="a", route="weather", upstream="weather")
        assert await handles.owner(Handle("a2a-task", "s-1"), route="weather", upstream="weather") is None
        assert await handles.owner(SESSION, route="other", upstream="weather") is None
        assert await handles.owner(SESSION, route="weather", upstream="other") is None

    asyncio.run(story())


def test_binding_again_to_the_same_principal_is_nothing_new(make: Make) -> None:
    async def story() -> None:
        handles = make()
        await handles.bind(SESSION, subject="a", **PLACE)
        await handles.bind(SESSION, subject="a", **PLACE)
        assert await handles.owner(SESSION, **PLACE) == "a"

    asyncio.run(story())


def test_a_handle_never_becomes_another_principals(make: Make) -> None:
    async def story() -> None:
        handles = make()
        await handles.bind(SESSION, subject="a", **PLACE)
        with pytest.raises(Malformed):
            await handles.bind(SESSION, subject="b", **PLACE)
        assert await handles.owner(SESSION, **PLACE) == "a"

    asyncio.run(story())


def test_a_forgotten_handle_is_unknown_and_can_be_bound_anew(make: Make) -> None:
    async def story() -> None:
        handles = make()
        await handles.bind(SESSION, subject="a", **PLACE)
        await handles.forget(SESSION, **PLACE)
        assert await handles.owner(SESSION, **PLACE) is None
        await handles.forget(SESSION, **PLACE)
        await handles.bind(SESSION, subject="b", **PLACE)
        assert await handles.owner(SESSION, **PLACE) == "b"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice", "alice"),
        ("caf\u00e9", "cafe\u0301"),
        ("a", "a "),
        ("a", " a"),
        ("a\u00a0", "a "),
        ("ss", "ß"),
        ("i", "İ"),
    ],
)
def test_spellings_that_some_databases_fold_are_different_principals_and_handles(
    make: Make, one: str, other: str
) -> None:
    """Case, NFC against NFD, spaces at the end."""

    async def story() -> None:
        handles = make()
        await handles.bind(Handle("mcp-session", one), subject=one, **PLACE)
        assert await handles.owner(Handle("mcp-session", other), **PLACE) is None
        await handles.bind(Handle("mcp-session", other), subject=other, **PLACE)
        assert await handles.owner(Handle("mcp-session", one), **PLACE) == one
        assert await handles.owner(Handle("mcp-session", other), **PLACE) == other
        with pytest.raises(Malformed):
            await handles.bind(Handle("mcp-session", one), subject=other, **PLACE)

    asyncio.run(story())


def test_a_handle_that_nobody_used_for_too_long_is_gone(make: Make, clock: MovedClock) -> None:
    async def story() -> None:
        handles = make(Bounds(age_seconds=100.0))
        await handles.bind(SESSION, subject="a", **PLACE)
        clock.now += 90
        assert await handles.owner(SESSION, **PLACE) == "a"
        clock.now += 90
        assert await handles.owner(SESSION, **PLACE) == "a", "it was used in between"
        clock.now += 101
        assert await handles.owner(SESSION, **PLACE) is None
        await handles.bind(SESSION, subject="b", **PLACE)
        assert await handles.owner(SESSION, **PLACE) == "b"

    asyncio.run(story())


def test_a_principal_with_too_many_handles_loses_its_own_oldest(make: Make, clock: MovedClock) -> None:
    async def story() -> None:
        handles = make(Bounds(per_subject=3))
        await handles.bind(Handle("mcp-session", "quiet"), subject="b", **PLACE)
        for number in range(5):
            clock.now += 1
            await handles.bind(Handle("mcp-session", f"s-{number}"), subject="a", **PLACE)
        alive = [await handles.owner(Handle("mcp-session", f"s-{number}"), **PLACE) for number in range(5)]
        assert alive == [None, None, "a", "a", "a"]
        assert await handles.owner(Handle("mcp-session", "quiet"), **PLACE) == "b"

    asyncio.run(story())


def test_the_number_of_all_handles_is_bounded(make: Make) -> None:
    async def story() -> None:
        handles = make(Bounds(total=3))
        for number in range(5):
            await handles.bind(Handle("mcp-session", f"s-{number}"), subject=f"a-{number}", **PLACE)
        alive = [await handles.owner(Handle("mcp-session", f"s-{number}"), **PLACE) for number in range(5)]
        assert alive == [None, None, "a-2", "a-3", "a-4"]

    asyncio.run(story())


def test_many_bindings_at_once_are_all_there(make: Make) -> None:
    async def story() -> None:
        handles = make()
        everyone = [(Handle("a2a-task", f"t-{number}"), f"a-{number % 7}") for number in range(300)]
        await asyncio.gather(*(handles.bind(handle, subject=subject, **PLACE) for handle, subject in everyone))
        assert [await handles.owner(handle, **PLACE) for handle, _ in everyone] == [subject for _, subject in everyone]

    asyncio.run(story())
