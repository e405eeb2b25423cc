"""Responses and conversations that are kept for later calls: bound to their caller, bytes untouched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.exchange import Call, Handle
from gateway.core.reasons import Reason, Refusal
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm

OPEN = Llm(OPENAI)
JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
ANSWER = b'{"id": "resp_1", "object": "response", "previous_response_id": null, "output": []}'
KEPT = Handle("llm-response", "resp_1")


def handles(found: Call | Refusal) -> list[tuple[str, str]]:
    assert isinstance(found, Call), found
    return [(handle.kind, handle.id) for handle in found.handles]


def asked(wire: Any, **members: Any) -> Any:
    return wire.asked(OPEN, "POST", "/r/v1/responses", json.dumps({"model": "m", "input": "hi"} | members).encode())


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({}, []),
        ({"previous_response_id": None, "conversation": None}, []),
        ({"previous_response_id": "resp_0"}, [("llm-response", "resp_0")]),
        ({"conversation": "conv_0"}, [("llm-conversation", "conv_0")]),
        ({"conversation": {"id": "conv_0"}}, [("llm-conversation", "conv_0")]),
        (
            {"previous_response_id": "resp_0", "conversation": "conv_0"},
            [("llm-response", "resp_0"), ("llm-conversation", "conv_0")],
        ),
    ],
)
def test_what_a_call_goes_on_from_is_a_handle(wire: Any, members: dict[str, Any], named: list[Any]) -> None:
    assert handles(asked(wire, **members)) == named
    body = json.dumps({"model": "m", "input": "hi"} | members).encode()
    assert handles(wire.asked(OPEN, "POST", "/r/v1/responses/input_tokens", body)) == named
    assert handles(wire.asked(OPEN, "POST", "/r/v1/chat/completions", body)) == []
    assert handles(wire.asked(Llm(ANTHROPIC), "POST", "/r/v1/messages", body)) == []


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": 5},
        {"previous_response_id": ["resp_0"]},
        {"previous_response_id": ""},
        {"Previous_Response_Id": "resp_0", "previous_response_id": "mine"},
        {"conversation": 5},
        {"conversation": {"id": 5}},
        {"conversation": {"id": "mine", "ID": "theirs"}},
    ],
)
def test_a_handle_with_two_readings_is_refused(wire: Any, members: dict[str, Any]) -> None:
    found = asked(wire, **members)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("method", "path", "named", "ends"),
    [
        ("GET", "/responses/resp_1", ("llm-response", "resp_1"), False),
        ("GET", "/v1/responses/resp%5F1/input_items", ("llm-response", "resp_1"), False),
        ("POST", "/responses/resp_1/cancel", ("llm-response", "resp_1"), False),
        ("DELETE", "/responses/resp_1", ("llm-response", "resp_1"), True),
        ("POST", "/conversations/conv_1", ("llm-conversation", "conv_1"), False),
        ("POST", "/conversations/conv_1/items", ("llm-conversation", "conv_1"), False),
        ("DELETE", "/conversations/conv_1/items/i", ("llm-conversation", "conv_1"), False),
        ("DELETE", "/conversations/conv_1", ("llm-conversation", "conv_1"), True),
        ("POST", "/responses/compact", None, False),
        ("POST", "/conversations", None, False),
        ("GET", "/files/file_1", None, False),
        ("GET", "", None, False),
    ],
)
def test_what_is_kept_is_asked_for_by_its_owner_only(
    wire: Any, method: str, path: str, named: tuple[str, str] | None, ends: bool
) -> None:
    found = wire.asked(OPEN, method, f"/r{path}", b"{}" if method == "POST" else None)
    assert handles(found) == ([named] if named else [])
    assert (found.action, found.ends) == (f"http.{method}", ends)
    assert found.judged is (path == "/conversations")


def test_an_answer_is_read_where_something_is_kept_of_it(wire: Any) -> None:
    assert asked(wire).judged
    assert asked(wire, store=True).judged
    assert not asked(wire, store=False).judged
    assert asked(wire, store="false").judged


def test_the_response_of_an_answer_is_bound_and_its_bytes_stay(wire: Any) -> None:
    exchange = wire.classified(OPEN, "POST", "/r/responses", b'{"model": "m"}')
    for body, bound in (
        (ANSWER, [KEPT]),
        (ANSWER[:-1] + b', "conversation": {"id": "conv_1"}}', [KEPT, Handle("llm-conversation", "conv_1")]),
        (b'{"id": "resp_1", "n": 123456789012345678901234567890, "s": "\\ud800", "s": NaN}', [KEPT]),
        (b'{"id": 5}', []),
        (b'["resp_1"]', []),
        (b"not json", []),
        (b"[" * 100_000, []),
        (b"", []),
    ):
        bindings = wire.Bindings()
        assert wire.filtered(exchange, wire.Answer(200, list(JSON)), [body], bindings=bindings) == [body]
        assert bindings.bound == bound
    bindings = wire.Bindings()
    assert wire.filtered(exchange, wire.Answer(429, list(JSON)), [ANSWER], bindings=bindings) == [ANSWER]
    assert bindings.bound == []


def test_what_another_caller_has_stays_theirs(wire: Any) -> None:
    exchange = wire.classified(OPEN, "POST", "/r/responses", b'{"model": "m"}')
    bindings = wire.Bindings(owners={KEPT: "user:idp/bob"})
    assert wire.filtered(exchange, wire.Answer(200, list(JSON)), [ANSWER], bindings=bindings) == [ANSWER]
    assert bindings.owners == {KEPT: "user:idp/bob"}


def test_a_new_conversation_is_bound(wire: Any) -> None:
    exchange = wire.classified(OPEN, "POST", "/r/v1/conversations", b"{}")
    bindings = wire.Bindings()
    body = b'{"id": "conv_1", "object": "conversation"}'
    assert wire.filtered(exchange, wire.Answer(200, list(JSON)), [body], bindings=bindings) == [body]
    assert bindings.bound == [Handle("llm-conversation", "conv_1")]


def test_the_response_of_a_stream_is_bound_with_its_first_event_and_the_rest_is_not_read(wire: Any) -> None:
    exchange = wire.classified(OPEN, "POST", "/r/responses", b'{"model": "m", "stream": true}')
    created = b'event: response.created\ndata: {"type": "response.created", "response": {"id": "resp_1"}}\n\n'
    stream = b": hi\n\n" + created + b'data: {"type": "response.output_text.delta"}\n\n' + b"data: " + b"x" * 50

    async def story(place: int) -> None:
        bindings = wire.Bindings()
        found: Any = await OPEN.filter(exchange, wire.Answer(200, list(SSE)), wire.Policy(), bindings)
        shown = b""
        for chunk in (stream[:place], stream[place:]):
            shown += await found.feed(chunk)
            assert bindings.bound == ([KEPT] if created in shown else [])
        assert shown + await found.finish() == stream
        assert bindings.bound == [KEPT]
        assert await found.feed(b"\xff" * 10) == b"\xff" * 10

    for place in range(len(stream) + 1):
        asyncio.run(story(place))


def test_a_stream_that_names_no_response_keeps_its_bytes(wire: Any) -> None:
    exchange = wire.classified(OPEN, "POST", "/r/responses", b'{"model": "m", "stream": true}')
    for stream in (b"data: [DONE]\n\n", b'data: {"response": 5}\n\ndata: {"resp', b"data: {\n\n\n", b""):
        bindings = wire.Bindings()
        assert b"".join(wire.filtered(exchange, wire.Answer(200, list(SSE)), [stream], bindings=bindings)) == stream
        assert bindings.bound == []
