"""The embedded engine as a DecisionPoint: it allows what the policy allowed, and every failure is a deny."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import regorus

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import LATE, EmbeddedEngine, EmbeddedSettings
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import engine, now, policy, request, run

NAMED = 'decision := {"decision": true, "context": {"rule": "named"}} if input.action.name == "mcp.tools/call"'
COUNTED = "decision if input.context.arguments.n > 1"


class Clock:
    """A monotonic clock that moves by `step` seconds each time it is read."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_the_policys_answer_is_the_decision() -> None:
    asked = engine(NAMED)
    decision = now(asked.decide(request()))
    assert (decision.allow, decision.rule, decision.engine, decision.fault) == (True, "named", "embedded", False)
    assert decision.revision == asked.revision
    assert asked.revision.startswith("sha256:")


def test_undefined_is_a_deny_that_says_so() -> None:
    decision = now(engine("decision if input.nothing").decide(request()))
    assert (decision.allow, decision.fault, decision.rule) == (False, False, "undefined")


def test_a_text_that_looks_like_undefined_is_a_deny_too() -> None:
    assert now(engine('decision := "<undefined>"').decide(request())).allow is False


FAILURES = [
    ("decision := 1 / input.context.arguments.n", {"n": 0}, "divide by zero"),
    ("decision := to_number(input.context.arguments.n) > 1", {"n": "many"}, "could not parse"),
    ("decision if { some x in input.context.arguments.n; x }", {"n": "text"}, "expects array/set/object"),
    ("decision := true if input.action\n\ndecision := false if input.resource", {}, "conflicts with"),
    ('decision := {"a": 1} + 1', {}, ""),
]


@pytest.mark.parametrize(("text", "arguments", "words"), FAILURES, ids=[text for text, _, _ in FAILURES])
def test_an_error_of_the_policy_is_a_deny_that_tells_the_caller_little_and_the_record_where(
    text: str, arguments: Any, words: str
) -> None:
    decision = now(engine(text).decide(request(arguments)))
    assert (decision.allow, decision.fault) == (False, True)
    assert decision.reason == "The policy could not be evaluated"
    assert decision.rule.startswith("error: policy.rego:")
    assert words in decision.rule
    assert "\n" not in decision.rule


def test_an_obligation_nobody_fulfils_is_a_deny_that_names_it() -> None:
    text = 'decision := {"decision": true, "context": {"obligations": [{"type": "require_approval"}]}}'
    decision = now(engine(text).decide(request()))
    assert decision.allow is False
    assert "require_approval" in decision.reason
    denied = now(engine(text.replace("require_approval", "limit"), obligations=frozenset()).decide(request()))
    assert (denied.allow, "limit" in denied.reason) == (False, True)


def test_a_decision_that_was_kept_has_its_obligations_unchanged() -> None:
    text = 'decision := {"decision": true, "context": {"obligations": [{"type": "limit", "rate": "5/minute"}]}}'
    asked = engine(text)
    first, second = now(asked.decide(request())), now(asked.decide(request()))
    assert first.obligations == second.obligations
    assert [(item.type, item.values) for item in second.obligations] == [("limit", {"rate": "5/minute"})]


def test_a_set_of_the_policy_is_a_list_as_for_opa() -> None:
    text = 'decision := {"decision": true, "context": {"obligations": {{"type": "redact", "paths": {"/b", "/a"}}}}}'
    (found,) = now(engine(text, obligations=frozenset({"redact"})).decide(request())).obligations
    assert found.values == {"paths": ["/a", "/b"]}


def test_what_cannot_be_written_as_json_is_a_deny_and_never_reaches_the_engine() -> None:
    """The engine's own conversion of Python objects ends the process on a lone surrogate."""
    asked = engine("decision if input.context.arguments")
    for value in ("\ud800", {1: 2}, object(), 2**70, {"x": ["\udfff"]}, b"bytes", {"a"}):
        decision = now(asked.decide(request({"x": value})))
        assert (decision.allow, decision.fault) == (False, True), value
        assert decision.rule.startswith("input: ")


def test_a_refused_policy_makes_no_engine() -> None:
    with pytest.raises(PolicyRefused, match=r"http\.send"):
        engine("decision if http.send({})")


def test_a_late_answer_is_a_deny() -> None:
    clock = Clock(step=0.2)
    asked = EmbeddedEngine(policy("decision := true"), EmbeddedSettings(deadline_s=0.25), monotonic=clock)
    assert now(asked.decide(request())).allow is True
    clock.step = 0.3
    decision = now(EmbeddedEngine(policy("decision := true"), monotonic=clock).decide(request()))
    assert (decision.allow, decision.fault, decision.rule) == (False, True, "late")
    assert "in time" in decision.reason
    assert decision.ms == pytest.approx(300)


def test_a_late_answer_is_not_kept() -> None:
    clock = Clock(step=0.3)
    asked = EmbeddedEngine(policy("decision := true"), monotonic=clock)
    assert now(asked.decide(request())).allow is False
    clock.step = 0.0
    assert now(asked.decide(request())).allow is True


def test_a_policy_that_is_late_again_and_again_is_evaluated_apart_from_then_on() -> None:
    clock = Clock(step=0.3)
    asked = EmbeddedEngine(policy("decision := true"), monotonic=clock)
    for _ in range(LATE):
        assert now(asked.decide(request())).rule == "late"
        assert asked.evaluation().where == ("in process" if asked._late < LATE else "child process")
    assert "it was late" in asked.evaluation().because[-1]

    async def later() -> Decision:
        clock.step = 0.0
        answer = asked.decide(request())
        assert not isinstance(answer, Decision)
        try:
            return await answer
        finally:
            await asked.aclose()

    assert run(later()).allow is True


def test_a_large_input_is_evaluated_apart() -> None:
    asked = engine(COUNTED + "\n\nelse := false if input.context.arguments.text")

    async def story() -> tuple[Decision, Decision]:
        small = asked.decide(request({"n": 2, "text": "x"}))
        assert isinstance(small, Decision)
        large = asked.decide(request({"n": 2, "text": "x" * 20_000}))
        assert not isinstance(large, Decision)
        try:
            return small, await large
        finally:
            await asked.aclose()

    small, large = run(story())
    assert (small.allow, large.allow) == (True, True)


def test_what_is_large_and_not_read_costs_nothing() -> None:
    assert now(engine(COUNTED).decide(request({"n": 2, "text": "x" * 5_000_000}))).allow is True


def test_a_list_is_decided_item_by_item_in_order() -> None:
    asked = engine(COUNTED)
    decisions = asked.decide_many([request({"n": n}) for n in range(50)])
    assert isinstance(decisions, list)
    assert [decision.allow for decision in decisions] == [n > 1 for n in range(50)]
    assert asked.decide_many([]) == []


def test_each_thread_has_an_engine_of_its_own() -> None:
    asked = engine(COUNTED)
    wrong: list[Any] = []

    def work(number: int) -> None:
        for n in range(200):
            decision = now(asked.decide(request({"n": n, "thread": number})))
            if decision.allow != (n > 1) or decision.fault:
                wrong.append(decision)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_panic_of_the_engine_is_a_deny_and_the_next_decision_is_made_by_another() -> None:
    """An engine that is used in another thread panics, and a panic is no subclass of Exception."""
    asked = engine(COUNTED, cache_entries=0)
    made: list[Any] = []
    finish, ready = threading.Event(), threading.Event()

    def elsewhere() -> None:
        made.append(regorus.Engine())
        ready.set()
        finish.wait(30)
        made.clear()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert ready.wait(30)
    asked._threads.engine = made[0]
    decision = now(asked.decide(request({"n": 2})))
    assert (decision.allow, decision.fault) == (False, True)
    assert decision.rule.startswith("panic: ")
    assert now(asked.decide(request({"n": 2}))).allow is True
    finish.set()
    thread.join(30)


def test_what_is_no_panic_goes_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = engine(COUNTED, cache_entries=0)

    def interrupted() -> Any:
        class Interrupted:
            def set_input_json(self, _: str) -> None:
                raise KeyboardInterrupt

        return Interrupted()

    monkeypatch.setattr(asked, "_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked.decide(request({"n": 2}))


def test_a_decision_is_kept_and_found_by_all_that_the_policy_reads() -> None:
    asked = engine(COUNTED)
    first = now(asked.decide(request({"n": 2, "other": 1}, session="a")))
    again = now(asked.decide(request({"n": 2, "other": [2]}, session="b")))
    assert len(asked._cache) == 1
    assert (first.allow, again.allow) == (True, True)
    assert again.ms == 0.0
    assert now(asked.decide(request({"n": 1}))).allow is False
    assert len(asked._cache) == 2


def test_no_more_decisions_are_kept_than_asked_for_and_the_oldest_go_first() -> None:
    asked = engine(COUNTED, cache_entries=3)
    for n in (1, 2, 3, 1, 4):
        now(asked.decide(request({"n": n})))
    assert [key[-4:-3] for key in asked._cache] == [b"3", b"1", b"4"]


def test_large_keys_and_faults_are_not_kept() -> None:
    asked = engine("decision := to_number(input.context.arguments.n) > 1", cache_key_bytes=100)
    now(asked.decide(request({"n": "many"})))
    now(asked.decide(request({"n": "1" + "0" * 200})))
    assert len(asked._cache) == 0
    now(asked.decide(request({"n": "2"})))
    assert len(asked._cache) == 1


def test_a_fault_is_never_kept_whatever_brought_it() -> None:
    asked = engine(COUNTED)
    asked._kept(b"key", Decision(False, "late", "late", "embedded", "", fault=True))
    assert len(asked._cache) == 0


def test_nothing_is_kept_where_it_would_be_wrong_or_useless() -> None:
    for text in ("decision if time.now_ns() > 0", "decision if input.context.time", "decision if input"):
        asked = engine(text)
        now(asked.decide(request({"n": 2})))
        assert len(asked._cache) == 0
        assert asked.evaluation().kept is False
        assert asked.evaluation().not_kept_because


def test_a_decision_that_was_kept_is_the_one_that_would_be_made() -> None:
    asked, fresh = engine(NAMED + "\n\nelse := false"), engine(NAMED + "\n\nelse := false", cache_entries=0)
    for name in ("mcp.tools/call", "mcp.ping", "mcp.tools/call", "mcp.ping"):
        document = {**request().document, "action": {"name": name}}
        kept, made = now(asked.decide(AccessRequest(document))), now(fresh.decide(AccessRequest(document)))
        assert (kept.allow, kept.rule, kept.reason) == (made.allow, made.rule, made.reason)


def test_doctor_learns_where_a_policy_is_evaluated_and_what_it_reads() -> None:
    told = engine(COUNTED).evaluation()
    assert (told.where, told.because, told.kept) == ("in process", (), True)
    assert told.reads == ("input.context.arguments.n",)
    told = engine("decision if { walk(input.context.arguments, [p, v]); p; v }").evaluation()
    assert told.where == "child process"
    assert told.because == ("policy.rego:3: builtin walk visits every value below its argument",)


def test_an_explanation_says_what_each_rule_answered_and_which_lines_were_reached() -> None:
    asked = engine("default decision := false\n\ndecision if {\n\tfirst\n\tsecond\n}\n\nfirst if input.action.name\n\n"
                   "second if input.nothing\n\nbroken := 1 / input.context.arguments.n\n\nf(x) if x\n")  # fmt: skip
    found = asked.trace(request({"n": 0, "secret": "x"}))
    assert found.input == {"action": {"name": "mcp.tools/call"}, "context": {"arguments": {"n": 0}}}
    answers = {item.name: item for item in found.rules}
    assert set(answers) == {"tollgate.decision", "tollgate.first", "tollgate.second", "tollgate.broken"}
    assert (answers["tollgate.decision"].defined, answers["tollgate.decision"].value) == (True, False)
    assert answers["tollgate.first"].value is True
    assert (answers["tollgate.second"].defined, answers["tollgate.second"].error) == (False, "")
    assert "divide by zero" in answers["tollgate.broken"].error
    reached = {line.text for line in found.lines}
    assert {"first", "second", "first if input.action.name"} <= reached
    assert "broken := 1 / input.context.arguments.n" not in reached
