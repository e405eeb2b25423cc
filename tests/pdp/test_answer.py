"""What a policy says, read strictly: allow only for an answer that is understood whole."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Obligation
from gateway.pdp.answer import REASON_CHARACTERS, Reader

READER = Reader("embedded", "sha256:0", frozenset({"redact"}))


def test_true_is_an_allow() -> None:
    decision = READER.read(True, 1.5)
    assert (decision.allow, decision.obligations, decision.fault, decision.ms) == (True, (), False, 1.5)
    assert (decision.engine, decision.revision) == ("embedded", "sha256:0")


def test_false_is_a_deny_and_no_fault() -> None:
    decision = READER.read(False, 0.0)
    assert (decision.allow, decision.fault) == (False, False)
    assert decision.reason


def test_an_object_says_why_and_by_which_rule() -> None:
    answer: Any = {"decision": False, "context": {"reason": "Stations are never deleted", "rule": "forbidden"}}
    decision = READER.read(answer, 0.0)
    assert (decision.allow, decision.reason, decision.rule) == (False, "Stations are never deleted", "forbidden")


def test_an_obligation_that_can_be_fulfilled_is_handed_on() -> None:
    answer: Any = {"decision": True, "context": {"obligations": [{"type": "redact", "paths": ["/a"]}]}}
    decision = READER.read(answer, 0.0)
    assert decision.allow is True
    assert decision.obligations == (Obligation("redact", {"paths": ["/a"]}),)


def test_an_obligation_that_cannot_is_a_deny_that_names_it() -> None:
    answer: Any = {"decision": True, "context": {"obligations": [{"type": "redact", "paths": ["/a"]}, {"type": "fly"}]}}
    decision = READER.read(answer, 0.0)
    assert (decision.allow, decision.fault, decision.obligations) == (False, False, ())
    assert "'fly'" in decision.reason


@pytest.mark.parametrize(
    ("obligation", "words"),
    [
        ({"type": "require_approval", "approvers": ["ops"], "ttl": "15m"}, "approvals are not in this version"),
        ({"type": "require_approval"}, "approvals are not in this version"),
    ],
)
def test_what_is_known_and_not_built_is_a_deny_that_says_so(obligation: Any, words: str) -> None:
    answer: Any = {"decision": True, "context": {"rule": "all", "obligations": [obligation]}}
    decision = Reader("embedded", "sha256:0").read(answer, 0.0)
    assert (decision.allow, decision.fault, decision.rule) == (False, False, "all")
    assert words in decision.reason


def test_a_deny_stays_one_whatever_it_asks_for() -> None:
    answer: Any = {"decision": False, "context": {"reason": "no", "obligations": [{"type": "unheard_of"}]}}
    assert (READER.read(answer, 0.0).allow, READER.read(answer, 0.0).reason) == (False, "no")


WRONG = [
    (None, "null"),
    (1, "a number"),
    (1.0, "a number"),
    ("true", "text"),
    ("allow", "text"),
    ([True], "a list"),
    ([], "a list"),
    ({}, "decision is null"),
    ({"allow": True}, "decision is null"),
    ({"decision": 1}, "decision is a number"),
    ({"decision": "true"}, "decision is text"),
    ({"decision": None}, "decision is null"),
    ({"decision": [True]}, "decision is a list"),
    ({"decision": {"decision": True}}, "decision is an object"),
    ({"decision": True, "context": None}, "context is null"),
    ({"decision": True, "context": "fine"}, "context is text"),
    ({"decision": True, "context": []}, "context is a list"),
    ({"decision": True, "obligations": [{"type": "redact"}]}, "'obligations' is not known"),
    ({"decision": True, "context": {"obligation": [{"type": "redact"}]}}, "'obligation' is not known"),
    ({"decision": True, "context": {"reason": ["ok"]}}, "reason is a list"),
    ({"decision": True, "context": {"rule": None}}, "rule is null"),
    ({"decision": True, "context": {"obligations": {"type": "redact"}}}, "obligations is an object"),
    ({"decision": True, "context": {"obligations": None}}, "obligations is null"),
    ({"decision": True, "context": {"obligations": ["redact"]}}, "an obligation is not"),
    ({"decision": True, "context": {"obligations": [{"paths": []}]}}, "an obligation is not"),
    ({"decision": True, "context": {"obligations": [{"type": 1}]}}, "an obligation is not"),
    ({"decision": True, "context": {"obligations": [None]}}, "an obligation is not"),
    (
        {"decision": True, "context": {"obligations": [{"type": "redact", "paths": "/a"}]}},
        "redact: paths is not a list",
    ),
    (
        {"decision": True, "context": {"obligations": [{"type": "redact", "path": ["/a"]}]}},
        "member 'path' is not known",
    ),
]


@pytest.mark.parametrize(("answer", "words"), WRONG, ids=[str(answer) for answer, _ in WRONG])
def test_anything_else_is_a_deny_that_says_what_it_was(answer: Any, words: str) -> None:
    decision = READER.read(answer, 0.0)
    assert decision.allow is False
    assert words in decision.reason
    assert decision.rule == "wrong_type"


def test_a_reason_does_not_grow_with_the_callers_input() -> None:
    answer: Any = {"decision": False, "context": {"reason": "x" * 100_000}}
    assert len(READER.read(answer, 0.0).reason) == REASON_CHARACTERS


def test_undefined_is_a_deny_that_says_so_and_no_fault() -> None:
    decision = READER.undefined(0.0)
    assert (decision.allow, decision.fault) == (False, False)
    assert "undefined" in decision.reason
