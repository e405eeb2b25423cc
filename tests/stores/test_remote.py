"""A worker's handles and descriptors: its owner's word, and a copy that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.descriptors import Described, Standing
from gateway.core.exchange import Handle
from gateway.core.posting import KNOWN
from gateway.core.reasons import Malformed, StoreFailed
from gateway.stores.agents import SqliteRegistry
from gateway.stores.memory import MemoryHandles
from gateway.stores.remote import HandlesClerk, MirroredRegistry, RegistryClerk, RemoteHandles, packed, unpacked
from tests.wire.posts import posts

SESSION, PLACE = Handle("mcp-session", "s-1"), {"route": "weather", "upstream": "weather"}
TOOL = Described(
    "tool", "weather", "get_forecast", Standing.VERIFIED, "sha256:aa", "sha256:aa", "admin", "",
    {"name": "get_forecast"}, {"name": "get_forecast", "n": 2**70, "odd": "\ud800"}, 10.5, 11.25,
)  # fmt: skip


class Clock:
    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 1.0


def story(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await job()

    asyncio.run(bounded())


def test_what_one_worker_binds_another_finds_and_may_not_take() -> None:
    async def main() -> None:
        handles = MemoryHandles(Clock())
        async with posts() as (one, at_one), posts() as (two, at_two):
            HandlesClerk(handles, at_one)
            HandlesClerk(handles, at_two)
            first, second = RemoteHandles(one), RemoteHandles(two)
            assert await second.owner(SESSION, **PLACE) is None
            await first.bind(SESSION, subject="agent:idp/a", **PLACE)
            assert await second.owner(SESSION, **PLACE) == "agent:idp/a"
            with pytest.raises(Malformed, match="another caller"):
                await second.bind(SESSION, subject="agent:idp/b", **PLACE)
            await second.forget(SESSION, **PLACE)
            assert await first.owner(SESSION, **PLACE) is None

    story(main)


def test_without_its_owner_a_worker_knows_no_handle() -> None:
    async def main() -> None:
        async with posts() as (one, at_owner):
            handles = RemoteHandles(one)
            at_owner.close()
            with pytest.raises(StoreFailed):
                await handles.owner(SESSION, **PLACE)

    story(main)


def test_every_copy_follows_what_is_saved_and_blocked(tmp_path: Path) -> None:
    async def main() -> None:
        registry = SqliteRegistry(tmp_path / "descriptors.sqlite", Clock().time)
        async with posts() as (one, at_one), posts() as (two, at_two):
            changed = [asyncio.Event() for _ in range(3)]
            told: list[str] = []

            def heard(items: Sequence[Described]) -> None:
                changed[len(told)].set()
                told.extend(item.name for item in items)

            mirrors = [MirroredRegistry(post, unpacked(packed(registry.items()))) for post in (one, two)]
            mirrors[1].subscribe(heard)
            for post in (at_one, at_two):
                RegistryClerk(registry, post)
                registry.subscribe(lambda items, post=post: post.tell(KNOWN, 0, packed(items)))  # type: ignore[misc]
            await mirrors[0].save([TOOL])
            assert mirrors[0].find("tool", "weather", "get_forecast") == TOOL, "seen by whoever saved it"
            await registry.block("caller", "", "agent:idp/a", "no more", "admin")
            await changed[1].wait()
            assert mirrors[1].items() == registry.items()
            assert mirrors[1].blocked("caller") == {("", "agent:idp/a")} == registry.blocked("caller")
            await registry.unblock("caller", "", "agent:idp/a")
            await changed[2].wait()
            assert mirrors[1].blocked("caller") == frozenset()
        registry.close()

    story(main)
