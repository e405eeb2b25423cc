"""The worked policies in Rego and in Cerbos: both engines, asked the same thousand requests, answer the same.

Both are asked through the gateway's engines; behind one of them is a real Cerbos.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from gateway.core.access import AccessRequest
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.sources import read_folder
from tests.pdp.asking import now, run
from tests.pdp.engine_servers import cerbos_server
from tests.policies.cerbos_server import answers
from tests.policies.questions import WORKED, principal, question

POLICIES = Path(__file__).resolve().parents[2] / "policies"
CALLERS, EACH = 50, 20  # of each policy


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKED)
def test_both_engines_answer_a_thousand_requests_alike(name: str, tmp_path: Path) -> None:
    """The effect of each, and for calls of tools, which both policies speak of at length, rule and reason too."""
    rnd = random.Random(name)
    engine = EmbeddedEngine(read_folder(POLICIES / "worked" / name), EmbeddedSettings(deadline_s=30.0))
    questions = [
        question(rnd, name, subject) for subject in (principal(rnd) for _ in range(CALLERS)) for _ in range(EACH)
    ]
    with cerbos_server(POLICIES / "cerbos" / name, tmp_path) as server:
        found = run(answers(server.grpc, questions))
    said: Counter[bool] = Counter()
    for document, theirs in zip(questions, found, strict=True):
        ours = now(engine.decide(AccessRequest(document)))
        assert not ours.fault, (document, ours)
        assert not theirs.fault, (document, theirs)
        assert ours.allow == theirs.allow, (document, ours, theirs)
        if document["resource"]["type"] == "tool" and document["action"]["name"] == "mcp.tools/call":
            assert (ours.rule, ours.reason) == (theirs.rule, theirs.reason), (document, ours, theirs)
        said[ours.allow] += 1
    assert said.total() == 1000
    assert min(said[True], said[False]) > 100, "a policy that always says the same would agree with anything"
