"""How MCP callers are told no: message-level decisions are HTTP 200, the transport's are 4xx with a JSON-RPC body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.reasons import TABLE, Reason, Refusal
from gateway.protocols.mcp import Mcp
from tests.protocols.mcp_rig import ID, call, exchange, legacy, modern, stream

MESSAGE_LEVEL = {
    Reason.DENIED: -31403,
    Reason.RATE_LIMITED: -31429,
    Reason.POLICY_UNAVAILABLE: -31503,
    Reason.AUDIT_UNAVAILABLE: -31503,
    Reason.OVERLOADED: -31503,
    Reason.BREAKER_OPEN: -31503,
}
TOOL = call("tools/call", {"name": "add", "arguments": {}}, "m1")


def said(opened: Exchange, refusal: Refusal) -> tuple[int, dict[bytes, bytes], Any]:
    status, headers, body = opened.protocol.refuse(opened, refusal)
    return status, dict(headers), json.loads(body) if body else None


@pytest.mark.parametrize("era", [legacy, modern])
@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_status_its_code_and_a_body_that_names_the_message(era: Any, reason: Reason) -> None:
    status, headers, body = said(era(TOOL), Refusal(reason, "no", retry_after=3))
    assert status == (200 if reason in MESSAGE_LEVEL else TABLE[reason].rpc_status)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"retry-after"] == b"3"
    assert (body["jsonrpc"], body["id"]) == ("2.0", "m1")
    assert body["error"]["code"] == MESSAGE_LEVEL.get(reason, TABLE[reason].rpc_code)
    assert body["error"]["data"] == {"reason": str(reason), "exchange_id": ID, "retry_after": 3}


def test_no_code_is_from_a_reserved_band_but_those_that_the_specifications_define() -> None:
    for reason in Reason:
        code = TABLE[reason].rpc_code
        assert code in (-32600, -32603) or not -32768 <= code <= -32000, reason


@pytest.mark.parametrize("reason", list(MESSAGE_LEVEL))
def test_a_refused_notification_is_accepted_without_a_word(reason: Reason) -> None:
    opened = legacy({"jsonrpc": "2.0", "method": "notifications/initialized"})
    status, headers, body = said(opened, Refusal(reason, "no"))
    assert (status, body) == (202, None)
    assert b"content-type" not in headers


def test_a_notification_without_credential_is_not_accepted() -> None:
    opened = legacy({"jsonrpc": "2.0", "method": "notifications/initialized"})
    refusal = Refusal(Reason.UNAUTHENTICATED, "who?", headers=((b"www-authenticate", b"Bearer"),))
    status, headers, body = said(opened, refusal)
    assert (status, headers[b"www-authenticate"], body["id"]) == (401, b"Bearer", None)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_refused_stream_has_the_plain_status_and_a_body_all_the_same(method: str) -> None:
    status, _, body = said(stream(method=method), Refusal(Reason.DENIED, "no"))
    assert (status, body["id"], body["error"]["code"]) == (403, None, -31403)


def test_the_rule_is_never_told() -> None:
    _, _, body = said(legacy(TOOL), Refusal(Reason.DENIED, "Not yours", rule="secret_rule_name"))
    assert "secret_rule_name" not in json.dumps(body)
    assert body["error"]["message"] == "Not yours"


@pytest.mark.parametrize(
    ("era", "message", "status", "code", "text"),
    [
        (legacy, TOOL, 200, -32602, "Unknown tool: add"),
        (modern, TOOL, 200, -32602, "Unknown tool: add"),
        (legacy, call("prompts/get", {"name": "up/greet"}), 200, -32602, "Unknown prompt: up/greet"),
        (legacy, call("resources/read", {"uri": "file:///a"}), 200, -32002, "Resource not found"),
        (modern, call("resources/read", {"uri": "file:///a"}), 200, -32602, "Unknown resource: file:///a"),
        (legacy, call("logging/setLevel", {"level": "info"}), 200, -32601, "Method not found"),
        (modern, call("server/discover"), 404, -32601, "Method not found"),
    ],
)
def test_a_hidden_object_is_refused_as_one_that_is_not_there(
    era: Any, message: Any, status: int, code: int, text: str
) -> None:
    opened = era(message, deny_as="hidden")
    found, _, body = said(opened, Refusal(Reason.DENIED, "Only for admins"))
    assert (found, body["error"]) == (status, {"code": code, "message": text})
    assert said(opened, Refusal(Reason.RATE_LIMITED, "slow"))[2]["error"]["code"] == -31429


def test_a_tool_error_is_a_result_that_the_model_reads() -> None:
    refusal = Refusal(Reason.DENIED, "Only for admins")
    _, _, old = said(legacy(TOOL, deny_as="tool_error"), refusal)
    facts = {"tollgate/refusal": {"reason": "denied", "exchange_id": ID}}
    result = {"content": [{"type": "text", "text": "Only for admins"}], "isError": True, "_meta": facts}
    assert old == {"jsonrpc": "2.0", "id": "m1", "result": result}
    _, _, new = said(modern(TOOL, deny_as="tool_error"), refusal)
    assert new["result"] == {**result, "resultType": "complete"}
    _, _, prompt = said(legacy(call("prompts/get", {"name": "g"}), deny_as="tool_error"), refusal)
    assert prompt["error"]["code"] == -31403


def test_an_unknown_task_does_not_end_the_session_but_an_unknown_session_does() -> None:
    opened = legacy(call("tasks/get", {"taskId": "t"}, 4))
    status, _, body = said(opened, Refusal(Reason.SESSION_UNKNOWN, "not known", rule="mcp-task"))
    assert (status, body["id"], body["error"]["code"]) == (200, 4, -32602)
    status, _, body = said(opened, Refusal(Reason.SESSION_UNKNOWN, "not known", rule="mcp-session"))
    assert (status, body["error"]["code"]) == (404, -31404)
    status, _, _ = said(opened, Refusal(Reason.SESSION_FOREIGN, "not yours", rule="mcp-task"))
    assert status == 403


def test_a_request_that_was_never_read_is_answered_without_an_id() -> None:
    opened = exchange(Mcp(), None, [])
    status, _, body = said(opened, Refusal(Reason.ORIGIN_REFUSED, "no"))
    assert (status, body["id"]) == (403, None)
    opened = exchange(Mcp(), b'{"jsonrpc":"2.0","id":1', [])
    opened.asked = opened.protocol.classify(opened)
    assert isinstance(opened.asked, Refusal)
    status, _, body = said(opened, opened.asked)
    assert (status, body["id"], body["error"]["code"]) == (400, None, -32700)
