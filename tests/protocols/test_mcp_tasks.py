"""Tasks that nobody was given: what the caller is told depends on whether the upstream has tasks at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.reasons import Reason, Refusal
from gateway.protocols.mcp import Mcp
from tests.protocols.mcp_rig import as_events, as_json, asked, call, modern, result, shown

UNKNOWN = Refusal(Reason.SESSION_UNKNOWN, "This session or task is not known here", rule="mcp-task")
WITH = {"capabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}, "resultType": "complete"}
WITHOUT = {"capabilities": {"tools": {}}, "resultType": "complete"}


def discovered(mcp: Mcp, value: object, how: Any = as_json, cuts: tuple[int, ...] = ()) -> bytes:
    return shown(modern(call("server/discover"), mcp), how(value), cuts=cuts).body


def told(opened: Exchange) -> tuple[int, int]:
    asked(opened)
    status, _, body = opened.protocol.refuse(opened, UNKNOWN)
    return status, json.loads(body)["error"]["code"]


def task(mcp: Mcp, method: str = "tasks/get") -> Exchange:
    return modern(call(method, {"taskId": "t1"}), mcp)


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
@pytest.mark.parametrize(("how", "cuts"), [(as_json, ()), (as_json, (20,)), (as_events, ())])
def test_an_upstream_that_says_it_has_no_tasks_has_no_methods_for_them(method: str, how: Any, cuts: Any) -> None:
    mcp = Mcp()
    discovered(mcp, result(WITHOUT), how, cuts)
    assert told(task(mcp, method)) == (404, -32601)


def test_an_upstream_that_has_tasks_or_never_said_does_not_have_this_one() -> None:
    mcp = Mcp()
    assert told(task(mcp)) == (200, -32602)
    discovered(mcp, result(WITHOUT))
    discovered(mcp, result(WITH))
    assert told(task(mcp)) == (200, -32602)


@pytest.mark.parametrize(
    "value",
    [
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "not now"}},
        result({"resultType": "complete"}),
        result({"capabilities": []}),
    ],
)
def test_an_answer_that_does_not_say_what_the_upstream_can_do_says_nothing_of_tasks(value: object) -> None:
    mcp = Mcp()
    discovered(mcp, value)
    assert told(task(mcp)) == (200, -32602)


def test_what_an_upstream_says_of_itself_keeps_its_bytes() -> None:
    body = b'{"jsonrpc":"2.0", "id":1, "result":{"capabilities":{"tools":{}},"resultType":"complete","n":1.50}}'
    assert discovered(Mcp(), body) == body


def test_a_subscription_to_a_task_nobody_was_given_is_no_unknown_method() -> None:
    mcp = Mcp()
    discovered(mcp, result(WITHOUT))
    opened = modern(call("subscriptions/listen", {"notifications": {"taskIds": ["t1"]}}), mcp)
    assert told(opened) == (200, -32602)
