"""Cerbos for the tests of policies: where its binary is, and what the gateway's own engine makes of its answers.

The binary is that of the npm package that tests/components.sh installs; `TOLLGATE_CERBOS` or `cerbos` on PATH names
another. tests/pdp/engine_servers.py starts it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.cerbos import CerbosAsker, CerbosSettings
from gateway.pdp.remote import RemoteEngine, RemoteSettings
from tests.pdp.asking import settled

PACKAGED = Path(__file__).resolve().parents[1] / "clients/node/node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"


def cerbos() -> str:
    """The path of the binary. Where there is none the test fails, or among the fast ones is skipped and says so."""
    found = os.environ.get("TOLLGATE_CERBOS") or (str(PACKAGED) if PACKAGED.exists() else shutil.which("cerbos"))
    if not found:
        missing = "no Cerbos here: tests/components.sh installs it, TOLLGATE_CERBOS would name one"
        (pytest.skip if os.environ.get("TOLLGATE_TESTS") == "fast" else pytest.fail)(missing)
    return found


async def answers(url: str, questions: Sequence[dict[str, Any]]) -> list[Decision]:
    """What the gateway's own Cerbos engine answers, asked as for a list of that many items. `url` is of its gRPC."""
    asker = CerbosAsker(CerbosSettings(url.removeprefix("http://")))
    engine = RemoteEngine(asker, RemoteSettings("worked", deadline_s=30.0))
    try:
        found: list[Decision] = await settled(engine.decide_many([AccessRequest(question) for question in questions]))
        return found
    finally:
        await engine.aclose()
