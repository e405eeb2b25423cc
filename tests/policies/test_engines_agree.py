"""The worked policies in Rego and in Cerbos: both engines, asked the same thousand requests, answer the same.

The embedded engine is the gateway's own, Cerbos is the real server.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.core.access import AccessRequest
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.sources import read_folder
from tests.pdp.asking import now
from tests.policies.cerbos_server import allowed, serving
from tests.policies.questions import WORKED, principal, question

POLICIES = Path(__file__).resolve().parents[2] / "policies"
CALLERS, EACH = 100, 10  # of each policy


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKED)
def test_both_engines_answer_a_thousand_requests_alike(name: str, tmp_path: Path) -> None:
    rnd = random.Random(name)
    engine = EmbeddedEngine(read_folder(POLICIES / "worked" / name), EmbeddedSettings(deadline_s=30.0))
    yes = asked = 0
    with serving(POLICIES / "cerbos" / name, tmp_path) as server:
        for _ in range(CALLERS):
            subject = principal(rnd)
            questions = [question(rnd, name, subject) for _ in range(EACH)]
            for document, theirs in zip(questions, allowed(server, questions), strict=True):
                ours = now(engine.decide(AccessRequest(document)))
                assert (ours.allow, ours.fault) == (theirs, False), (document, ours)
                yes, asked = yes + theirs, asked + 1
    assert asked == 1000
    assert 100 < yes < 900, "a policy that always says the same would agree with anything"
