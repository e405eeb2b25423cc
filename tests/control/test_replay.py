"""Replays over the admin plane: who may ask, for what, and that one is under way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.assembly_replay_jobs import REMEMBERED
from tests.control.plane_rig import Rig, plane


def tell(tmp_path: Path, story: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), plane(tmp_path) as rig:
            await story(rig)

    asyncio.run(main())


async def ended(rig: Rig, place: str) -> Any:
    """What it came to; waits for its task, which is the only one of that name."""
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "replay"]
    await asyncio.wait([task])
    return (await rig.get(place)).json


def test_a_pushed_bundle_is_replayed_by_its_name(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        begun = await rig.get("/api/v1/replay?bundle=tollgate&since=24h", method="POST")
        assert begun.status == 202
        place = begun.headers["location"]
        assert begun.json["id"] == place.rpartition("/")[2]
        found = await ended(rig, place)
        assert found["state"] == "failed", "what the rig has pushed is no bundle"
        assert "rule 1" in found["error"]
        assert (await rig.get("/api/v1/replay?bundle=other", method="POST")).status == 404

    tell(tmp_path, story)


def test_one_that_is_ended_makes_room_for_the_next(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        first = (await rig.get("/api/v1/replay?bundle=tollgate", method="POST")).headers["location"]
        assert (await rig.get("/api/v1/replay?bundle=tollgate", method="POST")).status == 409
        assert (await rig.get(first, method="DELETE")).json["state"] == "stopped"
        for _ in range(REMEMBERED):
            place = (await rig.get("/api/v1/replay?bundle=tollgate", method="POST")).headers["location"]
            await rig.get(place, method="DELETE")
        assert (await rig.get(first)).status == 404
        assert (await rig.get(place)).json["state"] == "stopped"

    tell(tmp_path, story)
    assert not list(tmp_path.glob("replay-*"))
