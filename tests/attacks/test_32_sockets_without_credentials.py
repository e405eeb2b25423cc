"""Row 32: an upgrade passes every stage that a request passes; what is refused is refused before it is accepted."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets.asyncio.client as socket_client
from rig import ROOT, gateway, run
from websockets.exceptions import InvalidStatus

from tests.flows.stage import staged

ROW = 32


async def status_of(port: int, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    with pytest.raises(InvalidStatus) as found:
        await socket_client.connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers)
    response = found.value.response
    return response.status_code, {name.lower(): value for name, value in response.headers.raw_items()}


@pytest.mark.parametrize("path", ["/sockets", "/sockets/deep?x=1", "/files", "/tools"])
def test_a_socket_without_a_good_credential_is_refused_before_it_is_accepted(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path)) as gate:
                expired = gate.issuer.token(exp=1)
                none: dict[str, Any] = {}
                for headers in (none, {"authorization": "Bearer x"}, {"authorization": f"Bearer {expired}"},
                                {"x-api-key": "tg_ci_" + "B" * 43}, {"cookie": "session=1"}):  # fmt: skip
                    status, answered = await status_of(gate.app.port, path, **headers)
                    assert status == 401
                    assert answered["www-authenticate"].startswith("Bearer")
                    assert answered["x-request-id"]
                assert stage.server.connections == 0
                assert stage.socket_codes == stage.messages == []
                found = await asyncio.to_thread(gate.records)
                refusals = [each["refusal"]["reason"] for each in found if each["kind"] == "refusal"]
                assert refusals == ["unauthenticated"] * 5

    run(story())


def test_a_socket_that_policy_or_a_limit_denies_is_refused_before_it_is_accepted(tmp_path: Path) -> None:
    denies = 'package tollgate\n\ndecision := {"decision": input.action.name != "ws.open"}\n'
    limits = [{"name": "one", "key": ["subject.id"], "rate": "1/hour", "burst": 1}]

    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path), limits=limits) as gate:
                bearer = {"authorization": f"Bearer {gate.issuer.token()}"}
                url = f"{gate.url}/files/x"
                assert (await asyncio.to_thread(httpx2.get, url, headers=bearer)).status_code == 200
                assert (await status_of(gate.app.port, "/sockets", **bearer))[0] == 429
                (tmp_path / "policies" / "decision.rego").write_text(denies)
                await asyncio.to_thread(gate.reload, limits=[])
                assert (await status_of(gate.app.port, "/sockets", **bearer))[0] == 403
                assert (await status_of(gate.app.port, "/nowhere", **bearer))[0] == 404
                assert stage.socket_codes == []

    run(story())


def test_no_middleware_that_sees_only_http_is_in_the_program() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
            assert "BaseHTTPMiddleware" not in names, path
            assert not (isinstance(node, ast.Attribute) and node.attr == "BaseHTTPMiddleware"), path
