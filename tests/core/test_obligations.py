"""Obligations are read strictly: what is understood in part would be kept by nobody."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.accounts import Fee
from gateway.core.exchange import Call, Handle, Obligation
from gateway.core.obligations import MOST_OBLIGATIONS, ExtraRate, mark, read, shortfall, unfit
from gateway.core.reasons import Malformed

TOOL = Call("mcp.tools/call", "tool", "up/pay")


def duties(*wanted: dict[str, Any]) -> Any:
    return read([Obligation(item["type"], {name: item[name] for name in item if name != "type"}) for item in wanted])


def test_each_type_becomes_what_is_done_for_it() -> None:
    found = duties(
        {"type": "redact", "paths": ["/content/*/text", "/structuredContent/ssn"]},
        {"type": "set_arguments", "arguments": {"units": "metric", "debug": None}},
        {"type": "max_tokens", "n": 100},
        {"type": "limit", "rate": "10/minute"},
        {"type": "charge", "unit": "usd", "amount": 0.05},
        {"type": "charge", "unit": "calls", "amount": "2"},
    )
    assert found.hides == {"content": {"*": {"text": {}}}, "structuredcontent": {"ssn": {}}}
    assert found.arguments == {"units": "metric", "debug": None}
    assert found.max_tokens == 100
    assert found.rates == (ExtraRate("policy.10-minute", 10, 60),)
    assert found.fees == (Fee("usd", 50_000), Fee("calls", 2))


def test_several_of_a_type_add_up_to_the_strictest() -> None:
    found = duties(
        {"type": "redact", "paths": ["/a/b"]}, {"type": "redact", "paths": ["/a"]},
        {"type": "max_tokens", "n": 100}, {"type": "max_tokens", "n": 50.0},
        {"type": "limit", "rate": "10/minute"}, {"type": "limit", "rate": "2/second"},
        {"type": "limit", "rate": "10/minute"},
    )  # fmt: skip
    assert found.hides == {"a": {}}
    assert found.max_tokens == 50
    assert [(rate.count, rate.window) for rate in found.rates] == [(10, 60), (2, 1)]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "fly"}, "'fly'"),
    ({"type": "Redact", "paths": ["/a"]}, "'Redact'"),
    ({"type": "redact"}, "paths is not a list"),
    ({"type": "redact", "paths": []}, "paths is not a list"),
    ({"type": "redact", "paths": "/a"}, "paths is not a list"),
    ({"type": "redact", "paths": ["/a", 1]}, "a path is not text"),
    ({"type": "redact", "paths": ["/a"], "with": "x"}, "'with' is not known"),
    ({"type": "redact", "paths": [f"/{n}" for n in range(65)]}, "more than 64 paths"),
    ({"type": "set_arguments"}, "not an object"),
    ({"type": "set_arguments", "arguments": {}}, "not an object"),
    ({"type": "set_arguments", "arguments": [1]}, "not an object"),
    ({"type": "set_arguments", "units": "metric"}, "'units' is not known"),
    ({"type": "set_arguments", "arguments": {"n": 2**60}}, "no canonical form"),
    ({"type": "set_arguments", "arguments": {"n": "x" * 70_000}}, "more than"),
    ({"type": "max_tokens"}, "n is not a whole number"),
    ({"type": "max_tokens", "n": 0}, "n is not a whole number"),
    ({"type": "max_tokens", "n": -5}, "n is not a whole number"),
    ({"type": "max_tokens", "n": True}, "n is not a whole number"),
    ({"type": "max_tokens", "n": 1.5}, "n is not a whole number"),
    ({"type": "max_tokens", "n": "100"}, "n is not a whole number"),
    ({"type": "limit", "rate": 10}, "10/minute"),
    ({"type": "limit", "rate": "10/fortnight"}, "10/minute"),
    ({"type": "limit", "rate": "0/minute"}, "10/minute"),
    ({"type": "limit", "rate": "10/minute", "burst": 5}, "'burst' is not known"),
    ({"type": "charge", "unit": "eur", "amount": 1}, "unit is not one of"),
    ({"type": "charge", "unit": "usd", "amount": 0}, "not a number above 0"),
    ({"type": "charge", "unit": "usd", "amount": True}, "not a number above 0"),
    ({"type": "charge", "unit": "usd", "amount": "NaN"}, "not a number above 0"),
    ({"type": "charge", "unit": "usd", "amount": "1e999999"}, "more than any budget"),
    ({"type": "charge", "unit": "calls", "amount": 1e17}, "more than any budget"),
    ({"type": "require_approval", "approvers": "ops"}, "approvers is not a list"),
    ({"type": "require_approval", "ttl": "soon"}, "ttl is not written"),
    ({"type": "require_approval", "ttl": "15m"}, "approvals are not in this version"),
]


@pytest.mark.parametrize(("wanted", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_anything_else_says_which_it_was(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(Malformed) as raised:
        duties(wanted)
    assert words in str(raised.value)


def test_arguments_are_set_once_and_there_is_an_end_to_obligations() -> None:
    both = {"type": "set_arguments", "arguments": {"a": 1}}
    with pytest.raises(Malformed, match="twice"):
        duties(both, both)
    with pytest.raises(Malformed, match="more than 16"):
        duties(*[{"type": "limit", "rate": "1/day"}] * (MOST_OBLIGATIONS + 1))


def test_what_is_not_built_names_itself() -> None:
    assert "approvals" in shortfall(Obligation("require_approval"))


def test_duties_that_a_call_has_no_place_for_are_named() -> None:
    redact = duties({"type": "redact", "paths": ["/a"]})
    tokens = duties({"type": "max_tokens", "n": 5})
    arguments = duties({"type": "set_arguments", "arguments": {"a": 1}})
    limit = duties({"type": "limit", "rate": "5/minute"})
    message = Call("ws.message", "endpoint", "/ws")
    assert "redact" in unfit(message, redact)
    assert "set_arguments" in unfit(message, arguments)
    assert "max_tokens" in unfit(TOOL, tokens)
    assert unfit(message, limit) == ""
    assert [unfit(TOOL, found) for found in (redact, arguments, limit)] == ["", "", ""]
    assert unfit(Call("llm.chat", "model", "small-1"), tokens) == ""


def test_the_mark_of_a_session_is_another_handle_than_the_session() -> None:
    assert mark(Handle("mcp-session", "s")) == Handle("redacted-mcp-session", "s")
