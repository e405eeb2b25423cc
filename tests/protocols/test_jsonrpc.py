"""JSON-RPC envelopes: one strict reading, one way to write an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.protocols import jsonrpc
from gateway.protocols.jsonrpc import Kind, Message, message, read
from gateway.protocols.mcp import Mcp
from tests.protocols.mcp_rig import ID, call, exchange, legacy

REQUEST: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"a": 1}}
ERROR = {"code": -1, "message": "no"}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (REQUEST, Kind.REQUEST),
        ({"jsonrpc": "2.0", "id": "x", "method": "m"}, Kind.REQUEST),
        ({"jsonrpc": "2.0", "id": "", "method": "m"}, Kind.REQUEST),
        ({"jsonrpc": "2.0", "id": 0, "method": "m"}, Kind.REQUEST),
        ({"jsonrpc": "2.0", "id": -(2**53) + 1, "method": "m"}, Kind.REQUEST),
        ({"jsonrpc": "2.0", "method": "m"}, Kind.NOTIFICATION),
        ({"jsonrpc": "2.0", "method": "m", "params": {}}, Kind.NOTIFICATION),
        ({"jsonrpc": "2.0", "id": 1, "result": None}, Kind.RESPONSE),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, Kind.RESPONSE),
        ({"jsonrpc": "2.0", "id": 1, "error": ERROR}, Kind.RESPONSE),
        ({"jsonrpc": "2.0", "id": None, "error": ERROR}, Kind.RESPONSE),
        ({"jsonrpc": "2.0", "error": ERROR}, Kind.RESPONSE),
    ],
)
def test_a_message_is_what_it_is(value: dict[str, Any], kind: Kind) -> None:
    found = message(value)
    assert found.kind is kind
    assert found.id == value.get("id")
    assert found.method == value.get("method", "")
    assert found.params == value.get("params", {})
    assert found.answer == value.get("result", value.get("error"))
    assert found.failed == ("error" in value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "x",
        [],
        [REQUEST],
        [[REQUEST]],
        {},
        {**REQUEST, "jsonrpc": "1.0"},
        {**REQUEST, "jsonrpc": 2.0},
        {name: REQUEST[name] for name in ("id", "method")},
        {**REQUEST, "id": None},
        {**REQUEST, "id": True},
        {**REQUEST, "id": 1.0},
        {**REQUEST, "id": 1.5},
        {**REQUEST, "id": []},
        {**REQUEST, "id": {}},
        {**REQUEST, "method": ""},
        {**REQUEST, "method": None},
        {**REQUEST, "method": ["m"]},
        {**REQUEST, "params": None},
        {**REQUEST, "params": []},
        {**REQUEST, "params": "x"},
        {**REQUEST, "params": {"Name": 1, "name": 2}},
        {**REQUEST, "params": {"task": 1, "ta\u017f\u212a": 2}},
        {**REQUEST, "Method": "evil"},
        {**REQUEST, "METHOD": "evil"},
        {**REQUEST, "result": {}},
        {**REQUEST, "error": ERROR},
        {**REQUEST, "extra": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": ERROR},
        {"jsonrpc": "2.0", "id": 1, "error": None},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": "y"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": True, "message": "y"}},
        {"jsonrpc": "2.0", "id": 1, "error": "no"},
    ],
)
def test_what_two_readers_could_understand_differently_is_no_message(value: Any) -> None:
    with pytest.raises(Malformed):
        message(value)
    refusal = read(json.dumps(value).encode())
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.code, refusal.rpc_status) == (Reason.MALFORMED, -32600, 400)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}', -32700),
        (b"\xff", -32700),
        (b"[", -32600),
        (b" \r\n\t[{}", -32600),
        (b"\xef\xbb\xbf[]", -32600),
        (b"data: []", -32700),
    ],
)
def test_a_batch_is_told_apart_from_what_is_no_json(body: bytes, code: int) -> None:
    refusal = read(body)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


def test_names_that_are_taken_to_be_apart_are_so_in_any_case() -> None:
    assert len({name.casefold() for name in jsonrpc._APART}) == len(jsonrpc._APART)


@pytest.mark.parametrize("other", ["Name", "NAME", "_Meta", "ARGUMENTS", "arguments".replace("s", "\u017f"), "\u212a"])
def test_two_members_of_params_that_differ_in_case_only_are_refused_wherever_they_stand(other: str) -> None:
    plain = {"name": "a", "arguments": {}, "_meta": {}, "k": 1}
    for params in ({**plain, other: 1}, {other: 1, **plain}):
        found = read(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}).encode())
        assert isinstance(found, Refusal)
        assert found.text == "two members of params differ in case only"


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    assert isinstance(read(body), Message | Refusal)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENVELOPES = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "Method", "x"]),
    JSON | st.just("2.0") | st.just({"code": 1, "message": "m"}),
    max_size=6,
)


@given(JSON | ENVELOPES)
def test_any_json_is_a_message_or_a_refusal(value: Any) -> None:
    found = read(json.dumps(value).encode())
    if isinstance(found, Message):
        assert isinstance(value, dict)
        assert value["jsonrpc"] == "2.0"
        assert set(value) <= {"jsonrpc", "id", "method", "params", "result", "error"}


def test_an_error_is_one_line_of_ascii() -> None:
    body = jsonrpc.error_body("é\u2028", -31403, "no\nnö", {"reason": "denied"})
    assert body.isascii()
    assert b"\n" not in body
    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": "é\u2028",
        "error": {"code": -31403, "message": "no\nnö", "data": {"reason": "denied"}},
    }


def test_a_refusal_carries_its_facts_and_never_its_rule() -> None:
    opened = legacy(call("ping", None, 5))
    refusal = Refusal(Reason.RATE_LIMITED, "slow", rule="secret", retry_after=2, data={"limit": "per-agent"})
    body = json.loads(jsonrpc.refusal_body(opened, refusal))
    assert body["id"] == 5
    assert body["error"]["data"] == {
        "reason": "rate_limited",
        "exchange_id": ID,
        "retry_after": 2,
        "limit": "per-agent",
    }


def test_headers_of_a_refusal_are_its_own_and_a_retry_after() -> None:
    plain = jsonrpc.refusal_headers(Refusal(Reason.RATE_LIMITED, "slow", retry_after=2))
    assert plain == [(b"content-type", b"application/json"), (b"retry-after", b"2")]
    own = Refusal(Reason.RATE_LIMITED, "slow", retry_after=2, headers=((b"retry-after", b"9"), (b"x", b"y")))
    assert jsonrpc.refusal_headers(own) == [
        (b"content-type", b"application/json"),
        (b"retry-after", b"9"),
        (b"x", b"y"),
    ]


def test_the_id_is_known_where_the_envelope_was_good() -> None:
    opened = exchange(Mcp(), json.dumps(call("ping", None, "k")).encode())
    assert jsonrpc.message_id(opened) == "k"
    opened.asked = Refusal(Reason.MALFORMED, "meta", rpc_code=-32602)
    assert jsonrpc.message_id(opened) == "k"
    opened.asked = Refusal(Reason.MALFORMED, "json", rpc_code=-32700)
    assert jsonrpc.message_id(opened) is None
    opened.body = json.dumps({"jsonrpc": "2.0", "id": 3, "result": {}}).encode()
    opened.asked = None
    assert jsonrpc.message_id(opened) is None  # a response is not asked anything
