"""Fulfil: an obligation is carried out or it is a no."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.app import build_message_pipeline, build_pipeline
from gateway.core.canonical import digest
from gateway.core.exchange import Call, Decision, Exchange, Handle, Head, Obligation
from gateway.core.obligations import mark
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal, StoreFailed
from gateway.core.snapshot import Route
from gateway.protocols.a2a import A2a
from gateway.protocols.http import Http
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm
from gateway.protocols.mcp import Mcp
from gateway.stages.decide import Decide
from gateway.stages.fulfil import Fulfil
from gateway.stores.memory import MemoryHandles
from tests.protocols.mcp_rig import META
from tests.stages.exchanges import Clock, exchange

NOBODY: Any = None


def obliged(given: Exchange, *wanted: dict[str, Any], mode: str = "enforce") -> Exchange:
    items = tuple(Obligation(item["type"], {name: item[name] for name in item if name != "type"}) for item in wanted)
    given.decision = Decision(True, "", "all", "test", "r1", obligations=items, mode=mode)
    return given


def request(
    protocol: Any, body: Any, *headers: tuple[str, str], path: str = "/tools", method: str = "POST"
) -> Exchange:
    given = exchange(judged_body_bytes=4096)
    found = tuple((name.encode(), value.encode()) for name, value in (("content-type", "application/json"), *headers))
    given.head = Head(method, path, path, "", "gw.test", "http", found, "192.0.2.7")
    given.route = Route("tools", "/tools", "", "shop", "required", "json")
    given.protocol = protocol
    given.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    given.asked = protocol.classify(given)
    assert isinstance(given.asked, Call), given.asked
    return given


def verdict(given: Exchange, handles: Any = None) -> Any:
    async def tell() -> Any:
        found = Fulfil(handles or MemoryHandles(Clock()))(given)
        return await found if isinstance(found, Awaitable) else found

    return asyncio.run(tell())


def refused(given: Exchange, handles: Any = None) -> str:
    found = verdict(given, handles)
    assert isinstance(found, Refusal), found
    assert (found.reason, found.rule) == (Reason.DENIED, "obligation")
    assert given.call.body is None
    return found.text


def sets(**arguments: Any) -> dict[str, Any]:
    return {"type": "set_arguments", "arguments": arguments}


def call(name: str = "pay", modern: bool = False, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if modern:
        params["_meta"] = META
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


MODERN = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "pay"))


def test_fulfil_stands_right_behind_decide_wherever_somebody_decides() -> None:
    handles: Any = MemoryHandles(Clock())
    nothing: Any = SimpleNamespace(checks=(), connect=None, breakers=None, attempts=lambda handles: None)
    stage: Any = SimpleNamespace(name="capture")
    whole = build_pipeline(NOBODY, stage, NOBODY, nothing, nothing, handles, nothing, NOBODY, NOBODY, NOBODY)
    message = build_message_pipeline(NOBODY, stage, stage, Fulfil(handles), NOBODY, NOBODY, NOBODY)
    for pipeline in (whole, message):
        kinds = [type(stage) for stage in pipeline.admit_stages]
        assert kinds.count(Decide) == kinds.count(Fulfil) == 1
        assert kinds[kinds.index(Decide) + 1] is Fulfil


def test_without_obligations_nothing_is_touched() -> None:
    given = obliged(request(Http(), {"a": 1}))
    before = given.asked
    assert verdict(given) is CONTINUE
    assert (given.asked, given.rates, given.hides, given.forwarded_digest) == (before, (), None, "")


def test_nothing_decided_is_a_fault() -> None:
    with pytest.raises(RuntimeError):
        verdict(request(Http(), {"a": 1}))


def test_in_report_mode_nothing_is_carried_out() -> None:
    given = obliged(request(Http(), {"a": 1}), sets(a=2), {"type": "redact", "paths": ["/a"]}, mode="report")
    assert verdict(given) is CONTINUE
    assert (given.call.body, given.hides) == (None, None)


@pytest.mark.parametrize(
    "wanted", [{"type": "fly"}, {"type": "redact", "paths": ["a"]}, {"type": "charge"}, {"type": ""}]
)
def test_what_an_engine_let_through_and_nobody_fulfils_is_refused(wanted: dict[str, Any]) -> None:
    assert "cannot do" in refused(obliged(request(Http(), {"a": 1}), wanted))


def test_arguments_are_set_in_the_body_and_judged_as_any_other() -> None:
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"n":1.10,"to":"x"}}}'
    given = obliged(request(Mcp(), body), sets(to="y", memo=None))
    assert verdict(given) is CONTINUE
    assert given.call.body == body.replace(b'"x"', b'"y"')
    assert given.call.arguments == {"n": 1.1, "to": "y"}
    assert given.body == body
    assert given.forwarded_digest == digest(given.call.body)


def test_arguments_that_are_so_already_change_nothing() -> None:
    given = obliged(
        request(Mcp(), b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"n":1}}}'),
        sets(n=1),
    )
    assert verdict(given) is CONTINUE
    assert (given.call.body, given.forwarded_digest) == (None, "")


def test_digests_and_signatures_of_the_callers_bytes_do_not_go_on() -> None:
    given = obliged(request(Http(), {"a": 1}), sets(a=2))
    verdict(given)
    assert {b"content-digest", b"signature", b"signature-input", b"repr-digest"} <= given.call.drop_headers


def test_a_body_may_not_grow_beyond_what_is_judged() -> None:
    assert "larger" in refused(obliged(request(Http(), {"a": 1}), sets(a="x" * 5000)))


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (lambda: request(Llm(OPENAI), {"model": "m", "messages": []}, path="/tools/chat/completions"), {"model": "n"}),
        (lambda: request(Llm(OPENAI), {"model": "m", "messages": []}, path="/tools/chat/completions"), {"Model": "n"}),
        (
            lambda: request(Llm(OPENAI), {"model": "m", "input": "x"}, path="/tools/responses"),
            {"previous_response_id": "resp_of_another"},
        ),
        (
            lambda: request(A2a(), {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}),
            {"id": "another"},
        ),
        (
            lambda: request(Mcp(), {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "a://b"}}),
            {"uri": "a://c"},
        ),
        (
            lambda: request(Mcp(), {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "a://b"}}),
            {"_meta": {"progressToken": 1}},
        ),
        (
            lambda: request(Mcp(), {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "a://b"}}),
            {"URI": "a://b"},
        ),
        (
            lambda: request(Llm(ANTHROPIC), {"model": "m", "messages": []}, path="/tools/messages"),
            {"MODEL": "n", "max_tokens": 1},
        ),
        (lambda: request(Http(), [1, 2]), {"a": 1}),
    ],
)  # fmt: skip
def test_arguments_that_make_another_call_or_none_are_refused(given: Any, arguments: Any) -> None:
    refused(obliged(given(), sets(**arguments)))


def test_a_mirrored_header_that_would_say_something_else_than_the_body_is_refused() -> None:
    region = ("mcp-param-region", "us")
    changed = obliged(request(Mcp(), call(modern=True, region="us", n=1), *MODERN, region), sets(region="eu"))
    assert "mcp-param-region" in refused(changed)
    hidden = obliged(request(Mcp(), call(modern=True, region="us", also="us"), *MODERN, region), sets(region="eu"))
    assert "mcp-param-region" in refused(hidden), "another argument of that value is no excuse"
    number = obliged(request(Mcp(), call(modern=True, n=5), *MODERN, ("mcp-param-n", "5.0")), sets(n=6))
    assert "mcp-param-n" in refused(number)
    other = obliged(request(Mcp(), call(modern=True, region="us", n=1), *MODERN, region), sets(n=2))
    assert verdict(other) is CONTINUE
    assert json.loads(other.call.body or b"")["params"]["arguments"] == {"region": "us", "n": 2}
    assert (b"mcp-name", b"pay") in other.call.headers


@pytest.mark.parametrize(
    "body",
    [{"max_tokens": "9"}, {"max_tokens": 1e3}, {"max_tokens": True}, {"max_tokens": -1}, {"Max_Tokens": 9},
     {"MAX_COMPLETION_TOKENS": 9}, {"max_tokens": [9]}],
)  # fmt: skip
def test_a_bound_that_a_careless_reader_takes_otherwise_is_refused(body: dict[str, Any]) -> None:
    path = "/tools/chat/completions"
    given = request(Llm(OPENAI), {"model": "m", "messages": [], **body}, path=path)
    refused(obliged(given, {"type": "max_tokens", "n": 5}))


def test_every_bound_is_lowered_and_none_is_raised() -> None:
    body = {"model": "m", "messages": [], "max_tokens": 3, "max_completion_tokens": 50, "max_output_tokens": 70}
    given = obliged(request(Llm(OPENAI), body, path="/tools/chat/completions"), {"type": "max_tokens", "n": 5})
    assert verdict(given) is CONTINUE
    bounds = {"max_tokens": 3, "max_completion_tokens": 5, "max_output_tokens": 5}
    assert json.loads(given.call.body or b"") == body | bounds
    null = {"model": "m", "messages": [], "max_tokens": None}
    given = obliged(request(Llm(ANTHROPIC), null, path="/tools/messages"), {"type": "max_tokens", "n": 5})
    verdict(given)
    assert json.loads(given.call.body or b"")["max_tokens"] == 5


def test_a_bound_that_policy_sets_itself_is_bounded_as_well() -> None:
    path = "/tools/messages"
    given = request(Llm(ANTHROPIC), {"model": "m", "messages": [], "max_tokens": 1}, path=path)
    assert verdict(obliged(given, sets(max_tokens=900), {"type": "max_tokens", "n": 5})) is CONTINUE
    assert json.loads(given.call.body or b"")["max_tokens"] == 5


def test_what_a_model_is_told_keeps_its_bytes_beside_the_bound() -> None:
    body = b'{"model":"m","seed":123456789012345678901234567890,"messages":[{"content":"\\ud83d"}],"temperature":1.10}'
    given = obliged(request(Llm(OPENAI), body, path="/tools/chat/completions"), {"type": "max_tokens", "n": 5})
    assert verdict(given) is CONTINUE
    assert given.call.body == body[:-1] + b',"max_completion_tokens":5}'


def in_session() -> Exchange:
    given = request(Mcp(), call(), ("mcp-session-id", "s-1"))
    return obliged(given, {"type": "redact", "paths": ["/ssn"]})


def test_the_session_of_a_redacted_answer_is_marked_before_anything_is_forwarded() -> None:
    given, handles = in_session(), MemoryHandles(Clock())
    assert verdict(given, handles) is CONTINUE
    marked = mark(Handle("mcp-session", "s-1"))
    assert asyncio.run(handles.owner(marked, route="tools", upstream="shop")) == "user:idp/ann"
    assert given.hides == {"ssn": {}}
    assert {b"range", b"if-none-match"} <= given.call.drop_headers


def test_a_session_that_cannot_be_marked_is_not_called() -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StoreFailed("the disk is full")

    found = verdict(in_session(), SimpleNamespace(owner=broken, bind=broken))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.AUDIT_UNAVAILABLE


def test_what_a_redacted_call_named_is_named_by_redacted_calls_only() -> None:
    handles = MemoryHandles(Clock())
    task = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t-1"}}
    before = obliged(request(A2a(), task))
    assert verdict(before, handles) is CONTINUE
    assert verdict(obliged(request(A2a(), task), {"type": "redact", "paths": ["/ssn"]}), handles) is CONTINUE
    assert "redacted" in refused(obliged(request(A2a(), task)), handles)
    assert "redacted" in refused(obliged(request(A2a(), task), {"type": "limit", "rate": "1/day"}), handles)
    assert verdict(obliged(request(A2a(), task), {"type": "redact", "paths": ["/other"]}), handles) is CONTINUE
    other = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t-2"}}
    assert verdict(obliged(request(A2a(), other)), handles) is CONTINUE
    session = request(Mcp(), call(), ("mcp-session-id", "s-1"))
    verdict(in_session(), handles)
    assert verdict(obliged(session), handles) is CONTINUE, "a session goes on"


def test_what_cannot_be_looked_up_is_not_called() -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StoreFailed("the disk is full")

    task = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t-1"}}
    found = verdict(obliged(request(A2a(), task)), SimpleNamespace(owner=broken, bind=broken))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.AUDIT_UNAVAILABLE
