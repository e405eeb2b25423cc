"""Row 33 on the data plane: a page of another origin, or a name that is not ours, gets nowhere, sockets included."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import websockets.asyncio.client as socket_client
from rig import Running, gateway, run
from websockets.exceptions import InvalidStatus

from tests.flows.stage import Stage, calling, staged

ROW = 33
FOREIGN = (
    "http://evil.example",
    "https://gw.example.evil.example",
    "null",
    "http://127.0.0.1:1",
    "https://good.example:8443",
)
UPGRADE = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
           "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip


async def status(gate: Running, line: str, *headers: str, host: str = "127.0.0.1") -> int:
    async with calling(gate.app.port) as caller:
        given = [f"authorization: Bearer {gate.issuer.token()}", "content-length: 0", *headers]
        caller.writer.write("\r\n".join([f"{line} HTTP/1.1", f"host: {host}", *given, "", ""]).encode())
        return int((await caller.reader.readuntil(b"\r\n\r\n")).split(b" ")[1])


def untouched(stage: Stage) -> bool:
    return not stage.heads and not stage.messages and not stage.socket_codes


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/files/x", "/tools"])
def test_a_foreign_origin_is_refused_on_every_route(tmp_path: Path, origin: str, path: str) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path), origins=["https://good.example"]) as gate:
                for method in ("GET", "POST", "OPTIONS"):
                    assert await status(gate, f"{method} {path}", f"origin: {origin}") == 403
                assert untouched(stage)
                found = await asyncio.to_thread(gate.records)
                assert [each["refusal"]["reason"] for each in found if each["kind"] == "refusal"] == [
                    "origin_refused"
                ] * 3

    run(story())


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_opens_no_socket(tmp_path: Path, origin: str) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path), origins=["https://good.example"]) as gate:
                bearer = {"authorization": f"Bearer {gate.issuer.token()}", "origin": origin}
                with pytest.raises(InvalidStatus) as refused:
                    await socket_client.connect(f"ws://127.0.0.1:{gate.app.port}/sockets", additional_headers=bearer)
                assert refused.value.response.status_code == 403
                assert untouched(stage)

    run(story())


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "0.0.0.0"]
)
def test_a_name_that_is_not_ours_is_refused_whatever_it_resolves_to(tmp_path: Path, host: str) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                assert await status(gate, "POST /files/x", host=host) == 403
                assert await status(gate, "POST /tools", host=f"{host}:{gate.app.port}") == 403
                assert await status(gate, "GET /sockets", *UPGRADE, host=host) == 403
                assert untouched(stage)

    run(story())


def test_our_own_names_a_listed_origin_and_no_origin_pass(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path), origins=["https://good.example"]) as gate:
                assert await status(gate, "POST /files/x", "origin: https://good.example") == 200
                assert await status(gate, "POST /files/x", f"origin: {gate.url}") == 200
                assert await status(gate, "POST /files/x", host="LocalHost") == 200
                assert await status(gate, "GET /sockets", *UPGRADE) == 101

    run(story())
