"""Two requests that a policy can tell apart never share a kept decision."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.reads import projector
from gateway.pdp.sources import source_of
from tests.core.questions import heads, question, typed
from tests.thorough import examples

ROW = 57
PAIRS = 100_000

# Tells of all it reads what it was shown: an empty list for what is absent.
FAITHFUL = """package tollgate

decision := {"decision": true, "context": {"rule": sprintf("%v|%v|%v", [
	[x | x := input.subject.id],
	[x | x := input.context.arguments.x],
	[x | x := input.resource.properties.upstream],
])}}
"""
SOME = """package tollgate

default decision := false

decision if {
	input.subject.id == "a"
	input.context.arguments.x == input.resource.properties.upstream
	not input.context.listing
}
"""

# Values that careless keys confuse: types, nesting, separators, escapes, absence.
LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 0.0, 1.0, 1.5, "", "0", "1", "1.0", "true", "null", "a", "A", "a ", " a", "a,b", "a|b",
    "a:b", "a/b", "[]", "{}", '["a"]', '{"a":1}', "a\x00b", "\x00", '"', "\\", '\\"', "é", "e\u0301", "\u2028", "ａ",
    2**53 - 1, -(2**53) + 1, 1e300, 1e-300,
]  # fmt: skip
UPSTREAM = ("resource", "properties", "upstream")
PLACES = (("subject", "id"), ("context", "arguments", "x"), ("context", "listing"), UPSTREAM)


def value(rnd: random.Random, depth: int = 0) -> Any:
    turn = rnd.random()
    if depth > 2 or turn < 0.7:
        return rnd.choice(LEAVES)
    if turn < 0.85:
        return [value(rnd, depth + 1) for _ in range(rnd.randint(0, 3))]
    return {str(rnd.choice(["a", "b", "", "0", "x"])): value(rnd, depth + 1) for _ in range(rnd.randint(0, 3))}


def document(rnd: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in PLACES:
        if rnd.random() < 0.85:
            put(found, place, value(rnd))
    return found


def put(found: dict[str, Any], place: tuple[str, ...], item: Any) -> None:
    at = found
    for name in place[:-1]:
        at = at.setdefault(name, {})
    at[place[-1]] = item


def engine(text: str, **more: Any) -> EmbeddedEngine:
    return EmbeddedEngine(source_of({"a.rego": text}), **more)


def keyed(asked: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], bytes]:
    """The key under which the decision about a document is kept; the decision itself is left out."""
    keys: list[bytes] = []
    answer = Decision(False, "", "", "", "")

    def noted(key: bytes) -> Decision:
        keys.append(key)
        return answer

    monkeypatch.setattr(asked, "_here", noted)

    def key(found: dict[str, Any]) -> bytes:
        asked.decide(AccessRequest(found))
        return keys.pop()

    return key


@pytest.mark.slow
def test_a_hundred_thousand_pairs_that_differ_have_different_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document is compared with the one before it that has the same key, and with a neighbour that differs from it
    in one place."""
    rnd = random.Random(57)
    asked = engine(SOME)
    project, key_of = projector(asked.reads), keyed(asked, monkeypatch)
    seen: dict[bytes, Any] = {}
    pairs = 0
    while pairs < PAIRS:
        one = document(rnd)
        other = copy.deepcopy(one)
        put(other, rnd.choice(PLACES), value(rnd))
        for found in (one, other):
            key, picture = key_of(found), typed(project(found))
            assert seen.setdefault(key, picture) == picture, (key, found)
        if typed(project(one)) != typed(project(other)):
            pairs += 1
    assert len(seen) > 10_000


KEPT = engine(SOME)
FRESH = engine(SOME, settings=EmbeddedSettings(cache_entries=0))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(300), deadline=None)
@given(JSON, st.sampled_from(PLACES))
def test_a_kept_decision_is_the_one_that_would_be_made_afresh(item: Any, place: tuple[str, ...]) -> None:
    kept, fresh = KEPT, FRESH
    found: dict[str, Any] = {"subject": {"id": "a"}, "context": {"arguments": {"x": "u"}}}
    put(found, UPSTREAM, "u")
    put(found, place, item)
    request = AccessRequest(found)
    kept.decide(request)
    again, made = kept.decide(request), fresh.decide(request)
    assert isinstance(again, Decision)
    assert isinstance(made, Decision)
    assert (again.allow, again.rule, again.reason, again.fault) == (made.allow, made.rule, made.reason, made.fault)


def test_what_an_answer_tells_of_its_request_is_never_told_of_another() -> None:
    rnd = random.Random(5757)
    kept, fresh = engine(FAITHFUL), engine(FAITHFUL, settings=EmbeddedSettings(cache_entries=0))
    documents = [document(rnd) for _ in range(3000)]
    for found in documents + documents[::-1]:
        again, made = kept.decide(AccessRequest(found)), fresh.decide(AccessRequest(found))
        assert isinstance(again, Decision)
        assert isinstance(made, Decision)
        assert (again.allow, again.rule) == (made.allow, made.rule)
    assert len(kept._cache) > 1000


def test_on_a_kept_connection_nobody_is_told_what_was_decided_of_another() -> None:
    """The way a live request takes, where the caller's and the route's part of the key are kept with the head."""
    rnd = random.Random(575757)
    kept, fresh = engine(FAITHFUL), engine(FAITHFUL, settings=EmbeddedSettings(cache_entries=0))
    among = heads()
    for _ in range(3000):
        request = question(rnd, among)
        again, made = kept.decide(request), fresh.decide(AccessRequest(request.document))
        assert isinstance(again, Decision)
        assert isinstance(made, Decision)
        assert (again.allow, again.rule) == (made.allow, made.rule)
    assert 50 < len(kept._cache) < 1500


def test_another_policy_finds_nothing_of_this_ones_decisions() -> None:
    document: dict[str, Any] = {"subject": {"id": "a"}}
    yes = engine('package tollgate\n\ndecision if input.subject.id == "a"\n')
    no = engine('package tollgate\n\ndecision := false if input.subject.id == "a"\n')
    assert yes.revision != no.revision
    for _ in range(2):
        answers = [item.decide(AccessRequest(document)) for item in (yes, no)]
        assert [answer.allow for answer in answers if isinstance(answer, Decision)] == [True, False]
