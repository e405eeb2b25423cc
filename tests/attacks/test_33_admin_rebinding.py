"""Row 33, the admin plane's part: a name that somebody else resolves to this machine, and foreign origins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.control.plane_rig import HOST, TOKEN, plane

ROW = 33
BEARER = ("authorization", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"], ["evil.example:8081"], [], [HOST, "evil.example"], [HOST, HOST], [""],
        ["127.0.0.1.evil.example"],
        ["evil.example@127.0.0.1"], ["[::1"], ["127.0.0.1/"], ["127.0.0.1 "], ["0.0.0.0:8081"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/healthz", "/login", "/", "/metrics", "/api/v1/status", "/log/checkpoint"])
def test_a_host_that_is_not_ours_is_refused_even_with_the_token(tmp_path: Path, hosts: list[str], path: str) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            found = await rig.ask(path, *(("host", host) for host in hosts), BEARER)
            assert found.status == 403

    asyncio.run(run())


@pytest.mark.parametrize("host", [HOST, "127.0.0.1", "localhost:8081", "LOCALHOST", "gw.example:1"])
def test_our_own_names_are_answered(tmp_path: Path, host: str) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            assert (await rig.ask("/api/v1/status", ("host", host), BEARER)).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://{HOST}", f"http://{HOST}, http://evil.example"]
)
def test_a_foreign_origin_is_refused_even_with_the_token(tmp_path: Path, origin: str) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            for path in ("/healthz", "/api/v1/status", "/metrics"):
                assert (await rig.ask(path, ("host", HOST), BEARER, ("origin", origin))).status == 403
            twice = [("origin", f"http://{HOST}"), ("origin", "http://evil.example")]
            assert (await rig.ask("/api/v1/status", ("host", HOST), BEARER, *twice)).status == 403
            assert (await rig.ask("/api/v1/status", ("host", HOST), BEARER, ("origin", f"http://{HOST}"))).status == 200

    asyncio.run(run())
