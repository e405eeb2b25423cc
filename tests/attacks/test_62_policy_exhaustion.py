"""A policy that would run for ever is a deny at the deadline, and names with slashes and dots in them stay names."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.compiled import compile_source
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.sources import read_folder, source_of
from gateway.pdp.syntax import PolicyRefused

ROW = 62
POLICIES = Path(__file__).resolve().parents[2] / "policies"
DEADLINE_S = 0.25

L, TREE = "input.context.arguments.l", "input.context.arguments.tree"
SLOW = {
    "range": "decision if { some i in numbers.range(1, input.context.arguments.n); i == -1 }",
    "nested": f"decision if {{ some a in {L}; some b in {L}; some c in {L}; a + b == c - 0.5 }}",
    "every": f"decision if {{ every a in {L} {{ every b in {L} {{ every c in {L} {{ a + b != c - 0.5 }} }} }} }}",
    "walk": f"decision if {{ walk({TREE}, [p, v]); walk({TREE}, [q, w]); walk({TREE}, [r, x]); p == [q, r, v, w, x] }}",
    "net": "decision if { some a in net.cidr_expand(input.context.arguments.net); a == 1 }",
    "functions": "decision if f0(1)\n\n"
    + "\n\n".join(f"f{n}(x) if {{ f{n + 1}(x); f{n + 1}(x) }}" for n in range(40))
    + "\n\nf40(x) if x == 1",
}


def tree(depth: int) -> Any:
    return [tree(depth - 1), tree(depth - 1)] if depth else 1


ARGUMENTS = {"n": 10**14, "l": list(range(2000)), "tree": tree(10), "net": "::/0"}


def request(arguments: Any, **resource: Any) -> AccessRequest:
    described = {"type": "tool", "id": "weather/x", "properties": {"route": "r", "upstream": "weather"}, **resource}
    return AccessRequest(
        {
            "subject": {"type": "agent", "id": "agent:idp/a", "properties": {"roles": ["reader"]}},
            "action": {"name": "mcp.tools/call"},
            "resource": described,
            "context": {"listing": False, "arguments": arguments},
        }
    )


@pytest.mark.parametrize("name", SLOW)
def test_a_policy_that_would_run_for_ever_is_a_deny_at_the_deadline_while_others_are_answered(name: str) -> None:
    engine = EmbeddedEngine(source_of({"a.rego": "package tollgate\n\n" + SLOW[name]}), EmbeddedSettings(DEADLINE_S))
    quick = EmbeddedEngine(source_of({"a.rego": "package tollgate\n\ndecision := true\n"}))

    async def story() -> tuple[Decision, float, int]:
        engine.start()
        await asyncio.shield(engine._child().start())
        pending = engine.decide(request(ARGUMENTS))
        assert not isinstance(pending, Decision), "it would have been evaluated where nothing can stop it"
        started, others = time.monotonic(), 0
        late = asyncio.ensure_future(pending)
        while not late.done():
            answer = quick.decide(request({"n": others}))
            assert isinstance(answer, Decision)
            others += answer.allow
            await asyncio.sleep(0)
        took = time.monotonic() - started
        await engine.aclose()
        return late.result(), took, others

    decision, took, others = asyncio.run(story())
    assert (decision.allow, decision.fault) == (False, True)
    assert decision.rule == "late" or "ended" in decision.rule  # out of memory, before it was late
    assert took < DEADLINE_S * 8
    assert others > 0


def test_a_pattern_that_backtracks_elsewhere_is_linear_here_and_one_of_the_callers_is_refused() -> None:
    text = 'package tollgate\n\ndecision if regex.match("^(a+)+$", input.context.arguments.text)\n'
    engine = EmbeddedEngine(source_of({"a.rego": text}))
    decision = engine.decide(request({"text": "a" * 10_000 + "!"}))
    assert isinstance(decision, Decision)
    assert (decision.allow, decision.fault) == (False, False)
    with pytest.raises(PolicyRefused, match="write the pattern"):
        compile_source(source_of({"a.rego": text.replace('"^(a+)+$"', "input.context.arguments.pattern")}))


NAMES = [
    "weather/../admin/x", "weather/get_forecast/../delete_station", "weather/get_forecast?x=1", "weather/get_forecast#",
    "weather//get_forecast", "weather/get_forecast/", "/weather/get_forecast", "weather%2Fget_forecast",
    'weather/get_forecast"]', "weather/get_forecast'", 'x"] || true || data["', "data.roles.reader", "*", "weather/*",
    "weather/get_forecas?", "weather/get_forecast\n", "weather/get_forecast\x00", "__proto__", "weather/", "", "reader",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_a_name_whatever_is_in_it(name: str) -> None:
    engine = EmbeddedEngine(read_folder(POLICIES))
    allowed = engine.decide(request({}, id="weather/get_forecast"))
    assert isinstance(allowed, Decision)
    assert allowed.allow is True
    for asked in (
        request({}, id=name),
        request({}, id="weather/get_forecast", properties={"route": "r", "upstream": name}),
        request({}, id="weather/get_forecast", type=name),
    ):
        decision = engine.decide(asked)
        assert isinstance(decision, Decision)
        assert decision.allow is False
