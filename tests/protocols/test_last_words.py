"""The last words of a stream that may not go on: what each protocol's client takes for an error with our reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.exchange import Call, Exchange
from gateway.core.ports import Protocol
from gateway.core.reasons import Reason, Refusal
from gateway.core.sse import Event, Scanner
from gateway.protocols.a2a import A2a
from gateway.protocols.http import Http
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm
from gateway.protocols.mcp import Mcp

REFUSAL = Refusal(Reason.BUDGET_EXHAUSTED, "The budget team-day is used up", rule="team-day")
ASKED = b'{"model":"m","messages":[],"stream":true}'
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow","arguments":{}}}'
STREAM = b'{"jsonrpc":"2.0","id":"x","method":"SendStreamingMessage","params":{"message":{}}}'
MESSAGE = b'{"message":{}}'


def asked(
    wire: Any, protocol: Protocol, target: str, body: bytes | None, method: str = "POST", **more: Any
) -> Exchange:
    exchange: Exchange = wire.classified(protocol, method, target, body, **more)
    assert isinstance(exchange.asked, Call), exchange.asked
    return exchange


def events(said: bytes) -> list[Event]:
    scanner = Scanner()
    found = scanner.feed(said)
    assert not scanner.rest
    return found


def test_openai_chat_says_an_error_and_done(wire: Any) -> None:
    protocol = Llm(OPENAI)
    said, done = events(protocol.last_words(asked(wire, protocol, "/r/v1/chat/completions", ASKED), REFUSAL))
    error = json.loads(said.data or b"")["error"]
    assert (error["code"], error["reason"], error["message"]) == ("budget_exhausted", "budget_exhausted", REFUSAL.text)
    assert error["exchange_id"] == wire.exchange_id
    assert (said.name, done.data) == ("", b"[DONE]")


def test_responses_say_an_error_event_that_libraries_raise(wire: Any) -> None:
    protocol = Llm(OPENAI)
    [event] = events(protocol.last_words(asked(wire, protocol, "/r/responses", ASKED), REFUSAL))
    said = json.loads(event.data or b"")
    assert (event.name, said["type"], said["code"], said["message"], said["param"], said["sequence_number"]) == (
        "error", "error", "budget_exhausted", REFUSAL.text, None, 0,
    )  # fmt: skip
    assert said["error"]["reason"] == "budget_exhausted"


def test_anthropic_says_its_error_event(wire: Any) -> None:
    protocol = Llm(ANTHROPIC)
    [event] = events(protocol.last_words(asked(wire, protocol, "/r/v1/messages", ASKED), REFUSAL))
    said = json.loads(event.data or b"")
    assert (event.name, said["type"], said["error"]["message"]) == ("error", "error", REFUSAL.text)
    assert said["error"]["details"]["reason"] == "budget_exhausted"


def test_mcp_answers_the_open_request(wire: Any) -> None:
    protocol = Mcp()
    [event] = events(protocol.last_words(asked(wire, protocol, "/r", CALL), REFUSAL))
    said = json.loads(event.data or b"")
    assert (said["id"], said["error"]["code"], said["error"]["data"]["reason"]) == (7, -31402, "budget_exhausted")


@pytest.mark.parametrize(
    ("target", "body", "name"), [("/r", STREAM, ""), ("/r/v1/message:stream", MESSAGE, "error")]
)  # fmt: skip
def test_a2a_says_it_in_the_callers_binding(wire: Any, target: str, body: bytes, name: str) -> None:
    protocol = A2a()
    [event] = events(protocol.last_words(asked(wire, protocol, target, body), REFUSAL))
    said = json.loads(event.data or b"")
    assert event.name == name
    if name:
        assert (said["error"]["code"], said["error"]["message"]) == (402, REFUSAL.text)
        assert said["error"]["details"][0]["reason"] == "BUDGET_EXHAUSTED"
    else:
        assert (said["id"], said["error"]["code"]) == ("x", -31402)


def test_what_has_no_words_has_none_and_is_cut(wire: Any) -> None:
    opened = {"headers": [("accept", "text/event-stream"), ("mcp-session-id", "s")]}
    assert Mcp().last_words(asked(wire, Mcp(), "/r", None, "GET", **opened), REFUSAL) == b""
    assert Http().last_words(asked(wire, Http(), "/r", None, "GET"), REFUSAL) == b""
    beside = asked(wire, Llm(OPENAI), "/r/files/1", None, "GET")
    assert Llm(OPENAI).last_words(beside, REFUSAL) == b""
