"""OPA's own Rego v1 cases: what passes the checks at load answers as OPA does, or with an error, never otherwise.

Each case is loaded as a policy would be (rego_cases.py); the projection of its input is tried besides. What is counted
here is what docs/rego-conformance.md says.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path

from gateway.pdp.builtins import ALLOWED
from gateway.pdp.compiled import understand
from gateway.pdp.reads import paths_read, projector
from gateway.pdp.syntax import callee, target, visit_rule
from tests.pdp.rego_cases import asked, by_family, by_group, cases, input_of, judged, wrong_answers

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "rego-conformance.md"

# Answers that differ without an error, each with why no request can meet it.
NOT_OURS = {"inputvalues/input set": "its input holds a set, which JSON cannot; a request is JSON"}


def test_no_case_is_loaded_and_then_answered_otherwise_than_opa_answers_it() -> None:
    other = {item.note for item in judged() if item.served == "wrong"}
    assert other == set(NOT_OURS), other ^ set(NOT_OURS)
    counted = Counter(item.served for item in judged())
    assert counted.total() == 2067
    assert counted["right"] >= 1020, counted  # a check that refuses everything would pass the lines above
    assert counted["refused"] <= 920, counted


def test_every_wrong_answer_of_the_engine_is_refused_with_its_place_and_its_reason() -> None:
    """Not by a parser's error or by chance: by a check that names the construct."""
    wrong = [item for item in judged() if item.alone == "wrong" and item.note not in NOT_OURS]
    assert len(wrong) >= 10, "the engine has become better: look at what is refused, and at the document"
    for item in wrong:
        assert item.served == "refused", item.note
        assert item.refusal.startswith("m0.rego:"), item.refusal
        assert ": rule p: " in item.refusal, item.refusal


def test_the_document_has_the_figures_that_are_counted_here() -> None:
    """`python -m tests.pdp.rego_cases` prints them."""
    text = DOCUMENT.read_text()
    for table in (by_family, wrong_answers, by_group):
        assert "\n".join(table()) in text, f"{table.__name__}: the document says otherwise"
    for note in NOT_OURS:
        assert text.count(f"`{note}`") >= 2, "what is not refused is explained"
    assert f"gordon-to-regorus {version('gordon-to-regorus')}" in text


def test_every_allowed_builtin_is_proved_by_a_case() -> None:
    proved: set[str] = set()
    for item in judged():
        if item.served == "right" and item.source is not None:
            rules = understand(item.source)
            known = frozenset(rule.path for rule in rules)
            for rule in rules:
                for kind, content in visit_rule(rule):
                    if kind == "Call" and target(rule.scope, names := callee(content, rule.file), known) is None:
                        proved.add(".".join(names))
    assert ALLOWED - proved == set()


def test_what_is_not_read_does_not_change_the_answer() -> None:
    """The analysis of reads against the engine: the projection of an input gives what the whole input gives."""
    tried = 0
    for item in judged():
        case, source = item.case, item.source
        document = input_of(case) if "input" in case or "input_term" in case else None
        if source is None or not isinstance(document, dict) or not case["query"].startswith("data."):
            continue
        reads = paths_read(understand(source))
        if () in reads:
            continue
        tried += 1
        noisy = {**document, "beside": {"the": ["point"]}}
        assert projector(reads)(noisy) == projector(reads)(document)
        assert asked(source, case, projector(reads)(noisy)) == asked(source, case, document), item.note
    assert tried >= 60


def test_every_case_belongs_to_a_group() -> None:
    assert len({group for group, _ in cases()}) >= 120
