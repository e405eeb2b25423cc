"""A list where a rule expects one value is no way around it: policy sees the list, and the rule does not match."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import call

ROW = 30

POLICY = """package tollgate

import rego.v1

default decision := false

decision if {
	input.action.name == "mcp.tools/call"
	input.context.arguments.path == "/ok"
}
"""


@pytest.mark.parametrize(
    "path",
    [
        ["/ok", "/etc/passwd"],
        ["/ok"],
        {"0": "/ok"},
        {"/ok": "/etc/passwd"},
        "/ok,/etc/passwd",
        "/ok\x00/etc/passwd",
        "/ok\n/etc/passwd",
        [["/ok"]],
        None,
        True,
        0,
    ],
)
def test_only_the_value_that_the_rule_names_passes(path: Any) -> None:
    gate = Gate(POLICY)
    for send in (gate.legacy, gate.modern):
        reply = send(call("tools/call", {"name": "read", "arguments": {"path": path}}))
        assert (reply.status, reply.code, reply.reason) == (200, -31403, "denied")
    for params in ({"name": "read"}, {"name": "read", "arguments": {}}, {"name": "read", "path": "/ok"}):
        assert gate.legacy(call("tools/call", params)).code == -31403
    assert gate.upstream.sent == []
    assert gate.legacy(call("tools/call", {"name": "read", "arguments": {"path": "/ok"}})).reason == ""
    assert len(gate.upstream.sent) == 1
