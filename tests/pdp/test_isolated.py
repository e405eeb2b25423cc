"""Evaluation in a child process: real children, killed for real, whose answers are never taken for another's."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from gateway.pdp.embedded import RULE, EmbeddedEngine, EmbeddedSettings
from gateway.pdp.isolated import MEMORY_BYTES, Child, IsolatedEngine
from tests.pdp.asking import policy, request, run, settled

# Quick for a short list; for a long one it runs for longer than anybody waits.
LOOP = """decision if {
	input.context.arguments.n > 2
	some a in input.context.arguments.l
	some b in input.context.arguments.l
	some c in input.context.arguments.l
	a + (b + c) == input.context.arguments.n
}"""
ECHO = """decision := {"decision": true, "context": {"rule": sprintf("%v", [input.context.arguments.n])}} if {
	some i in numbers.range(1, 2)
	i == 2
}"""
HUGE = 10**12


def quick(n: int) -> dict[str, Any]:
    return {"l": [0, 1, n], "n": n}


def slow(n: int = 1) -> dict[str, Any]:
    return {"l": list(range(2000)), "n": 10_000 + n}


async def decide(engine: EmbeddedEngine, arguments: Any) -> Decision:
    answer = engine.decide(request(arguments))
    assert not isinstance(answer, Decision), "an unbounded policy was evaluated in process"
    decision = await answer
    assert isinstance(decision, Decision)
    return decision


async def warm(engine: EmbeddedEngine) -> None:
    """Waits until the child is up, which is no part of any deadline under test."""
    engine.start()
    isolated = engine._child()
    assert isolated._starting is not None
    await isolated._starting


def story(
    tell: Callable[[EmbeddedEngine], Awaitable[None]], text: str = LOOP, deadline_s: float = 5.0, **settings: Any
) -> None:
    """An engine whose child is up, and is gone after the story."""
    engine = EmbeddedEngine(policy(text), EmbeddedSettings(deadline_s=deadline_s, **settings))

    async def told() -> None:
        try:
            await warm(engine)
            await tell(engine)
        finally:
            await engine.aclose()

    run(told())


def child(engine: EmbeddedEngine) -> Child:
    found = engine._child()._child
    assert found is not None
    return found


async def ended(found: Child) -> int:
    return await asyncio.to_thread(found.process.wait, 20)


def frame(document: Any, number: int = 0) -> bytes:
    payload = json.dumps(document).encode()
    return len(payload).to_bytes(4, "big") + number.to_bytes(8, "big") + b"I" + payload


def test_an_unbounded_policy_is_answered() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        assert (await decide(engine, quick(3))).allow is True
        undefined = await decide(engine, {"n": 3})
        assert (undefined.allow, undefined.fault, undefined.rule) == (False, False, "undefined")

    story(tell)


def test_a_slow_one_is_killed_at_the_deadline_and_denied_and_the_loop_goes_on_meanwhile() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        process, started = child(engine), time.monotonic()
        decision = await decide(engine, slow())
        took = time.monotonic() - started
        ticking.cancel()
        assert (decision.allow, decision.fault, decision.rule) == (False, True, "late")
        assert 0.5 <= took < 5
        assert ticks >= 10
        assert await ended(process) == -signal.SIGKILL

    story(tell, deadline_s=0.5)


def test_after_a_kill_the_next_question_is_answered_by_another_child() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        first = child(engine)
        assert (await decide(engine, slow())).rule == "late"
        assert engine._child()._starting is not None, "it is not started before somebody asks"
        await warm(engine)
        assert (await decide(engine, quick(3))).allow is True
        assert child(engine).process.pid != first.process.pid

    story(tell, deadline_s=1.0)


def test_who_waits_in_line_waits_within_their_own_deadline() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        started = time.monotonic()
        decisions = await asyncio.gather(*(decide(engine, slow()) for _ in range(8)))
        assert {decision.rule for decision in decisions} == {"late"}
        assert time.monotonic() - started < 4

    story(tell, deadline_s=0.5)


def test_many_at_once_each_get_their_own_answer() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        decisions = await asyncio.gather(*(decide(engine, {"n": n}) for n in range(200)))
        assert [decision.rule for decision in decisions] == [str(n) for n in range(200)]

    story(tell, ECHO, deadline_s=20)


def test_a_caller_that_goes_away_leaves_no_answer_for_the_next() -> None:
    """threats.md row 70 for this pipe: a question that is cancelled at any moment ends its child."""

    async def tell(engine: EmbeddedEngine) -> None:
        for turn in range(12):
            await warm(engine)
            asked = asyncio.create_task(decide(engine, {"n": f"gone {turn}"}))
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            asked.cancel()
            decision = await decide(engine, {"n": turn})
            assert decision.rule == str(turn)

    story(tell, ECHO, deadline_s=20, cache_entries=0)


def test_a_child_that_dies_is_a_deny_and_is_replaced() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        child(engine).process.kill()
        await ended(child(engine))
        decision = await decide(engine, quick(3))
        assert (decision.allow, decision.fault) == (False, True)
        assert "ended" in decision.rule
        await warm(engine)
        assert (await decide(engine, quick(3))).allow is True

    story(tell)


def test_a_policy_that_takes_all_memory_ends_its_child_only() -> None:
    text = "decision if { x := numbers.range(1, input.context.arguments.n); count([y | some y in x]) > 1 }"

    async def tell(engine: EmbeddedEngine) -> None:
        decision = await decide(engine, {"n": HUGE})
        assert (decision.allow, decision.fault) == (False, True)
        await warm(engine)
        assert (await decide(engine, {"n": 3})).allow is True

    story(tell, text, deadline_s=20)


@pytest.mark.parametrize("size", [60_000, 3_000_000])
def test_the_limit_leaves_room_for_the_largest_input_beside_what_the_engine_reserves(size: int) -> None:
    text = "decision if { some i in numbers.range(1, 2); i == 2; count(input.context.arguments.text) > 2 }"

    async def tell(engine: EmbeddedEngine) -> None:
        decision = await decide(engine, {"text": "x" * size})
        assert (decision.allow, decision.fault) == (True, False), decision

    story(tell, text, deadline_s=5)


def test_a_child_has_a_limit_of_memory_and_leaves_no_core() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        pid = child(engine).process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        assert MEMORY_BYTES <= soft == hard < 8 * MEMORY_BYTES
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)

    story(tell)


def test_an_idle_child_lives_on_past_its_alarm() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        assert (await decide(engine, quick(3))).allow is True
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(child(engine).process.wait, 1.0)

    story(tell, deadline_s=0.25)


def test_an_error_of_the_policy_leaves_the_child_alive() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        process = child(engine)
        decision = await decide(engine, {"l": "three", "n": 3})
        assert (decision.allow, decision.fault) == (False, True)
        assert decision.rule.startswith("error: policy.rego:")
        assert (await decide(engine, quick(3))).allow is True
        assert child(engine) is process

    story(tell)


def test_decisions_of_the_child_are_kept_as_well() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        assert (await decide(engine, quick(3))).allow is True
        again = engine.decide(request(quick(3)))
        assert isinstance(again, Decision)
        assert again.allow is True

    story(tell)


def test_a_list_shares_one_deadline() -> None:
    async def tell(engine: EmbeddedEngine) -> None:
        started = time.monotonic()
        asked = [request(quick(3)), *(request(slow(n)) for n in range(20)), request(quick(4))]
        decisions = await settled(engine.decide_many(asked))
        assert time.monotonic() - started < 6
        assert [decision.allow for decision in decisions] == [True] + [False] * 21
        assert {decision.rule for decision in decisions[1:]} == {"late"}

    story(tell, deadline_s=1.0)


def test_a_closed_engine_denies_and_leaves_no_process() -> None:
    engine = EmbeddedEngine(policy(LOOP), EmbeddedSettings(deadline_s=5.0))

    async def told() -> None:
        await warm(engine)
        process = child(engine)
        waiting = asyncio.create_task(decide(engine, slow()))
        while not engine._child()._lock.locked():  # noqa: ASYNC110 (no event says it)
            await asyncio.sleep(0)
        await engine.aclose()
        await engine.aclose()
        assert (await waiting).allow is False
        assert process.process.returncode is not None
        assert (await decide(engine, quick(3))).allow is False

    run(told())


def test_a_child_whose_gateway_is_gone_ends_by_itself() -> None:
    """Idle: its input ends. Busy: its own alarm, at twice the deadline."""

    async def tell(engine: EmbeddedEngine) -> None:
        process = child(engine)
        process.writer.close()
        assert await ended(process) == 0

    story(tell)

    async def busy(engine: EmbeddedEngine) -> None:
        process = child(engine)
        process.writer.write(frame({"context": {"arguments": slow()}}))
        assert await ended(process) == -signal.SIGALRM

    story(busy, deadline_s=0.2)


def test_a_child_that_cannot_start_is_a_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EmbeddedEngine(policy(LOOP), EmbeddedSettings(deadline_s=5.0))

    async def told() -> None:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        decision = await decide(engine, quick(3))
        assert (decision.allow, decision.fault) == (False, True)
        assert "cannot be started" in decision.rule
        monkeypatch.undo()
        assert (await decide(engine, quick(3))).allow is True
        await engine.aclose()

    run(told())


def test_it_runs_on_uvloop_too() -> None:
    engine = EmbeddedEngine(policy(LOOP), EmbeddedSettings(deadline_s=1.0))

    async def told() -> None:
        await warm(engine)
        assert (await decide(engine, quick(3))).allow is True
        assert (await decide(engine, slow())).rule == "late"
        await warm(engine)
        assert (await decide(engine, quick(4))).allow is True
        await engine.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(told())


def test_an_answer_with_another_number_is_no_answer() -> None:
    async def told() -> None:
        isolated = IsolatedEngine(policy(ECHO), RULE, deadline_s=5.0)
        await isolated.start()
        process = isolated._child
        assert process is not None
        process.writer.write(frame({"context": {"arguments": {"n": "of somebody else"}}}, 99))
        with pytest.raises(EngineFault, match="out of turn"):
            await isolated.ask(b'{"context":{"arguments":{"n":1}}}', within_s=5.0)
        assert b"1" in await isolated.ask(b'{"context":{"arguments":{"n":1}}}', within_s=20.0)
        await isolated.aclose()

    run(told())
