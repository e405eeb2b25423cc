"""`/api/v1/shadow` and the status page: what a second engine said differently, as it is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.control.page import status_page
from gateway.core.access import AccessRequest
from gateway.pdp.shadow import Shadow, ShadowSettings
from tests.control.plane_rig import Rig, plane
from tests.pdp.shadowing import NO, YES, Saying


def tell(tmp_path: Path, story: Any) -> None:
    async def told() -> None:
        async with plane(tmp_path) as rig, asyncio.timeout(30):
            await story(rig)

    asyncio.run(told())


async def differ(rig: Rig, *subjects: str, rule: str = "none") -> None:
    beside = Saying(replace(NO, rule=rule))
    shadow = Shadow(Saying(YES), beside, ShadowSettings(), rig.comparisons)
    for subject in subjects:
        document: Any = {
            "subject": {"type": "agent", "id": subject}, "action": {"name": "mcp.tools/call"},
            "resource": {"type": "tool", "id": "weather/get"}, "context": {"arguments": {"secret": "canary"}},
        }  # fmt: skip
        shadow.decide(AccessRequest(document))
    await rig.comparisons.drain()


def test_differences_come_in_pages_newest_first_and_without_arguments(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await differ(rig, "a", "b", "c", "a")
        first = (await rig.get("/api/v1/shadow?limit=2")).json
        assert [(item["subject"], item["count"]) for item in first["differences"]] == [("c", 1), ("b", 1)]
        second = (await rig.get(f"/api/v1/shadow?limit=2&cursor={first['next']}")).json
        assert [(item["subject"], item["count"]) for item in second["differences"]] == [("a", 2)]
        assert second["next"] is None
        assert first["totals"]["different"] == first["kinds"]["allow_to_deny"] == 4
        assert first["shadow"]["engine"] == "embedded"
        assert "canary" not in str(first) + str(second)
        (item,) = (await rig.get("/api/v1/shadow?subject=b&kind=rule")).json["differences"]
        assert (item["enforced"]["effect"], item["shadow"]["effect"], item["listing"]) == ("allow", "deny", False)
        assert "exchange" not in item

    tell(tmp_path, story)


@pytest.mark.parametrize("query", ["kind=all", "limit=0", "limit=501", "cursor=x", "subjekt=a", "limit=1&limit=2"])
def test_a_parameter_with_a_slip_of_the_pen_is_an_error(tmp_path: Path, query: str) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.get(f"/api/v1/shadow?{query}")).status == 400

    tell(tmp_path, story)


def test_nobody_sees_it_without_the_token(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.ask("/api/v1/shadow", ("host", "127.0.0.1:8081"))).status == 401

    tell(tmp_path, story)


def test_the_status_page_shows_them_and_escapes_what_a_caller_or_policy_wrote(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert "shadow policy" not in (await rig.get("/")).body.decode()
        await differ(rig, "<img src=x onerror=alert(1)>\u202e", rule="<script>")
        page = (await rig.get("/")).body.decode()
        assert "What the shadow policy says differently" in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "deny (&lt;script&gt;)" in page
        assert not [mark for mark in ("<img", "<script", "\u202e") if mark in page]

    tell(tmp_path, story)


def test_the_status_page_says_that_nothing_is_enforced() -> None:
    reporting = status_page({"ready": True, "policy": {"engine": "embedded", "mode": "report"}}, [], [])
    assert "nothing that policy denies is refused" in reporting
    enforcing = status_page({"ready": True, "policy": {"engine": "embedded", "mode": "enforce"}}, [], [])
    assert "nothing that policy denies" not in enforcing
