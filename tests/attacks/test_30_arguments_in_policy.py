"""A list where one value is expected is refused by the shipped policy, not searched for a harmless member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import read_folder

ROW = 30
POLICIES = Path(__file__).resolve().parents[2] / "policies"


@pytest.fixture(scope="module")
def engine() -> EmbeddedEngine:
    return EmbeddedEngine(read_folder(POLICIES))


def call(engine: EmbeddedEngine, tool: str, arguments: Any, roles: Any = ("files", "payments")) -> Decision:
    decision = engine.decide(
        AccessRequest(
            {
                "subject": {"type": "agent", "id": "agent:idp/a", "properties": {"roles": list(roles)}},
                "action": {"name": "mcp.tools/call"},
                "resource": {
                    "type": "tool",
                    "id": tool,
                    "properties": {"route": "r", "upstream": tool.partition("/")[0]},
                },
                "context": {"listing": False, "arguments": arguments},
            }
        )
    )
    assert isinstance(decision, Decision)
    return decision


OK = "/srv/shared/ok"
PATHS: list[Any] = [
    [OK, "/etc/passwd"], [OK], ["/etc/passwd"], [], [[OK]], {"0": OK}, {"path": OK}, {}, None, True, False, 0, 1.5,
    {"path": [OK]}, [OK, OK], [{"path": OK}], ["/srv/shared", "ok"], [None], [OK, None],
]  # fmt: skip
AMOUNTS: list[Any] = [
    [1], [1, 10**6], [], {"amount": 1}, {}, "1", "499", "", "1e2", "0x10", None, True, False, [[1]], ["1"], {"0": 1},
]  # fmt: skip


def test_one_text_and_one_number_are_allowed(engine: EmbeddedEngine) -> None:
    assert call(engine, "files/read_file", {"path": OK}).allow is True
    assert call(engine, "weather/transfer", {"amount": 499}).allow is True


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_path_that_is_not_one_text_is_refused(engine: EmbeddedEngine, path: Any) -> None:
    decision = call(engine, "files/read_file", {"path": path})
    assert (decision.allow, decision.fault) == (False, False)
    assert "one text" in decision.reason


@pytest.mark.parametrize("amount", AMOUNTS, ids=str)
def test_an_amount_that_is_not_one_number_is_refused(engine: EmbeddedEngine, amount: Any) -> None:
    decision = call(engine, "weather/transfer", {"amount": amount})
    assert (decision.allow, decision.fault) == (False, False)
    assert "must be a number" in decision.reason


@pytest.mark.parametrize(
    "arguments", [[{"path": OK}], OK, None, [], 7, {}, {"Path": OK}, {"path ": OK}, {"paths": OK}], ids=str
)
def test_arguments_of_another_shape_are_refused(engine: EmbeddedEngine, arguments: Any) -> None:
    assert call(engine, "files/read_file", arguments).allow is False


@pytest.mark.parametrize(
    "roles", [[["files"]], [{"files": True}], [None], [], ["Files"], ["files "], ["*"], [""]], ids=str
)
def test_a_role_is_one_text_of_the_list(engine: EmbeddedEngine, roles: Any) -> None:
    assert call(engine, "files/read_file", {"path": OK}, roles).allow is False
