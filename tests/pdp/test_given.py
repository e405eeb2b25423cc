"""What a policy was given is named by its digest in each decision, and remembered for a while for people who ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.core.access import AccessRequest
from gateway.core.canonical import digest
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.pdp.embedded import RECENT
from gateway.pdp.remote import Answer, Ask, RemoteEngine, RemoteSettings
from tests.pdp.asking import engine, now, request, run, settled

READS = "decision if input.context.arguments.n > 1"


def test_the_digest_is_of_what_was_read_and_a_kept_decision_has_the_same() -> None:
    asked = engine(READS)
    first, again = now(asked.decide(request({"n": 2}, session="a"))), now(asked.decide(request({"n": 2}, session="b")))
    assert first.input == again.input == digest(b'{"context":{"arguments":{"n":2}}}')
    assert (first.ms > 0, again.ms) == (True, 0.0)
    assert now(asked.decide(request({"n": 3}))).input != first.input
    assert first.input == digest(Excerpts(asked.reads).of(request({"n": 2})))


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("decision := 1 / input.context.arguments.n", {"n": 0}),
        ("decision if input.context.arguments.nothing", {"n": 0}),
        ("decision if { some n in numbers.range(1, input.context.arguments.n); n == 3 }", {"n": 3}),
        (READS, {"n": "x" * 20_000}),
    ],
    ids=["fault", "undefined", "in the child", "large"],
)
def test_whatever_came_of_it_has_the_digest(text: str, arguments: dict[str, Any]) -> None:
    async def story() -> None:
        asked = engine(text)
        try:
            decision: Decision = await settled(asked.decide(request(arguments)))
            assert decision.input == digest(Excerpts(asked.reads).of(request(arguments)))
        finally:
            await asked.aclose()

    run(story())


def test_what_was_given_is_remembered_whether_decisions_are_kept_or_not() -> None:
    for asked in (engine(READS), engine(READS, cache_entries=0)):
        first = now(asked.decide(request({"n": 2}))).input
        assert asked.given(first) == b'{"context":{"arguments":{"n":2}}}'
        assert asked.given("sha256:00") is None
    for number in range(RECENT):
        now(asked.decide(request({"n": 10 + number})))
    assert asked.given(first) is None, "the oldest is forgotten"


def test_what_is_remembered_of_large_inputs_is_bounded() -> None:
    async def story() -> None:
        asked = engine(READS, cache_entries=0)
        try:
            decision: Decision = await settled(asked.decide(request({"n": "x" * 20_000})))
            assert asked.given(decision.input) is None
        finally:
            await asked.aclose()

    run(story())


class Yes:
    """An engine that says yes to whatever it is asked."""

    name = "yes"

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        async def ask(found: Any) -> None:
            found[:] = [Answer(True)] * len(requests)

        return ask

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_decision_from_elsewhere_names_the_whole_question() -> None:
    async def story() -> None:
        asked = RemoteEngine(Yes(), RemoteSettings("r"))
        decision: Decision = await settled(asked.decide(request({"n": 2})))
        assert decision.allow
        assert decision.input == digest(orjson.dumps(dict(request({"n": 2}).document)))

    run(story())
