"""Recorded decisions decided again: what would change is found, what cannot be known is said and never guessed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import Decision
from gateway.core.whatif import NotReplayable, Recorded
from gateway.log.decisions import DecisionReader
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.flips import GROUPS, OTHERS, Flips
from gateway.pdp.replay import Replay
from gateway.pdp.sources import PolicySource, read_folder
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import policy
from tests.recorded import decided, write_log

ROOT = Path(__file__).resolve().parent.parent.parent

IN_FORCE = policy("""
default decision := {"decision": false, "context": {"rule": "nothing", "reason": "No rule grants this"}}

decision := {"decision": true, "context": {"rule": "reader"}} if {
	"reader" in input.subject.properties.roles
	input.resource.id != "weather/delete_station"
}
""")
STRICTER = policy("""
default decision := {"decision": false, "context": {"rule": "nothing", "reason": "No rule grants this"}}

decision := {"decision": true, "context": {"rule": "reader"}} if {
	"reader" in input.subject.properties.roles
	input.resource.id != "weather/delete_station"
	input.context.arguments.days <= 7
}

else := {"decision": true, "context": {"rule": "operator"}} if {
	"operator" in input.subject.properties.roles
	input.resource.id == "weather/delete_station"
}
""")


def replayed(log: Path, candidate: PolicySource) -> dict[str, Any]:
    replay, flips = Replay(candidate), Flips()
    for recorded in DecisionReader(log).read():
        flips.add(recorded, replay.decide(recorded))
    return flips.record()


@pytest.mark.parametrize(
    "folder", ["rego", "worked/roles", "worked/bounds", "worked/delegation", "worked/hours", "worked/classification"]
)
@pytest.mark.parametrize("level", ["full", "shape", "none"])
def test_the_policy_in_force_changes_nothing_of_its_own_log(tmp_path: Path, folder: str, level: str) -> None:
    source = read_folder(ROOT / "policies" / folder)
    log = write_log(tmp_path, decided(EmbeddedEngine(source), 300, level))
    found = replayed(log, source)
    assert found["decisions"] == 300
    assert [found[kind] for kind in ("allow_to_deny", "deny_to_allow", "obligations", "reworded")] == [0, 0, 0, 0]
    if level == "full":
        assert found["replayed"] == 300, found["not_replayable_because"]


def test_random_policies_change_nothing_of_their_own_logs(tmp_path: Path) -> None:
    """Whatever places a policy reads: what the log kept of them is what it saw."""
    rng = random.Random(31)
    places = (
        "subject.id", "subject.type", "subject.properties.roles", "subject.properties.org", "subject.properties.issuer",
        "subject.properties.agent", "subject.properties.delegated_by", "action.name", "resource.id", "resource.type",
        "resource.properties.upstream", "resource.properties.route", "resource.properties.digest", "context.time",
        "context.listing", "context.arguments.city", "context.arguments.days", "context.session", "context.direction",
        "context.trace_id", "context.request.id", "context.request.peer", "context.request.path",
        "context.request.headers", "context.request.query", "context.request.method",
    )  # fmt: skip
    whole = 0
    for number in range(25):
        chosen = rng.sample(places, rng.randint(1, 4))
        rules = "\n".join(f'seen contains concat("", ["{place}=", sprintf("%v", [input.{place}])])' for place in chosen)
        source = policy(
            f'{rules}\n\ndecision := {{"decision": count(seen) % 2 == 0, "context": {{"rule": told}}}}\n\n'
            'told := concat(" ", sort(seen))\n'
        )
        level = rng.choice(("none", "shape", "full"))
        log = write_log(tmp_path / str(number), decided(EmbeddedEngine(source), 40, level, seed=number))
        found = replayed(log, source)
        flips = [found[kind] for kind in ("allow_to_deny", "deny_to_allow", "reworded")]
        assert flips == [0, 0, 0], (chosen, level, found)
        assert level != "full" or found["replayed"] == 40
        whole += found["replayed"] > 0
    assert whole > 10


CONDITIONS = (
    '"reader" in input.subject.properties.roles', 'input.resource.id == "weather/export"',
    "input.context.arguments.days > 7", 'input.context.arguments.city == "Oslo"', "not input.context.arguments.dry_run",
    "some name, _ in input.context.arguments\n\tname == \"days\"", "input.context.session", "count(wide) > 3",
    'startswith(input.context.request.peer, "10.0.0.1")', 'input.context.time < "2026-11-22T12:00:04Z"',
    "every value in input.context.arguments { value }", "small(input.context.arguments.days)",
    'input.resource.properties.upstream == "weather"', 'input.subject.properties.delegated_by[_] == "user:idp/ann"',
    'input.context.request.headers[_][_] == "probe/1"',
    'count([x | x := input.context.arguments[_]; x == "Lima"]) == 0',
    'object.get(input.context, "session", "") != ""', "now.days == 3", 'input.context.arguments["city"] != "Paris"',
)  # fmt: skip
HELPERS = """
import input.context.arguments as given

wide contains name if some name, _ in input.context.arguments.city_names

wide contains value if {
	input.subject.properties.org == "acme"
	some value in input.context.arguments
}

small(n) if n < 4

now := input.context.arguments if given.days == 3
"""


def test_what_is_decided_without_the_whole_input_is_what_the_whole_input_says(tmp_path: Path) -> None:
    """Candidates at random over logs that kept everything, shapes, nothing: an answer is the same or there is none."""
    made = {level: list(decided(EmbeddedEngine(IN_FORCE), 40, level, seed=5)) for level in ("full", "shape", "none")}
    logs = {
        level: list(DecisionReader(write_log(tmp_path / level, iter(found))).read()) for level, found in made.items()
    }
    rng = random.Random(11)
    answered = unknown = 0
    for _ in range(120):
        rules = []
        for number in range(rng.randint(1, 4)):
            conditions = "\n\t".join(rng.sample(CONDITIONS, rng.randint(1, 3)))
            value = f'{{"decision": {rng.choice(("true", "false"))}, "context": {{"rule": "r{number}"}}}}'
            rules.append(f"{'else' if rules else 'decision'} := {value} if {{\n\t{conditions}\n}}")
        candidate = policy(HELPERS + "\n" + "\n\n".join(rules) + "\n")
        replay = Replay(candidate)
        wanted = [replay.decide(item) for item in logs["full"]]
        assert not any(isinstance(item, NotReplayable) for item in wanted)
        for level in ("shape", "none"):
            for whole, item in zip(wanted, logs[level], strict=True):
                answer = replay.decide(item)
                if isinstance(answer, NotReplayable):
                    unknown += 1
                else:
                    answered += 1
                    assert isinstance(whole, Decision)
                    assert (answer.allow, answer.rule, answer.reason) == (whole.allow, whole.rule, whole.reason), rules
    assert answered > 1000
    assert unknown > 1000


def test_what_a_stricter_candidate_would_change_is_told_by_rule_subject_and_resource(tmp_path: Path) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(IN_FORCE), 400, "full"))
    found = replayed(log, STRICTER)
    before = list(DecisionReader(log).read())
    denied = [item for item in before if item.allow and arguments(item)["days"] > 7]
    allowed = [item for item in before if not item.allow and item.resource == "weather/delete_station"]
    allowed = [item for item in allowed if "operator" in properties(item)["roles"]]
    assert denied
    assert allowed
    assert (found["allow_to_deny"], found["deny_to_allow"]) == (len(denied), len(allowed))
    assert found["unchanged"] == 400 - len(denied) - len(allowed)
    assert {row["name"]: row["allow_to_deny"] + row["deny_to_allow"] for row in found["by_rule"]} == {
        "reader -> nothing": len(denied), "nothing -> operator": len(allowed),
    }  # fmt: skip
    (delete,) = [row for row in found["by_resource"] if row["name"] == "weather/delete_station"]
    assert delete["deny_to_allow"] == len(allowed)
    example = next(item for item in found["examples"] if item["change"] == "allow_to_deny")
    assert example["exchange"] in {item.exchange for item in denied}
    assert example["diff"] == {
        "effect": {"was": "allow", "would_be": "deny"},
        "rule": {"was": "reader", "would_be": "nothing"},
        "reason": {"was": "", "would_be": "No rule grants this"},
    }
    assert len([item for item in found["examples"] if item["change"] == "allow_to_deny"]) == 5


def arguments(recorded: Recorded) -> Any:
    context: Any = recorded.document["context"]
    return context["arguments"]


def properties(recorded: Recorded) -> Any:
    subject: Any = recorded.document["subject"]
    return subject["properties"]


def test_what_the_candidate_does_not_read_need_not_have_been_kept(tmp_path: Path) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(IN_FORCE), 50, "none"))
    assert replayed(log, IN_FORCE)["replayed"] == 50
    found = replayed(log, STRICTER)
    getting_there = sum(
        "reader" in properties(item)["roles"] and item.resource != "weather/delete_station"
        for item in DecisionReader(log).read()
    )
    assert 0 < getting_there < 50
    assert found["not_replayable_because"] == {"not kept: context.arguments": getting_there}
    assert found["replayed"] == 50 - getting_there


def test_with_shapes_a_member_that_was_absent_is_known_to_be(tmp_path: Path) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(IN_FORCE), 50, "shape"))
    found = replayed(log, policy("decision := input.context.arguments.days <= 7\n"))
    assert found["not_replayable_because"] == {"only its shape was kept: context.arguments": 50}
    absent = policy("decision := false if input.context.arguments.dry_run\n\nelse := true\n")
    below = policy("decision := false if input.context.arguments.city.zip\n\nelse := true\n")
    for candidate in (absent, below):
        assert replayed(log, candidate)["replayed"] == 50


def test_a_masked_place_stops_only_who_reads_it(tmp_path: Path) -> None:
    made = decided(EmbeddedEngine(IN_FORCE), 40, "full", arguments=lambda n: {"password": "hunter2"} if n % 2 else {})
    log = write_log(tmp_path, made)
    assert replayed(log, STRICTER)["replayed"] == 40
    reading = policy('decision := false if input.context.arguments.password == "x"\n\nelse := true\n')
    found = replayed(log, reading)
    assert found["replayed"] == 20
    assert found["not_replayable_because"] == {"masked: context.arguments.password": 20}
    whole = policy("decision := count(input.context.arguments) > 2\n")
    assert replayed(log, whole)["replayed"] == 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("decision := time.now_ns() > 0\n", "depends on time or chance: it calls time.now_ns"),
        ('decision := rand.intn("x", 2) == 0\n', "depends on time or chance: it calls rand.intn"),
        ("decision := input.subject.id in data.blocked.ids\n", "external data: data.blocked.ids is not in the bundle"),
    ],
)
def test_what_has_no_answer_for_the_past_gets_none(tmp_path: Path, text: str, why: str) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(IN_FORCE), 20, "full"))
    assert replayed(log, policy(text))["not_replayable_because"] == {why: 20}


def test_data_of_the_bundle_is_no_external_data(tmp_path: Path) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(IN_FORCE), 20, "full"))
    own = policy("decision := input.subject.id in data.blocked.ids\n", {"blocked": {"ids": ["agent:idp/planner-1"]}})
    assert replayed(log, own)["replayed"] == 20


def test_a_decision_of_an_engine_that_had_failed_is_not_compared() -> None:
    recorded = Recorded(0, "e", "t", False, "late", "", "r", (), {"subject": {}}, failed=True)
    assert isinstance(Replay(policy("decision := true\n")).decide(recorded), NotReplayable)


def test_a_candidate_that_would_not_be_served_is_refused() -> None:
    with pytest.raises(PolicyRefused):
        Replay(policy("decision := http.send({})\n"))


def test_a_candidate_whose_rule_fails_would_deny() -> None:
    recorded = Recorded(0, "e", "t", True, "r", "", "r", (), {"context": {"arguments": {"n": "x"}}})
    failing = policy("decision := true if 1 / input.context.arguments.m == 1\n\ndecision := false\n")
    answer = Replay(failing).decide(recorded)
    assert isinstance(answer, Decision)
    assert answer.allow is False


def test_groups_are_counted_together_beyond_their_bound() -> None:
    flips = Flips()
    denied = Decision(False, "", "no", "embedded", "r")
    for number in range(GROUPS + 50):
        flips.add(Recorded(number, "e", "t", True, "r", "", "r", (), {}, subject=f"user:{number}"), denied)
    found: Any = flips.record()
    assert found["by_subject"][0] == {"name": OTHERS, "allow_to_deny": 50, "deny_to_allow": 0, "obligations": 0}
    assert len(found["by_subject"]) == 20
    assert len(found["examples"]) == 5


def test_obligations_that_differ_are_a_change_of_their_own() -> None:
    flips = Flips()
    limited = policy(
        'decision := {"decision": true, "context": {"rule": "r", "obligations": [{"type": "max_tokens", "n": 5}]}}\n'
    )
    before = ({"type": "max_tokens", "n": 9},)
    recorded = Recorded(0, "e", "t", True, "r", "", "r", before, {"action": {"name": "llm.chat"}})
    flips.add(recorded, Replay(limited).decide(recorded))
    found: Any = flips.record()
    assert found["obligations"] == 1
    assert found["examples"][0]["diff"]["obligations"] == {
        "was": list(before),
        "would_be": [{"type": "max_tokens", "n": 5}],
    }
