"""The names of actions in the configuration are those that the protocols give: neither has one that the other lacks."""

from __future__ import annotations

import pytest

from gateway.config_actions import ACTIONS, meant
from gateway.protocols import a2a_operations, mcp_methods
from gateway.protocols.llm import ANTHROPIC, OPENAI, Vendor


def of(protocol: str, family: str) -> set[str]:
    return {name.partition(".")[2] for name in ACTIONS[protocol] if name.startswith(f"{family}.")}


def test_those_of_mcp_are_its_methods_what_servers_ask_and_its_streams() -> None:
    tables = (*mcp_methods.REQUESTS.values(), *mcp_methods.NOTIFICATIONS.values())
    asked = set().union(*mcp_methods.SERVER_REQUESTS.values())
    assert of("mcp", "mcp") == {name for table in tables for name in table} | asked | {"stream.open", "session.end"}
    assert len(ACTIONS["mcp"]) == len(of("mcp", "mcp"))


def test_those_of_a2a_are_its_operations() -> None:
    named = {item.name for item in a2a_operations.METHODS.values()} | {a2a_operations.CARD.name}
    assert of("a2a", "a2a") == named


@pytest.mark.parametrize("vendor", [OPENAI, ANTHROPIC])
def test_those_of_models_are_their_vendors(vendor: Vendor) -> None:
    named = {operation.action for operation in vendor.operations.values()} | {"llm.models"}
    assert {f"llm.{name}" for name in of(vendor.name, "llm")} == named


def test_sockets_are_opened_and_talked_on_where_they_are_served() -> None:
    for protocol in ACTIONS:
        served = protocol in ("http", "openai", "anthropic")
        assert of(protocol, "ws") == ({"open", "message"} if served else set())
        assert ("http.GET" in ACTIONS[protocol]) == (protocol != "mcp")
        assert "http.get" not in ACTIONS[protocol]


def test_a_slip_of_the_pen_is_told_what_was_meant() -> None:
    assert meant("http.get", "http") == "did you mean http.GET?"
    assert meant("a2a.SendMesage", "a2a") == "did you mean a2a.SendMessage?"
    assert meant("xyzzy", "openai") == "write http... or llm... or ws..."
