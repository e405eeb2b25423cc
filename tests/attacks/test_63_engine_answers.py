"""Whatever the embedded engine answers, or fails to, is a deny unless it is a decision."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.sources import source_of
from gateway.pdp.syntax import PolicyRefused

ROW = 63

REQUEST = AccessRequest(
    {"subject": {"id": "a"}, "action": {"name": "x"}, "context": {"arguments": {"n": 0, "s": "x" * 99}}}
)

ANSWERS = {
    "undefined": "decision if input.nothing",
    "empty object": "decision := {}",
    "null": "decision := null",
    "text": 'decision := "true"',
    "the text allow": 'decision := "allow"',
    "number": "decision := 1",
    "list": "decision := [true]",
    "set": "decision := {true}",
    "another name": 'decision := {"allow": true}',
    "OPA's wrapper": 'decision := {"result": {"decision": true}}',
    "text inside": 'decision := {"decision": "true"}',
    "number inside": 'decision := {"decision": 1}',
    "list inside": 'decision := {"decision": [true]}',
    "null inside": 'decision := {"decision": null}',
    "false": "decision := false",
    "unknown member": 'decision := {"decision": true, "obligations": [{"type": "redact"}]}',
    "unknown obligation": 'decision := {"decision": true, "context": {"obligations": [{"type": "redact"}]}}',
    "obligation of no type": 'decision := {"decision": true, "context": {"obligations": [{}]}}',
    "conflict": "decision := true if input.action\n\ndecision := false if input.subject",
    "division by zero": "decision := (1 / input.context.arguments.n) == 1",
    "builtin error": "decision := to_number(input.context.arguments.s) == 1",
    "loop over text": "decision := true if { some x in input.context.arguments.s; x }",
    "html": 'decision := "<html><body>200 OK</body></html>"',
    "huge": 'decision := {"decision": true, "context": {"reason": input.context, "rule": "x"}}',
    "endless": "decision if { some x in numbers.range(1, 100000000000000); x < 0 }",
}

UNLOADABLE = {
    "nothing": "",
    "html": "<html><body>200 OK</body></html>",
    "no decision": "package tollgate\n\nallow := true\n",
    "another package": "package authz\n\ndecision := true\n",
    "half": "package tollgate\n\ndecision := {",
    "old syntax": "package tollgate\n\ndefault decision = true\n\ndecision { input.x }\n",
    "bytes": "\x00\x01\x02",
}


async def answered(engine: EmbeddedEngine) -> Decision:
    answer = engine.decide(REQUEST)
    try:
        return answer if isinstance(answer, Decision) else await answer
    finally:
        await engine.aclose()


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_allow_is_a_deny_that_says_which(name: str) -> None:
    engine = EmbeddedEngine(source_of({"a.rego": "package tollgate\n\n" + ANSWERS[name]}))
    decision = asyncio.run(answered(engine))
    assert decision.allow is False
    assert decision.reason
    assert decision.obligations == ()


def test_the_child_gone_or_closed_is_a_deny() -> None:
    text = "package tollgate\n\ndecision if { some x in numbers.range(1, 3); x == 2 }\n"
    engine = EmbeddedEngine(source_of({"a.rego": text}), EmbeddedSettings(deadline_s=10.0, cache_entries=0))

    async def story() -> list[Decision]:
        found: list[Any] = []
        engine.start()
        await asyncio.shield(engine._child().start())
        found.append(await _asked(engine))
        child = engine._child()._child
        assert child is not None
        child.process.kill()
        await asyncio.to_thread(child.process.wait)
        found.append(await _asked(engine))
        found.append(await _asked(engine))
        await engine.aclose()
        found.append(await _asked(engine))
        return found

    decisions = asyncio.run(story())
    assert [decision.allow for decision in decisions] == [True, False, True, False]
    assert [decision.fault for decision in decisions] == [False, True, False, True]


async def _asked(engine: EmbeddedEngine) -> Decision:
    answer = engine.decide(REQUEST)
    return answer if isinstance(answer, Decision) else await answer


@pytest.mark.parametrize("name", UNLOADABLE)
def test_what_is_no_policy_makes_no_engine(name: str) -> None:
    with pytest.raises(PolicyRefused):
        EmbeddedEngine(source_of({"a.rego": UNLOADABLE[name]}))
