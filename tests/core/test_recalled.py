"""What policy was asked, put together again from records: proposals, among them what was asked where nothing lacks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core import records
from gateway.core.access import access_request
from gateway.core.exchange import Call, Decision, Exchange, Head, Principal
from gateway.core.recalled import proposals
from gateway.core.snapshot import Route, Upstream
from tests.unlimited import unlimited

BEGAN = 1_700_000_000.9


def exchange(call: Call, principal: Principal, **members: Any) -> Exchange:
    head = Head("POST", "/tools", "/tools", "", "gw.test", "http", (), "192.0.2.7")
    route = Route("tools", "/tools", "", "shop", "required", "json")
    upstream = Upstream("shop", "mcp", "http", "127.0.0.1", 9, "127.0.0.1:9", "/base")
    protocol: Any = SimpleNamespace(name="mcp")
    snapshot: Any = SimpleNamespace(policy_headers=(), ledger=unlimited())
    found = Exchange("exchange-1", BEGAN, 5.0, head, snapshot, route, upstream, protocol, trace_id="0af7")
    found.asked, found.principal = call, principal
    found.decision = Decision(False, "no", "r", "embedded", "sha256:00")
    for name, value in members.items():
        setattr(found, name, value)
    return found


CALL = Call("mcp.tools/call", "tool", "shop/pay")
ANN = Principal("user:idp/ann", "user", "idp", "acme", ("reader",), "planner", ("user:idp/bob",))


@pytest.mark.parametrize(
    "asked",
    [
        exchange(CALL, ANN),
        exchange(CALL.but(arguments={}, has_arguments=True), ANN),
        exchange(CALL.but(context={"direction": "server"}), ANN),
        exchange(CALL, Principal("key:ci", "key", roles=("a", "b"))),
        exchange(CALL, Principal("anonymous", "anonymous")),
        exchange(CALL, ANN, item_digest="sha256:01", descriptor={"tool": {"digest": "sha256:01", "by": "admin"}}),
        exchange(Call("http.GET", "endpoint", "/elsewhere"), ANN),
    ],
    ids=["plain", "no arguments", "of the server", "key", "anonymous", "pinned", "a path"],
)
@pytest.mark.parametrize("sequenced", [True, False])
def test_what_lacks_nothing_is_among_them_to_the_last_member(asked: Exchange, sequenced: bool) -> None:
    kept = []
    asked.intent_seq, asked.intent = None, None  # each is asked twice
    if sequenced:
        kept.append(records.intent(asked, "id-1", BEGAN + 3))
        asked.intent_seq = 1
    kept.append(records.terminal(asked, "id-2", BEGAN + 4.5))
    assert isinstance(asked.asked, Call)
    wanted = dict(access_request(asked, asked.asked).document)
    assert wanted in list(proposals(kept, {"tools": "shop"}))
    assert len(list(proposals(kept, {"tools": "shop"}))) < 50


def test_what_was_captured_is_the_first_and_arguments_are_never_made_up() -> None:
    asked = exchange(CALL.but(arguments={"amount": 5}, has_arguments=True), ANN)
    kept = records.terminal(asked, "id-2", BEGAN + 1)
    for document in proposals([kept], {}):
        context = document["context"]
        assert isinstance(context, dict)
        assert context.get("arguments", {}) == {}
    captured = {"subject": {}, "context": {"arguments": {"amount": 5}}}
    kept["request"]["capture"] = {"level": "full", "input": captured}  # type: ignore[index, call-overload]
    assert next(proposals([kept], {})) == captured


def test_records_of_something_else_propose_nothing() -> None:
    for record in (
        {},
        {"kind": "refusal", "request": {"method": "GET"}},
        {"subject": "x", "resource": {}, "action": 1},
    ):
        assert list(proposals([record], {})) == []
