"""What a list hides cannot be reached by any other method, in either era: the same policy says the same no."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attacks.mcp_gate import Gate, Reply
from tests.protocols.mcp_rig import as_events, as_json, call, dump, result

ROW = 31

# `secret` is hidden; everything else is allowed, listing included.
POLICY = """package tollgate

import rego.v1

default decision := {"decision": false, "context": {"reason": "Not for you"}}

hidden := {"up/secret", "file:///secret", "file:///secret/{name}"}

is_hidden if input.resource.id in hidden

decision := {"decision": true} if not is_hidden
"""
COMPLETE = {"argument": {"name": "a", "value": ""}}

REACHING: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "secret", "arguments": {}}),
    ("tools/call", {"name": "secret"}),
    ("tools/call", {"name": "secret", "task": {"ttl": 1}}),
    ("prompts/get", {"name": "secret"}),
    ("prompts/get", {"name": "secret", "arguments": {"a": "b"}}),
    ("resources/read", {"uri": "file:///secret"}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "secret"}, **COMPLETE}),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": "file:///secret/{name}"}, **COMPLETE}),
]
LEGACY_ONLY: list[tuple[str, dict[str, Any]]] = [
    ("resources/subscribe", {"uri": "file:///secret"}),
    ("resources/unsubscribe", {"uri": "file:///secret"}),
]
LISTS = [
    ("tools/list", "tools", "name", "secret"),
    ("prompts/list", "prompts", "name", "secret"),
    ("resources/list", "resources", "uri", "file:///secret"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate", "file:///secret/{name}"),
]


def assert_denied(reply: Reply, gate: Gate) -> None:
    assert (reply.status, reply.code, reply.json["error"]["message"]) == (200, -31403, "Not for you")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


@pytest.mark.parametrize(("method", "params"), REACHING + LEGACY_ONLY)
def test_a_hidden_object_is_denied_to_every_legacy_method(method: str, params: dict[str, Any]) -> None:
    gate = Gate(POLICY)
    assert_denied(gate.legacy(call(method, params)), gate)
    escaped = dump(call(method, params)).replace(b"secret", b"s\\u0065cret")
    gate = Gate(POLICY)
    assert_denied(gate.legacy(escaped), gate)


@pytest.mark.parametrize(("method", "params"), REACHING)
def test_a_hidden_object_is_denied_to_every_modern_method(method: str, params: dict[str, Any]) -> None:
    gate = Gate(POLICY)
    assert_denied(gate.modern(call(method, params)), gate)


@pytest.mark.parametrize(("method", "member", "key", "name"), LISTS)
@pytest.mark.parametrize("how", [as_json, as_events])
def test_a_hidden_object_is_in_no_list(method: str, member: str, key: str, name: str, how: Any) -> None:
    for send in ("legacy", "modern"):
        gate = Gate(POLICY)
        gate.upstream.answer = how(result({member: [{key: "open"}, {key: name}]}))
        reply = getattr(gate, send)(call(method))
        assert b"secret" not in reply.body
        shown = json.loads(reply.body.partition(b"data: ")[2] or reply.body)
        assert shown["result"][member] == [{key: "open"}]
        assert gate.records.kept[-1]["filtered"] == {"shown": 1, "hidden": 1}


@pytest.mark.parametrize(("method", "member", "key", "name"), LISTS)
def test_a_hidden_object_is_not_in_what_a_stream_replays(method: str, member: str, key: str, name: str) -> None:
    gate = Gate(POLICY)
    gate.session("s1")
    gate.upstream.answer = as_events(result({member: [{key: name}]}))
    reply = gate.legacy(None, method="GET", session="s1")
    assert b"data: " in reply.body
    assert b"secret" not in reply.body


def test_a_hidden_resource_is_not_told_of_by_a_subscription() -> None:
    gate = Gate(POLICY)
    update = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "file:///secret"}}
    gate.upstream.answer = as_events(update)
    reply = gate.modern(call("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["file:///secret"]}}))
    assert (reply.reason, reply.body) == ("", b"")


@pytest.mark.parametrize("name", ["Secret", "SECRET", "secret ", " secret", "up/secret", "secr\u0435t", "secret\u200b"])
def test_another_spelling_is_another_object_and_goes_up_as_it_was_judged(name: str) -> None:
    gate = Gate(POLICY)
    assert gate.legacy(call("tools/call", {"name": name})).reason == ""
    assert [json.loads(sent[2])["params"]["name"] for sent in gate.upstream.sent] == [name]
