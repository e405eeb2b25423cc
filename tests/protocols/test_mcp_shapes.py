"""Three hundred malformed shapes of MCP messages, and any JSON at all: always a Call or a Refusal with a JSON-RPC body,
never an exception; and no answer of an upstream makes more than a Malformed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Call, Decision, Exchange
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.protocols.mcp import Mcp
from gateway.protocols.mcp_methods import LEGACY, MODERN, NOTIFICATIONS, REQUESTS, Object
from tests.protocols.mcp_rig import META, Policy, as_events, as_json, dump, exchange, legacy, modern, shown, stream
from tests.thorough import examples

GOOD: dict[Object, dict[str, Any]] = {
    Object.NONE: {},
    Object.TOOL: {"name": "add", "arguments": {"a": 1}},
    Object.PROMPT: {"name": "greet", "arguments": {"a": "b"}},
    Object.RESOURCE: {"uri": "file:///a"},
    Object.REFERENCE: {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "b"}},
    Object.TASK: {"taskId": "t"},
    Object.TOPICS: {"notifications": {"toolsListChanged": True}},
}
ODD_ENVELOPES: list[dict[str, Any]] = [
    {"jsonrpc": "1.0"}, {"jsonrpc": 2}, {"jsonrpc": None}, {"id": None}, {"id": 1.5}, {"id": True}, {"id": []},
    {"id": {"a": 1}}, {"params": None}, {"params": []}, {"params": "x"}, {"params": 7}, {"extra": 1}, {"ID": 2},
    {"Method": "tools/call"}, {"result": {}}, {"error": {"code": 1, "message": "x"}}, {"jsonrpc": "2.0 "},
]  # fmt: skip
ODD_OBJECTS: list[Any] = [None, "", 0, False, [], {}, ["x"], {"x": 1}]
OBJECT_MEMBERS = {
    Object.TOOL: ("name", "arguments"),
    Object.PROMPT: ("name", "arguments"),
    Object.RESOURCE: ("uri",),
    Object.REFERENCE: ("ref",),
    Object.TASK: ("taskId",),
    Object.TOPICS: ("notifications",),
}


def shapes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(era, what is wrong, message)."""
    for era, table in REQUESTS.items():
        for method in table.values():
            good = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": {**GOOD[method.object]}}
            for odd in ODD_ENVELOPES:
                if method.name in ("tools/call", "tools/list", "resources/read"):
                    yield era, f"{method.name} {odd}", {**good, **odd}
            for name in OBJECT_MEMBERS.get(method.object, ()):
                for value in ODD_OBJECTS:
                    if name == "arguments" and (value is None or isinstance(value, dict)):
                        continue
                    if name == "notifications" and isinstance(value, dict):
                        continue
                    yield era, f"{method.name} {name}={value!r}", {**good, "params": {**good["params"], name: value}}
                folded = {key: value for key, value in good["params"].items() if key != name}
                yield era, f"{method.name} {name.upper()}", {**good, "params": {**folded, name.upper(): "x"}}
                if name != "arguments":
                    yield era, f"{method.name} without {name}", {**good, "params": folded}


SHAPES = list(shapes())


def classified(era: str, message: Any, headers: list[tuple[str, str]] | None = None) -> Exchange:
    """The message as a client of its era would send it."""
    params = message.get("params") if isinstance(message, dict) else None
    found = [("content-type", "application/json"), ("mcp-session-id", "s")]
    if era == MODERN:
        if isinstance(params, dict):
            message = {**message, "params": {"_meta": META, **params}}
            name = params.get("name", params.get("uri", params.get("taskId")))
            if isinstance(name, str) and name.isascii() and name.isprintable():
                found.append(("mcp-name", name))
        method = message.get("method") if isinstance(message, dict) else None
        found += [("mcp-protocol-version", META["io.modelcontextprotocol/protocolVersion"])]
        if isinstance(method, str) and method.isascii() and method.isprintable():
            found.append(("mcp-method", method))
    opened = exchange(Mcp(), dump(message), found if headers is None else headers)
    opened.asked = opened.protocol.classify(opened)
    return opened


def test_there_are_three_hundred_of_them() -> None:
    assert len(SHAPES) >= 300


@pytest.mark.parametrize(("era", "message"), [pytest.param(era, m, id=f"{era} {w}") for era, w, m in SHAPES])
def test_a_malformed_shape_is_refused_with_a_json_rpc_body(era: str, message: dict[str, Any]) -> None:
    opened = classified(era, message)
    assert isinstance(opened.asked, Refusal)
    status, headers, body = opened.protocol.refuse(opened, opened.asked)
    assert status in (400, 404) or (status == 200 and opened.asked.code == -32601)
    assert dict(headers)[b"content-type"] == b"application/json"
    answered = json.loads(body)
    assert answered["jsonrpc"] == "2.0"
    assert answered["error"]["code"] in (-32600, -32602, -32601, -32020)


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_the_shapes_are_malformed_by_what_was_changed_and_nothing_else(era: str) -> None:
    for method in REQUESTS[era].values():
        message = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": GOOD[method.object]}
        assert isinstance(classified(era, message).asked, Call), method.name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
METHODS = st.sampled_from([*REQUESTS[LEGACY], *REQUESTS[MODERN], *NOTIFICATIONS[LEGACY], "x"])
MEMBERS = st.sampled_from(
    ["name", "uri", "ref", "taskId", "arguments", "notifications", "_meta", "task", "Name", "inputResponses"]
)
PARAMS = st.dictionaries(MEMBERS, JSON | st.just(META) | st.just("add"), max_size=5)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": METHODS},
    optional={"id": st.integers(0, 9) | st.text(max_size=3) | JSON, "params": PARAMS | JSON},
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "mcp-param-x", "accept"]),
        st.sampled_from(["2026-07-28", "2025-11-25", "tools/call", "add", "", "=?base64?YWRk?=", "=?base64??="])
        | st.text(st.characters(max_codepoint=255), max_size=8),
    ),
    max_size=5,
)


@given(st.sampled_from([LEGACY, MODERN]), MESSAGES | JSON, st.none() | HEADERS)
@settings(max_examples=examples(600), deadline=None)
def test_any_json_in_any_envelope_is_a_call_or_a_refusal_that_can_be_said(
    era: str, message: Any, headers: list[tuple[str, str]] | None
) -> None:
    for deny_as in ("error", "hidden", "tool_error"):
        opened = classified(era, message, headers)
        assert isinstance(opened.asked, Call | Refusal)
        status, _, body = opened.protocol.refuse(
            opened, opened.asked if isinstance(opened.asked, Refusal) else _denied(opened, deny_as)
        )
        assert (status == 202) == (body == b"")
        if body:
            assert json.loads(body)["jsonrpc"] == "2.0"


def _denied(opened: Exchange, deny_as: str) -> Refusal:
    opened.route = replace(opened.route, deny_as=deny_as)
    return Refusal(Reason.DENIED, "no")


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_refused_or_understood(body: bytes) -> None:
    opened = exchange(Mcp(), body)
    assert isinstance(opened.protocol.classify(opened), Call | Refusal)


ITEM = st.dictionaries(st.sampled_from(["name", "uri", "uriTemplate", "taskId", "Name", "x"]), JSON, max_size=3)
REQUEST = st.fixed_dictionaries({"method": METHODS | st.just("elicitation/create")}, optional={"params": JSON})
RESULTS = st.dictionaries(
    st.sampled_from(
        [
            "tools",
            "prompts",
            "resources",
            "tasks",
            "Tools",
            "inputRequests",
            "resultType",
            "taskId",
            "task",
            "cacheScope",
        ]
    ),
    st.lists(ITEM, max_size=3) | st.dictionaries(st.text(max_size=3), REQUEST, max_size=2) | st.just("task") | JSON,
    max_size=4,
)
ANSWERS = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "result", "error", "method", "params", "Method"]),
    RESULTS | JSON | METHODS,
    max_size=5,
)
OPENED = st.sampled_from(
    [
        lambda: legacy({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        lambda: legacy({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"}),
        lambda: legacy({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}),
        lambda: modern({"jsonrpc": "2.0", "id": 1, "method": "resources/list"}),
        lambda: modern({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}),
        lambda: modern({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications": {}}}),
        stream,
    ]
)


@given(OPENED, st.lists(ANSWERS | JSON, max_size=3), st.booleans(), st.lists(st.integers(0, 60), max_size=3))
@settings(max_examples=examples(600), deadline=None)
def test_any_answer_is_shown_judged_or_malformed(make: Any, answers: list[Any], allow: bool, cut: list[int]) -> None:
    events, policy = as_events(*answers), Policy(lambda asked: allow)
    for answer in (events, *(as_json(value) for value in answers)):
        try:
            seen = shown(make(), answer, policy=policy, cuts=sorted(at for at in cut if at < len(answer.body)))
        except Malformed:
            continue
        assert isinstance(seen.body, bytes)


@given(st.binary(max_size=80), st.booleans())
@settings(deadline=None)
def test_any_bytes_of_an_upstream_are_shown_or_malformed(body: bytes, events: bool) -> None:
    for opened in (legacy({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}), stream()):
        answer = as_events(body) if events else as_json(body)
        try:
            assert isinstance(shown(opened, answer).body, bytes)
        except Malformed:
            continue


def test_a_decision_without_a_clear_yes_shows_nothing() -> None:
    class Truthy:
        allow = "true"
        fault = False
        obligations = ()
        reason = rule = ""

    async def ask(calls: Any) -> list[Decision]:
        return [Truthy() for _ in calls]  # type: ignore[misc]

    opened = legacy({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    answer = as_json({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "a"}]}})
    assert shown(opened, answer, policy=ask).json["result"]["tools"] == []  # type: ignore[arg-type]
