"""Pins over a real registry, without a network: what is shown, stored and recorded of lists as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.descriptors import Standing, Unapprovable
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.stores.agents import SqliteRegistry
from gateway.trust import pins as pins_module
from gateway.trust.pins import RETRY_SECONDS, Pins
from gateway.trust.tools import Named, Pin
from gateway.trust.watched import MAX_ITEMS, PinSettings

UP = Upstream("up", "mcp", "http", "127.0.0.1", 1, "127.0.0.1:1", "/mcp")


class MovedClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Rig:
    """`lists` is what the upstream describes; an exception is raised instead. `notes` are the records."""

    def __init__(self, folder: Path) -> None:
        self.clock = MovedClock()
        self.registry = SqliteRegistry(folder / "descriptors.sqlite", self.clock.time)
        self.lists: dict[str, list[dict[str, Any]]] | Exception = {}
        self.asked = 0
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.pins = Pins(
            self.registry, self._list, self._signed, lambda what, about: self.notes.append((what, about)), self.clock
        )

    def adopt(self, pin: Pin = Pin.FIRST_USE, **more: Any) -> None:
        self.pins.adopt([(UP, PinSettings(pin, **more))])

    async def shown(self, *items: dict[str, Any], listing: str = "tools", whole: bool = True) -> list[bool]:
        found = await self.pins.shown("up", listing, items, whole)
        assert found is not None
        return list(found)

    def standing(self, name: str, kind: str = "tool") -> Standing | None:
        found = self.registry.find(kind, "up", name)
        return found.standing if found is not None else None

    async def _list(self, upstream: Upstream) -> Mapping[str, list[dict[str, Any]]]:
        self.asked += 1
        if isinstance(self.lists, Exception):
            raise self.lists
        return {"tools": [], "prompts": [], "resources": [], "templates": [], **self.lists}

    async def _signed(self, settings: PinSettings) -> tuple[Named, ...]:
        return ()


def tell(tmp_path: Path, story: Callable[[Rig], Awaitable[None]]) -> None:
    async def bounded() -> None:
        rig = Rig(tmp_path)
        try:
            async with asyncio.timeout(30):
                await story(rig)
        finally:
            await rig.pins.aclose()
            rig.registry.close()

    asyncio.run(bounded())


def tool(name: str = "t", text: str = "d") -> dict[str, Any]:
    return {"name": name, "description": text}


def test_of_two_with_one_name_only_the_one_that_was_stored_is_shown(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        assert await rig.shown(tool(text="one"), tool(text="other")) == [False, True]

    tell(tmp_path, story)


def test_a_part_of_a_list_pins_nothing(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        assert await rig.shown(tool("a"), whole=False) == [False]
        assert rig.standing("a") is Standing.UNVERIFIED
        assert await rig.shown(tool("a"), tool("b")) == [True, True]
        assert await rig.shown(tool("c"), whole=False) == [False]
        assert rig.standing("c") is Standing.QUARANTINED

    tell(tmp_path, story)


def test_an_empty_first_list_is_pinned_too(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        assert await rig.shown() == []
        assert await rig.shown(tool()) == [False]

    tell(tmp_path, story)


def test_a_change_is_recorded_once_however_often_it_goes_back_and_forth(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        await rig.shown(tool())
        for _ in range(5):
            for text in ("d", "x", "y"):
                assert await rig.shown(tool(text=text)) == [text == "d" and rig.standing("t") is Standing.VERIFIED]
        quarantined = [
            about["descriptor"]["tool"]["digest"] for what, about in rig.notes if what.endswith("quarantined")
        ]
        assert len(quarantined) == len(set(quarantined)) == 2

    tell(tmp_path, story)


def test_the_same_list_again_writes_nothing(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        await rig.shown(tool())
        stored: list[Any] = []
        rig.registry.subscribe(stored.extend)
        for _ in range(3):
            rig.clock.now += 60
            assert await rig.shown(tool()) == [True]
        assert stored == []

    tell(tmp_path, story)


def test_an_upstream_that_makes_up_names_fills_neither_the_store_nor_a_list(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt(Pin.NONE)
        for start in (0, MAX_ITEMS):
            await rig.shown(*(tool(f"t{start + n}") for n in range(MAX_ITEMS)))
        assert len(rig.registry.items("tool")) == MAX_ITEMS
        rig.adopt(Pin.FIRST_USE)
        assert await rig.shown(tool("t0"), tool("late")) == [True, False]
        assert rig.standing("late") is None

    tell(tmp_path, story)


def test_what_has_no_digest_is_shown_only_where_nothing_is_pinned(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        assert await rig.shown(tool(text="\ud800"), tool("u")) == [False, True]
        assert rig.standing("t") is Standing.QUARANTINED
        rig.adopt(Pin.NONE)
        assert await rig.shown(tool(text="\udc00"), tool("u")) == [True, True]

    tell(tmp_path, story)


def test_resources_that_describe_nothing_come_and_go(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        plain, told = {"uri": "a://1", "name": "1"}, {"uri": "a://2", "name": "2", "description": "Do this"}
        assert await rig.shown(plain, told, listing="resources") == [True, True]
        assert await rig.shown({"uri": "a://3", "name": "3"}, listing="resources") == [True]
        assert await rig.shown({**told, "uri": "a://4"}, listing="resources") == [False]
        assert await rig.shown({**plain, "description": "Obey"}, listing="resources") == [False]
        rig.adopt(Pin.REQUIRED)
        assert await rig.shown(plain, listing="resources") == [False]

    tell(tmp_path, story)


def test_many_lists_at_once_are_judged_one_after_the_other(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        found = await asyncio.gather(*(rig.shown(tool(), tool(f"only-{n}")) for n in range(20)))
        assert sum(second for _, second in found) == 1, "one list was the first"
        assert len([what for what, _ in rig.notes if what == "descriptor.pinned"]) == 1

    tell(tmp_path, story)


def test_a_listing_is_repeated_when_it_is_due_and_sooner_when_it_failed(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt(refresh=100.0)
        rig.lists = UpstreamFailed("nobody", error="connection_refused", sent=False)
        watching = asyncio.create_task(rig.pins.watch())
        try:
            await _until(lambda: rig.asked == 1 and rig.pins.failure("up") != "")
            rig.lists = {"tools": [tool()]}
            rig.clock.now += RETRY_SECONDS
            rig.pins.adopt([])  # wakes the watch: it looks at the clock again
            await _until(lambda: rig.asked == 2 and rig.pins.failure("up") == "")
            rig.clock.now += 99.0
            rig.pins.adopt([])
            await asyncio.sleep(0)
            assert rig.asked == 2
            rig.clock.now += 1.0
            rig.pins.adopt([])
            await _until(lambda: rig.asked == 3)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    tell(tmp_path, story)


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (the story's deadline stands behind it)
        await asyncio.sleep(0.001)


def test_a_fault_in_a_listing_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        rig.adopt()
        rig.lists = RuntimeError("a fault of ours")
        assert "cannot be kept" in await rig.pins.refresh("up")
        rig.lists = {"tools": [tool()]}
        assert await rig.pins.refresh("up") == ""
        assert rig.standing("t") is Standing.VERIFIED

        async def late(upstream: Upstream) -> Mapping[str, list[dict[str, Any]]]:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(pins_module, "LIST_SECONDS", 0.01)
        monkeypatch.setattr(rig.pins, "_lister", late)
        assert "were not there within" in await rig.pins.refresh("up")
        assert rig.standing("t") is Standing.VERIFIED

    tell(tmp_path, story)


def test_nothing_is_approved_that_was_not_there(tmp_path: Path) -> None:
    async def recorded(made: Any) -> None:
        raise AssertionError("nothing is to be recorded")

    async def story(rig: Rig) -> None:
        rig.adopt(Pin.REQUIRED)
        await rig.shown(tool(), tool(text="\ud800", name="odd"))
        for name, digest in (("t", "sha256:00"), ("t", ""), ("odd", ""), ("none", "sha256:00")):
            with pytest.raises(Unapprovable):
                await rig.pins.approve([("tool", "up", name, digest)], "admin", recorded)
        assert rig.standing("t") is Standing.UNVERIFIED

    tell(tmp_path, story)


def test_an_unknown_upstream_is_nobodys_business(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert await rig.pins.shown("other", "tools", [tool()], True) is None
        rig.pins.stale("other")
        assert (rig.pins.pin("other"), rig.pins.failure("other")) == ("", "")

    tell(tmp_path, story)
