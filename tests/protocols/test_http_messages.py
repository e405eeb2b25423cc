"""WebSockets: the open is judged, JSON messages one by one, and a no is said inside the socket where it can be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call
from gateway.core.reasons import Reason, Refusal
from gateway.protocols.http import Http

HTTP = Http()


def message(wire: Any, data: str | bytes) -> Call | Refusal | None:
    return HTTP.classify_message(wire.exchange(HTTP, "GET", "/r/socket"), data)


def refused(wire: Any, data: str | bytes, reason: Reason = Reason.DENIED) -> str | None:
    exchange = wire.exchange(HTTP, "GET", "/r/socket")
    exchange.asked = HTTP.classify_message(exchange, data)
    no = exchange.asked if isinstance(exchange.asked, Refusal) else Refusal(reason, "not allowed", retry_after=2)
    return HTTP.refuse_message(exchange, no)


def test_the_open_is_judged_by_its_path_without_compression(wire: Any) -> None:
    headers = [("Sec-WebSocket-Protocol", "chat, graphql-ws")]
    found = wire.asked(HTTP, "GET", "/r/s%6fcket?x=1", None, headers, websocket=True, reads="opaque")
    assert isinstance(found, Call)
    assert (found.action, found.resource_type, found.resource_id) == ("ws.open", "endpoint", "/r/socket")
    assert found.context == {"websocket": {"protocols": ["chat", "graphql-ws"]}}
    assert found.stream
    assert b"sec-websocket-extensions" in found.drop_headers
    assert HTTP.classify_open(wire.exchange(HTTP, "GET", "/r/socket", None, headers, websocket=True)) == found


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_a_json_rpc_request_is_judged_with_its_whole_value(wire: Any, kind: str) -> None:
    value = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "delete"}}
    text = json.dumps(value)
    found = message(wire, text if kind == "text" else text.encode())
    assert isinstance(found, Call)
    assert (found.action, found.resource_id) == ("ws.message", "/r/socket")
    assert found.arguments == value
    assert found.message_id == 7
    assert found.reply
    assert found.context["message"] == {"type": kind, "bytes": len(text)}


def test_a_denied_request_is_answered_in_place(wire: Any) -> None:
    answer = refused(wire, '{"jsonrpc":"2.0","id":"a","method":"x"}')
    assert answer is not None
    found = json.loads(answer)
    assert found["id"] == "a"
    assert found["error"]["code"] == -31403
    assert found["error"]["data"]["reason"] == "denied"
    assert found["error"]["data"]["retry_after"] == 2


@pytest.mark.parametrize("data", ['{"jsonrpc":"2.0","method":"n"}', '{"jsonrpc":"2.0","id":1,"result":{}}'])
def test_a_denied_notification_or_response_is_answered_with_nothing_and_the_socket_stays(wire: Any, data: str) -> None:
    assert refused(wire, data) == ""


@pytest.mark.parametrize("data", ['{"op":"subscribe"}', "[1,2]"])
def test_other_json_is_judged_and_a_no_closes(wire: Any, data: str) -> None:
    found = message(wire, data)
    assert isinstance(found, Call)
    assert found.arguments == json.loads(data)
    assert refused(wire, data) is None


@pytest.mark.parametrize(
    "data", ["hello", "", "42", '"{}"', "null", b"\x00\x01\x02", "{not json", b"{\x80\x81 raw", "[INFO] up"]
)
def test_what_is_no_json_object_is_only_counted(wire: Any, data: str | bytes) -> None:
    assert message(wire, data) is None


BATCH = '[{"jsonrpc":"2.0","id":1,"method":"x"}]'


@pytest.mark.parametrize(
    "data",
    [
        BATCH,
        " \n" + BATCH,
        '{"jsonrpc":"2.0","id":1,"method":"x","Method":"y"}',
        '{"jsonrpc":"2.0","id":1.5,"method":"x"}',
        '{"jsonrpc":"1.0","id":1,"method":"x"}',
        '{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}',
        '{"jsonrpc":"2.0","id":1,"m\\u0065thod":"x","method":"y"}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}',
        "\ufeff" + '{"jsonrpc":"2.0","id":1,"method":"x"}',
        '{"jsonrpc":"2.0","id":1,"method":"x"}'.encode("utf-16"),
        '{"jsonrpc":"2.0","id":1,"method":"x"}'.encode("utf-32-le"),
        '{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
        '{"jsonrpc":"2.0","id":1,"method":"x\ud800"}',
        b'{"jsonrpc":"2.0","id":1,"method":"x\xff"}',
        "[" * 1500 + "]" * 1500,
        '{"a":' * 100 + "1" + "}" * 100,
    ],
)
def test_what_a_lenient_reader_would_take_for_a_call_is_refused_and_answered(wire: Any, data: str | bytes) -> None:
    found = message(wire, data)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.MALFORMED
    answer = refused(wire, data)
    assert answer is not None
    assert json.loads(answer)["error"]["code"] in (-32700, -32600)
    assert json.loads(answer)["id"] is None


def test_a_message_too_large_to_judge_is_refused_and_closes(wire: Any) -> None:
    found = message(wire, '{"a":"' + "x" * 5000 + '"}')
    assert isinstance(found, Refusal)
    assert found.reason is Reason.TOO_LARGE
    assert refused(wire, '{"a":"' + "x" * 5000 + '"}') is None
    assert message(wire, "x" * 5000) is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.DENIED, 1008),
        (Reason.UNAUTHENTICATED, 1008),
        (Reason.MALFORMED, 1008),
        (Reason.RATE_LIMITED, 1013),
        (Reason.AUDIT_UNAVAILABLE, 1013),
        (Reason.POLICY_UNAVAILABLE, 1013),
        (Reason.BREAKER_OPEN, 1013),
        (Reason.TOO_LARGE, 1009),
        (Reason.FAULT, 1011),
        (Reason.UPSTREAM_FAILED, 1011),
    ],
)
def test_the_close_code_tells_policy_from_later_and_broken(reason: Reason, code: int) -> None:
    assert HTTP.close_code(Refusal(reason, "no")) == code


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)))
def test_no_message_raises(wire: Any, data: str | bytes) -> None:
    assert isinstance(message(wire, data), Call | Refusal | None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_every_json_object_or_array_is_judged(wire: Any, value: object) -> None:
    found = message(wire, json.dumps(value))
    if isinstance(value, dict | list):
        assert isinstance(found, Call)
        assert found.arguments == value
    else:
        assert found is None
