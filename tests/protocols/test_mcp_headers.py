"""The headers that repeat a body: the body decides, and what goes upstream is written from it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import decode_header_value, encode_header_value

from gateway.core.exchange import Call
from gateway.protocols import mcp_headers
from gateway.protocols.mcp import Mcp
from tests.protocols.mcp_rig import asked, call, dump, exchange, legacy, modern, modern_headers, told


def tool(name: Any = "add", arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    return call("tools/call", {"name": name, "arguments": arguments or {}}, 8)


def with_headers(message: dict[str, Any], **changes: str | None) -> Any:
    """The exchange of a modern message whose headers were changed (None: taken away)."""
    headers = modern_headers(message)
    for name, value in changes.items():
        key = name.replace("_", "-")
        headers.pop(key, None)
        if value is not None:
            headers[key] = value
    return modern(message, headers=headers)


def sentinel(text: str | bytes) -> str:
    return f"=?base64?{b64encode(text.encode() if isinstance(text, str) else text).decode()}?="


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (tool(), {"mcp_method": None}),
        (tool(), {"mcp_method": "tools/list"}),
        (tool(), {"mcp_method": "TOOLS/CALL"}),
        (tool(), {"mcp_method": ""}),
        (tool(), {"mcp_method": sentinel("tools/call")}),  # this header has no encoded form
        (tool(), {"mcp_name": None}),
        (tool(), {"mcp_name": "delete"}),
        (tool(), {"mcp_name": "ADD"}),
        (tool(), {"mcp_name": "add, delete"}),
        (tool(), {"mcp_name": sentinel("delete")}),
        (tool(), {"mcp_name": "=?base64?YWRk"}),
        (tool(), {"mcp_name": "=?BASE64?YWRk?="}),
        (tool(), {"mcp_name": "=?base64?YWR?="}),
        (tool(), {"mcp_name": "=?base64?YW Rk?="}),
        (tool(), {"mcp_name": "=?base64?YWRl?="}),
        (tool("e"), {"mcp_name": "=?base64?ZR==?="}),  # decodes, but is not what an encoder writes
        (tool("=?base64?YWRk?="), {"mcp_name": "=?base64?YWRk?="}),  # says add
        (tool("add\u00e9"), {"mcp_name": "add\u00e9"}),
        (tool("é"), {"mcp_name": sentinel(b"\xff\xfe")}),
        (tool(), {"mcp_name": "=?base64?=?="}),
        (tool(), {"mcp_name": "=?base64?="}),
        (call("prompts/get", {"name": "p"}, 8), {"mcp_name": "q"}),
        (call("prompts/get", {"name": "p"}, 8), {"mcp_name": None}),
        (call("resources/read", {"uri": "file:///a"}, 8), {"mcp_name": "file:///b"}),
        (call("resources/read", {"uri": "file:///a"}, 8), {"mcp_name": None}),
        (call("tasks/get", {"taskId": "t1"}, 8), {"mcp_name": "t2"}),
        (tool(arguments={"region": "eu"}), {"mcp_param_region": "us"}),
        (tool(arguments={"region": "eu"}), {"mcp_param_region": "=?base64?ZXU?="}),
        (tool(arguments={"region": "eu"}), {"mcp_param_region": "=?base64?!!?="}),
        (tool(arguments={"region": ["us"]}), {"mcp_param_region": "us"}),
        (tool(arguments={"flag": True}), {"mcp_param_flag": "True"}),
        (tool(arguments={"n": 42}), {"mcp_param_n": "43"}),
        (tool(arguments={"n": 42}), {"mcp_param_n": "42.5"}),
        (tool(arguments={"n": None}), {"mcp_param_n": "null"}),
        (tool(), {"mcp_param_region": "us"}),
    ],
)
def test_headers_that_do_not_repeat_the_body_are_a_mismatch(message: dict[str, Any], changes: dict[str, Any]) -> None:
    status, body = told(with_headers(message, **changes))
    assert (status, body["error"]["code"], body["id"]) == (400, -32020, 8)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (tool(), {"mcp_name": sentinel("add")}),
        (tool("Hello, 世界"), {"mcp_name": sentinel("Hello, 世界")}),
        (tool(" padded "), {"mcp_name": sentinel(" padded ")}),
        (tool("=?base64?literal?="), {"mcp_name": sentinel("=?base64?literal?=")}),
        (tool("=?base64?add"), {"mcp_name": "=?base64?add"}),
        (call("tasks/get", {"taskId": "t1"}), {"mcp_name": "t1"}),
        (call("tasks/get", {"taskId": "t1"}), {}),
        (tool(arguments={"region": "eu"}), {"mcp_param_region": "eu"}),
        (tool(arguments={"region": "eu"}), {"mcp_param_region": sentinel("eu")}),
        (tool(arguments={"a": {"b": {"c": "deep"}}}), {"mcp_param_c": "deep"}),
        (tool(arguments={"flag": False}), {"mcp_param_flag": "false"}),
        (tool(arguments={"n": 42}), {"mcp_param_n": "42"}),
        (tool(arguments={"n": 42}), {"mcp_param_n": "42.0"}),
        (tool(arguments={"n": 42.0}), {"mcp_param_n": "42"}),
        (tool(arguments={"n": -7}), {"mcp_param_n": "-7"}),
        (tool(arguments={"empty": ""}), {"mcp_param_empty": ""}),
        (call("tools/list"), {"mcp_param_unknown": "passes"}),
    ],
)
def test_headers_that_repeat_the_body_pass(message: dict[str, Any], changes: dict[str, Any]) -> None:
    assert isinstance(with_headers(message, **changes).asked, Call)


def test_what_goes_upstream_is_written_from_the_body() -> None:
    found = asked(with_headers(tool("é"), mcp_name=sentinel("é")))
    assert found.headers == (
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", sentinel("é").encode()),
    )
    plain = asked(with_headers(tool(), mcp_name=sentinel("add")))
    assert plain.headers[2] == (b"mcp-name", b"add")


def test_a_name_header_where_the_body_has_no_name_does_not_go_upstream() -> None:
    found = asked(with_headers(call("tools/list"), mcp_name="delete"))
    assert b"mcp-name" in found.drop_headers
    assert not any(name == b"mcp-name" for name, _ in found.headers)


def test_the_task_of_a_request_is_mirrored_even_where_the_caller_did_not() -> None:
    assert asked(with_headers(call("tasks/get", {"taskId": "t1"}))).headers[2] == (b"mcp-name", b"t1")


@pytest.mark.parametrize(("method", "name"), [("tools/list", "add"), ("tools/call", "delete"), ("", "add")])
def test_the_older_era_needs_no_mirrored_header_but_a_wrong_one_is_refused(method: str, name: str) -> None:
    assert isinstance(legacy(tool()).asked, Call)
    headers = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", method), ("mcp-name", name)]
    opened = exchange(Mcp(), dump(tool()), headers)
    opened.asked = opened.protocol.classify(opened)
    assert told(opened)[1]["error"]["code"] == -32020
    right = exchange(Mcp(), dump(tool()), [("mcp-method", "tools/call"), ("mcp-name", "add")])
    assert isinstance(right.protocol.classify(right), Call)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_encoded_as_the_official_client_does_and_read_back(text: str) -> None:
    value = mcp_headers.encode(text)
    assert mcp_headers.decode(value) == text
    assert decode_header_value(value.decode("ascii")) == text
    if text:
        assert mcp_headers.decode(encode_header_value(text).encode("ascii")) == text


@given(st.binary(max_size=40))
def test_any_bytes_decode_to_text_or_to_nothing(value: bytes) -> None:
    found = mcp_headers.decode(value)
    assert found is None or mcp_headers.decode(mcp_headers.encode(found)) == found


def test_a_head_that_is_said_again_is_read_once_and_is_nobody_elses() -> None:
    ping = call("ping", {}, 1)
    one, other, again = (legacy(ping, session=name) for name in ("s-1", "s-2", "s-3"))
    again.head = one.head
    again.asked = again.protocol.classify(again)
    assert [asked(item).context for item in (one, other, again)] == [
        {"session": "s-1"}, {"session": "s-2"}, {"session": "s-1"},
    ]  # fmt: skip
    assert mcp_headers.heading(one.head) is mcp_headers.heading(again.head)
    assert mcp_headers.heading(one.head) is not mcp_headers.heading(other.head)
