"""Row 49: another site's page makes a logged-in browser send simple requests to the admin plane."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.control.plane_rig import HOST, TOKEN, Rig, plane

ROW = 49
CONTENT_TYPES = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json",
    "",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8080", f"https://{HOST}", f"http://{HOST}.evil.example"]
)
def test_a_foreign_page_cannot_post_with_any_content_type(tmp_path: Path, origin: str, content_type: str) -> None:
    async def story(rig: Rig) -> None:
        opened = await rig.ask(f"/login?token={rig.access.one_time()}", ("host", HOST))
        cookie = ("cookie", opened.headers["set-cookie"].partition(";")[0])
        headers = [("host", HOST), cookie, ("content-type", content_type), ("origin", origin)]
        for path in ("/logout", "/login", "/api/v1/status"):
            assert (await rig.ask(path, *headers, method="POST", body=b"token=x")).status == 403
        assert (await rig.ask("/api/v1/status", ("host", HOST), cookie)).status == 200, "the session is still there"
        assert (await rig.ask("/api/v1/status", *headers)).status == 403, "nor read"

    async def run() -> None:
        async with plane(tmp_path) as rig:
            await story(rig)

    asyncio.run(run())


def test_a_post_that_hides_its_origin_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            opened = await rig.ask(f"/login?token={rig.access.one_time()}", ("host", HOST))
            cookie = ("cookie", opened.headers["set-cookie"].partition(";")[0])
            assert (await rig.ask("/logout", ("host", HOST), cookie, method="POST")).status == 403
            form = f"token={TOKEN}".encode()
            assert (await rig.ask("/login", ("host", HOST), method="POST", body=form)).status == 403

    asyncio.run(run())
