"""The filter that hides, behind the filters that judge."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.exchange import Call, Exchange, Handle
from gateway.core.obligations import mark
from gateway.core.reasons import Malformed, Reason, Withheld
from gateway.core.redaction import tree_of
from gateway.protocols.a2a import A2a
from gateway.protocols.llm import OPENAI, Llm
from gateway.protocols.mcp import Mcp
from gateway.protocols.redacted import Redacted, RedactedEvents, redacting
from tests.protocols.mcp_rig import META

SEND = {
    "jsonrpc": "2.0", "id": 1, "method": "SendMessage",
    "params": {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}},
}  # fmt: skip
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]


def sent(wire: Any, protocol: Any, target: str, body: Any, path: str = "/secret") -> Exchange:
    exchange: Exchange = wire.classified(protocol, "POST", target, json.dumps(body).encode())
    assert isinstance(exchange.asked, Call), exchange.asked
    exchange.hides = tree_of([path])
    return exchange


def shown(exchange: Exchange, wire: Any, headers: Any, *chunks: bytes, status: int = 200) -> bytes:
    """What the caller gets, as the wire does it."""

    async def run() -> bytes:
        answer: Any = wire.Answer(status, list(headers))
        inner = None
        if exchange.call.judged:
            inner = await exchange.protocol.filter(exchange, answer, wire.Policy(), wire.Bindings())
        found = redacting(exchange, answer, inner)
        if isinstance(found, Redacted):
            return await found.rewrite(b"".join(chunks))
        assert isinstance(found, RedactedEvents)
        parts = [await found.feed(chunk) for chunk in chunks]
        return b"".join([*parts, await found.finish()])

    return asyncio.run(run())


def test_a_task_is_bound_and_then_its_secret_hidden(wire: Any) -> None:
    exchange = sent(wire, A2a(), "/r", SEND, "/task/metadata/secret")
    task = {"id": "t-1", "contextId": "c", "status": {}, "metadata": {"secret": "s", "open": "o"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": task}}).encode()
    document = json.loads(shown(exchange, wire, JSON, body))
    assert document["result"]["task"]["metadata"] == {"secret": "[redacted]", "open": "o"}
    assert exchange.hidden == 1


def test_a_task_that_was_the_callers_already_is_marked_before_it_is_shown(wire: Any) -> None:
    exchange = sent(wire, A2a(), "/r", SEND, "/task/metadata/secret")
    bindings = wire.Bindings()
    bindings.owners[Handle("a2a-task", "t-1")] = bindings.subject
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t-1", "status": {}}}}).encode()

    async def run() -> None:
        inner = await exchange.protocol.filter(exchange, wire.Answer(200, list(JSON)), wire.Policy(), bindings)
        found = redacting(exchange, wire.Answer(200, list(JSON)), inner)
        assert isinstance(found, Redacted)
        await found.rewrite(body)

    asyncio.run(run())
    assert Handle("a2a-task", "t-1") in bindings.bound  # and binding it marks it (wire/answers.py)


def test_a_card_is_shown_whole_or_not_at_all(wire: Any) -> None:
    exchange: Exchange = wire.classified(A2a(), "GET", "/r/.well-known/agent-card.json")
    card: Any = {"name": "x", "metadata": {"secret": 1}}
    for path, is_shown in (("/nothing", True), ("/metadata/secret", False)):
        exchange.hides = tree_of([path])
        found = redacting(exchange, wire.Answer(200, list(JSON)), None)
        assert isinstance(found, Redacted)
        if is_shown:
            assert json.loads(asyncio.run(found.rewrite(json.dumps(card).encode()))) == card
        else:
            with pytest.raises(Withheld, match="signed"):
                asyncio.run(found.rewrite(json.dumps(card).encode()))


def test_a_list_of_tasks_leaves_out_what_would_be_seen_whole(wire: Any) -> None:
    tasks = [{"id": "t-1", "status": {}}, {"id": "t-2", "status": {}}]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tasks": tasks}}).encode()
    bindings = wire.Bindings()
    for task in ("t-1", "t-2"):
        bindings.owners[Handle("a2a-task", task)] = bindings.subject
    bindings.owners[mark(Handle("a2a-task", "t-1"))] = bindings.subject
    for hides, ids in ((None, ["t-2"]), (tree_of(["/tasks/*/artifacts"]), ["t-1", "t-2"])):
        asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}).encode()
        exchange: Exchange = wire.classified(A2a(), "POST", "/r", asked, [("a2a-version", "1.0")])
        exchange.hides = hides
        (found,) = wire.filtered(exchange, wire.Answer(200, list(JSON)), [body], bindings=bindings)
        assert [item["id"] for item in json.loads(found)["result"]["tasks"]] == ids


def test_a_task_that_was_redacted_is_not_told_of_by_a_stream_that_hides_nothing(wire: Any) -> None:
    listen = {
        "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
        "params": {"notifications": {"taskIds": ["t-1"]}, "_meta": META},
    }  # fmt: skip
    note = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": {"taskId": "t-1", "result": {"ssn": "1"}}}
    event = b"data: " + json.dumps(note).encode() + b"\n\n"
    headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")]
    bindings = wire.Bindings()
    bindings.owners[Handle("mcp-task", "t-1")] = bindings.subject
    for marked in (False, True):
        if marked:
            bindings.owners[mark(Handle("mcp-task", "t-1"))] = bindings.subject
        exchange: Exchange = wire.classified(Mcp(), "POST", "/r", json.dumps(listen).encode(), headers)
        assert isinstance(exchange.asked, Call), exchange.asked
        shown_events = b"".join(wire.filtered(exchange, wire.Answer(200, list(EVENTS)), [event], bindings=bindings))
        assert shown_events == (b"" if marked else event)


def test_an_answer_that_the_judge_takes_for_another_kind_is_not_shown(wire: Any) -> None:
    """The one would bind its task as a document, the other hide its secret in events."""
    exchange = sent(wire, A2a(), "/r", SEND)
    with pytest.raises(Withheld) as raised:
        shown(exchange, wire, [(b"content-type", b"Text/Event-Stream")], b"data: {}\n\n")
    assert raised.value.refusal.reason is Reason.DENIED


def test_a_stored_response_is_bound_and_hidden_in_its_stream(wire: Any) -> None:
    body = {"model": "m", "input": "x", "stream": True}
    exchange = sent(wire, Llm(OPENAI), "/r/responses", body, "/delta")
    created = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    deltas = b'data: {"type":"d","delta":"Snow"}\n\n' * 2
    text = shown(exchange, wire, EVENTS, created[:30], created[30:] + deltas[:5], deltas[5:])
    assert text == created + b'data: {"type":"d","delta":"[redacted]"}\n\n' * 2
    assert exchange.hidden == 2


@pytest.mark.parametrize("rest", [b'data: {"delta":"Snow"}', b'data: {"delta":"Snow"}\n', b'data: {"delta":"Sno'])
def test_a_half_event_at_the_end_shows_nothing(rest: bytes, wire: Any) -> None:
    exchange = sent(wire, Llm(OPENAI), "/r/chat/completions", {"model": "m", "messages": [], "stream": True}, "/delta")
    assert b"Sno" not in shown(exchange, wire, EVENTS, b"data: [DONE]\n\n", rest)


def test_an_event_that_cannot_be_read_ends_the_stream(wire: Any) -> None:
    exchange = sent(wire, Llm(OPENAI), "/r/chat/completions", {"model": "m", "messages": [], "stream": True}, "/delta")
    with pytest.raises(Malformed):
        shown(exchange, wire, EVENTS, b"data: {}\n\n", b"data: Snow\n\n")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_without_a_body_has_nothing_to_hide(status: int, wire: Any) -> None:
    exchange = sent(wire, Llm(OPENAI), "/r/chat/completions", {"model": "m", "messages": []})
    answer: Any = wire.Answer(status, [(b"content-length", b"12"), (b"etag", b'"x"')])
    assert redacting(exchange, answer, None) is None
    assert answer.headers == [(b"cache-control", b"private")]


def test_an_empty_body_needs_no_type(wire: Any) -> None:
    exchange = sent(wire, Llm(OPENAI), "/r/chat/completions", {"model": "m", "messages": []})
    assert shown(exchange, wire, [], b"") == b""
    with pytest.raises(Withheld):
        shown(exchange, wire, [], b"{}")


def test_without_anything_to_hide_nothing_stands_in_the_way(wire: Any) -> None:
    exchange = sent(wire, Llm(OPENAI), "/r/chat/completions", {"model": "m", "messages": []})
    exchange.hides = None
    answer: Any = wire.Answer(200, [(b"content-type", b"text/plain")])
    assert redacting(exchange, answer, None) is None
