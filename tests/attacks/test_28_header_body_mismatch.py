"""Headers that repeat the body for those who do not read it say the same as the body, or the request goes nowhere."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import META, call, dump

ROW = 28

BODY = dump(call("tools/call", {"name": "delete_all", "arguments": {"tenant": "b"}, "_meta": META}, "i"))
RIGHT = {
    "content-type": "application/json",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "delete_all",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mcp-method", "tools/list"),
        ("mcp-method", "Tools/Call"),
        ("mcp-method", None),
        ("mcp-name", "read_one"),
        ("mcp-name", "DELETE_ALL"),
        ("mcp-name", f"=?base64?{b64encode(b'read_one').decode()}?="),
        ("mcp-name", "=?base64?ZGVsZXRlX2FsbA?="),
        ("mcp-name", None),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", None),
        ("mcp-param-tenant", "a"),
        ("mcp-param-tenant", "=?base64?%%%?="),
    ],
)
def test_a_header_that_says_something_else_or_is_missing_is_refused(name: str, value: str | None) -> None:
    headers = {**RIGHT, name: value}
    gate = Gate()
    reply = gate.raw(BODY, [(key, said) for key, said in headers.items() if said is not None])
    assert (reply.status, reply.code, reply.json["id"]) == (400, -32020, "i")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


@pytest.mark.parametrize(
    "name", ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "mcp-param-tenant"]
)
def test_a_header_that_is_there_twice_is_refused(name: str) -> None:
    gate = Gate()
    reply = gate.raw(BODY, [*RIGHT.items(), (name, RIGHT.get(name, "b")), (name, RIGHT.get(name, "b"))])
    assert (reply.status, reply.code) == (400, -32020)
    assert gate.upstream.sent == []


def test_what_goes_upstream_is_written_by_the_gateway() -> None:
    gate = Gate()
    encoded = f"=?base64?{b64encode(b'delete_all').decode()}?="
    assert gate.raw(BODY, list({**RIGHT, "mcp-name": encoded}.items())).status == 200
    [(_, headers, body)] = gate.upstream.sent
    assert headers == [
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"delete_all"),
    ]
    assert body == BODY


def test_an_older_version_does_not_switch_the_comparison_off() -> None:
    gate = Gate()
    body = dump(call("tools/call", {"name": "delete_all"}))
    for version in ("2025-11-25", "2025-03-26", None):
        headers = [("content-type", "application/json"), ("mcp-name", "read_one")]
        headers += [("mcp-protocol-version", version)] if version else []
        assert gate.raw(body, headers).code == -32020
    assert gate.upstream.sent == []
