"""Row 12: nobody but the gateway tells an upstream who calls: a caller's own identity headers never arrive."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from rig import gateway, run

from tests.flows.stage import calling, staged

ROW = 12
NAMES = (
    "X-Auth-User", "X-Auth-Request-Email", "X-Auth-Token", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-For",
    "X-Forwarded-Groups", "X-Forwarded-Access-Token", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
    "X-Forwarded-Uri", "X-Forwarded-Client-Cert", "Forwarded", "Remote-User", "X-Remote-User", "X-Real-IP",
    "X-Client-IP", "True-Client-IP", "X-Original-URL", "X-Original-Method", "X-Rewrite-URL", "X-HTTP-Method-Override",
    "X-Tollgate-Subject", "X-Request-Id",
)  # fmt: skip
SPELLINGS = (str, str.upper, lambda name: name.replace("-", "_"), lambda name: name.replace("-", "_", 1),
             lambda name: name.replace("-", ".", 1))  # fmt: skip
CANARY = "canary-root"


@pytest.mark.parametrize("auth", ["required", "anonymous"])
def test_a_callers_identity_headers_reach_no_upstream_in_any_spelling(tmp_path: Path, auth: str) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **stage.settings(tmp_path, auth=auth)) as gate:
                token = gate.issuer.token()
                for name, spelling in itertools.product(NAMES, SPELLINGS):
                    given = f"{spelling(name)}: {CANARY}"
                    async with calling(gate.app.port) as caller:
                        status, _ = await caller.ask("POST /files/x", token, b"", given)
                    assert status in (200, 400), given  # 400: a name that the front takes from nobody
                assert len(stage.heads) >= len(NAMES) * 2
                assert not [head for head in stage.heads if CANARY.encode() in head]
                found = await asyncio.to_thread(gate.records)
                expected = "agent:idp/planner"
                assert {each["subject"]["id"] for each in found if each["kind"] == "intent"} == {expected}

    run(story())
