"""A session or task belongs to the caller for whom it was minted; in anyone else's hands it is refused and recorded."""

from __future__ import annotations

import pytest

from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import as_events, as_json, call, result

ROW = 35


def test_a_session_in_another_callers_hands_is_refused_on_every_way_in() -> None:
    gate = Gate()
    gate.session("s1", by="ann")
    for message, method in (
        (call("tools/call", {"name": "a"}), "POST"),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}, "POST"),
        (None, "GET"),
        (None, "DELETE"),
    ):
        gate.records.kept.clear()
        reply = gate.legacy(message, session="s1", by="bob", method=method)
        assert (reply.status, reply.reason, reply.code) == (403, "session_foreign", -31403)
        assert gate.kinds == ["refusal"]
    assert gate.upstream.sent == []
    assert gate.legacy(call("tools/call", {"name": "a"}), session="s1", by="ann").reason == ""


def test_a_session_that_was_never_minted_is_unknown() -> None:
    gate = Gate()
    reply = gate.legacy(call("ping"), session="guessed")
    assert (reply.status, reply.reason, reply.code) == (404, "session_unknown", -31404)
    assert gate.upstream.sent == []


def test_an_upstream_cannot_hand_one_callers_session_to_another() -> None:
    gate = Gate()
    gate.session("s1", by="ann")
    gate.upstream.answer = as_json(result({}))
    gate.upstream.answer.headers.append((b"mcp-session-id", b"s1"))
    reply = gate.legacy(call("initialize", {}), by="bob")
    assert (reply.status, reply.reason) == (502, "upstream_failed")
    assert gate.legacy(call("ping"), session="s1", by="bob").reason == "session_foreign"


@pytest.mark.parametrize("how", [as_json, as_events])
def test_a_task_in_another_callers_hands_is_refused(how: object) -> None:
    gate = Gate()
    gate.upstream.answer = how(result({"resultType": "task", "taskId": "t1", "status": "working"}))  # type: ignore[operator]
    assert gate.modern(call("tools/call", {"name": "slow"}), by="ann").reason == ""
    gate.upstream.sent.clear()
    for message in (
        call("tasks/get", {"taskId": "t1"}),
        call("tasks/cancel", {"taskId": "t1"}),
        call("tasks/update", {"taskId": "t1", "inputResponses": {}}),
        call("subscriptions/listen", {"notifications": {"taskIds": ["t1"]}}),
    ):
        assert gate.modern(message, by="bob").reason == "session_foreign"
    assert gate.modern(call("tasks/get", {"taskId": "t2"}), by="bob").code == -32602
    assert gate.upstream.sent == []
    assert gate.modern(call("tasks/get", {"taskId": "t1"}), by="ann").reason == ""


def test_a_callers_answer_reaches_only_the_session_that_was_asked() -> None:
    gate = Gate()
    gate.session("s1", by="ann")
    gate.session("s2", by="bob")
    gate.upstream.answer = as_events(call("elicitation/create", {"message": "Password?"}, 7))
    assert b"Password" in gate.legacy(None, method="GET", session="s1", by="ann").body
    gate.upstream.sent.clear()
    gate.records.kept.clear()
    answer = {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}}
    for session, by in (("s2", "bob"), ("", "bob"), ("s1", "bob")):
        gate.legacy(answer, session=session, by=by)
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"] * 3
    assert gate.legacy(answer, session="s1", by="ann").reason == ""
    assert len(gate.upstream.sent) == 1
