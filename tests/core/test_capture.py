"""A capture holds what it says: shapes without values, values without secrets, or that it was left out."""

from __future__ import annotations

import json
from typing import Any

from gateway.core.capture import CAPTURE_BYTES, KEPT_BYTES, Capture
from gateway.core.masking import Masker, Masking

DOCUMENT: dict[str, Any] = {
    "subject": {"type": "agent", "id": "agent:idp/planner", "properties": {"roles": ["reader"]}},
    "action": {"name": "mcp.tools/call"},
    "resource": {"type": "tool", "id": "shop/pay", "properties": {"route": "shop", "upstream": "shop"}},
    "context": {
        "time": "2026-11-22T12:00:00Z",
        "listing": False,
        "arguments": {"amount": 100, "to": "Ann", "password": "hunter2", "notes": ["Oslo", {"deep": None}], "ok": True},
        "session": "s-1",
        "request": {
            "id": "0190", "method": "POST", "path": "/shop", "peer": "127.0.0.1", "query": "a=1&token=abc",
            "headers": {"user-agent": ["probe/1"], "x-api-key": ["k-1"]},
        },
    },
}  # fmt: skip
KEY = bytes(32)


def capture(level: str, masking: Masking | None = None, size: int = 10) -> Any:
    return Capture(Masker(masking or Masking()), KEY).of(level, DOCUMENT, size)


def test_a_full_capture_is_the_input_but_for_what_is_masked() -> None:
    found = capture("full")
    expected = json.loads(json.dumps(DOCUMENT))
    expected["context"]["arguments"]["password"] = {"masked": "name", "type": "string", "chars": 7}
    expected["context"]["request"]["query"] = "a=1&token=[masked name 3]"
    expected["context"]["request"]["headers"]["x-api-key"] = {"masked": "name", "type": "array", "items": 1}
    assert found == {
        "level": "full",
        "input": expected,
        "masked": [
            ["context", "arguments", "password"],
            ["context", "request", "headers", "x-api-key"],
            ["context", "request", "query"],
        ],
    }


def test_a_shape_has_no_value_of_the_callers_but_says_what_was_there() -> None:
    found = capture("shape", Masking(paths=(("context", "arguments", "to"),)))
    text = json.dumps(found)
    for value in ("Ann", "hunter2", "Oslo", "s-1", "probe/1", "k-1", "a=1", "100"):
        assert value not in text, value
    arguments = found["shape"]["arguments"]["members"]
    assert arguments["password"] == {"masked": "name", "type": "string", "chars": 7}
    assert arguments["to"] == {"masked": "path", "type": "string", "chars": 3}
    assert arguments["ok"] == {"type": "boolean"}
    assert arguments["notes"]["of"][0]["chars"] == 4
    assert arguments["notes"]["items"] == 2
    assert found["input"]["subject"] == DOCUMENT["subject"]
    assert found["input"]["context"] == {
        "time": "2026-11-22T12:00:00Z", "listing": False,
        "request": {"id": "0190", "method": "POST", "path": "/shop", "peer": "127.0.0.1"},
    }  # fmt: skip


def test_digests_tell_equal_values_and_only_to_who_has_the_key() -> None:
    one, other = capture("shape")["shape"]["session"]["digest"], capture("shape")["shape"]["session"]["digest"]
    foreign = Capture(Masker(), b"\1" * 32).of("shape", DOCUMENT, 1)["shape"]
    assert one == other
    assert isinstance(foreign, dict)
    assert foreign["session"] != capture("shape")["shape"]["session"]


def test_what_is_too_large_to_be_looked_through_is_left_out() -> None:
    for level in ("shape", "full"):
        found = capture(level, size=CAPTURE_BYTES + 1)
        assert found["level"] == level
        assert "input" not in found
        assert str(CAPTURE_BYTES) in found["left_out"]


def test_a_shape_that_would_be_much_longer_than_its_body_is_left_out() -> None:
    wide: Any = {"context": {"arguments": {f"n{number}": "x" for number in range(9000)}}}
    found = Capture(Masker(), KEY).of("shape", wide, 100_000)
    assert str(KEPT_BYTES) in str(found["left_out"])
    assert "shape" not in found
