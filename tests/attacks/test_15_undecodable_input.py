"""What cannot be decoded becomes a deny at the policy engine, never an error that lets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import read_folder, source_of

ROW = 15
POLICIES = Path(__file__).resolve().parents[2] / "policies"

# A policy that allows whatever is not blocked: the shape in which an error that is swallowed lets through.
PERMISSIVE = """package tollgate

default decision := true

decision := false if {
	some value in input.context.request.headers["x-name"]
	value == "blocked"
}

decision := false if input.context.arguments.name == "blocked"

decision := false if input.resource.id == "blocked"
"""

UNDECODABLE = ["\ud800", "a\udfffb", "\udc80", "blocked\ud83d", "\ude00\ud83d"]


def asked(*, header: Any = "x", argument: Any = "x", resource: Any = "x") -> AccessRequest:
    return AccessRequest(
        {
            "subject": {"type": "agent", "id": "agent:idp/a", "properties": {"roles": ["reader"]}},
            "action": {"name": "mcp.tools/call"},
            "resource": {"type": "tool", "id": resource, "properties": {"route": "r", "upstream": "u"}},
            "context": {
                "listing": False,
                "arguments": {"name": argument, "path": argument, "amount": argument},
                "request": {"headers": {"x-name": [header]}},
            },
        }
    )


def decided(engine: EmbeddedEngine, request: AccessRequest) -> Decision:
    decision = engine.decide(request)
    assert isinstance(decision, Decision)
    return decision


@pytest.mark.parametrize("place", ["header", "argument", "resource"])
@pytest.mark.parametrize("text", UNDECODABLE, ids=ascii)
def test_text_that_is_no_unicode_is_a_deny_even_for_a_policy_that_allows_by_default(place: str, text: str) -> None:
    engine = EmbeddedEngine(source_of({"a.rego": PERMISSIVE}))
    assert decided(engine, asked()).allow is True
    decision = decided(engine, asked(**{place: text}))
    assert (decision.allow, decision.fault) == (False, True)
    assert decided(engine, asked()).allow is True, "the engine is of use afterwards"


@pytest.mark.parametrize("text", UNDECODABLE, ids=ascii)
def test_the_shipped_policy_denies_it(text: str) -> None:
    engine = EmbeddedEngine(read_folder(POLICIES))
    assert decided(engine, asked(resource=text)).allow is False
    assert decided(engine, asked(argument=text, resource="weather/transfer")).allow is False


def test_latin_1_text_is_seen_as_it_is() -> None:
    engine = EmbeddedEngine(source_of({"a.rego": PERMISSIVE.replace('"blocked"', '"bl\u00f6cked"')}))
    assert decided(engine, asked(header=b"bl\xf6cked".decode("latin-1"))).allow is False
