"""Whatever a policy can see of a request is in the key of its kept decision: types, nesting, order, borders, spelling.

A pair of requests differs in one place, in one of the ways that a careless key does not notice.
"""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.reads import projector
from gateway.pdp.remote import Answer, Ask, Found, RemoteEngine, RemoteSettings
from gateway.pdp.sources import read_folder, source_of
from tests.core.questions import typed
from tests.pdp.asking import now, request, settled

ROW = 57
PAIRS = 100_000
NEIGHBOURS = 10
POLICIES = Path(__file__).resolve().parents[2] / "policies"

WHOLE = "package tollgate\n\ndecision if input.subject == input.context\n\nall := input\n"
DOCUMENT: dict[str, Any] = {
    "subject": {
        "type": "agent",
        "id": "agent:idp/Ann Lee",
        "properties": {
            "org": "acme", "roles": ["reader", "a,b", "1"], "issuer": "idp", "agent": "plan|ner",
            "delegated_by": ["agents/a", "agents/b"], "descriptor": {"digest": "sha256:aa", "signer": "acme"},
        },
    },
    "action": {"name": "mcp.tools/call"},
    "resource": {
        "type": "tool", "id": "bank/transfer", "properties": {"route": "bank", "upstream": "bank", "digest": ""},
    },
    "context": {
        "listing": False, "session": "s-1", "direction": None,
        "arguments": {
            "amount": 1, "path": "/srv/shared/caf\u00e9", "to": ["a@acme.example"], "currency": "EUR", "n": 1.5,
            "t": True,
            "deep": {"a": {"b": [0, [1, {"c": "\ufb01"}], []]}, "a.b": 0, "": "x"},
        },
        "budget": {"org-month": {"remaining": "41.50", "unit": "usd"}},
        "request": {"method": "POST", "path": "/bank", "peer": "127.0.0.1", "headers": {"user-agent": ["a", "b"]}},
    },
}  # fmt: skip


def copied(document: Any) -> Any:
    return orjson.loads(orjson.dumps(document))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in members:
        found += places(part, (*at, name))
    return found


def holder(document: Any, place: tuple[Any, ...]) -> Any:
    for name in place[:-1]:
        document = document[name]
    return document


def retyped(rnd: random.Random, value: Any) -> Any:
    """The same to whoever reads it, and another type."""
    return rnd.choice(
        [
            str(value),
            [value],
            {"": value},
            {"0": value},
            None,
            value == 1,
            1,
            1.0,
            True,
            "1",
            "true",
            0,
            0.0,
            -0.0,
            "",
            [],
            {},
            "null",
        ]
    )


def respelt(rnd: random.Random, value: Any) -> Any:
    if not isinstance(value, str):
        return retyped(rnd, value)
    other = rnd.choice(
        [value.upper(), value.lower(), value.casefold(), value + " ", " " + value, value + "\x00",
         value.replace("/", "//"),
         *(unicodedata.normalize(form, value) for form in ("NFC", "NFD", "NFKC", "NFKD")), value[:-1], value + "\u200b",
         value.replace("a", "\u0430"), value.replace("e", "%65"), value.replace("a", "\\u0061"), '"' + value + '"']
    )  # fmt: skip
    return other if other != value else value + "\u0301"


def reshaped(rnd: random.Random, value: Any) -> Any:
    """Other borders: a list as one text, a text as a list, two members as one, one level more or less."""
    if isinstance(value, list):
        joined = rnd.choice([",", " ", "", "|", "\x00"]).join(str(item) for item in value)
        return rnd.choice(
            [
                joined,
                [joined],
                [value],
                value[::-1],
                [*value, *value[-1:]],
                value[:-1],
                dict(enumerated(value)),
                [*value, None],
            ]
        )
    if isinstance(value, dict):
        items = list(value.items())
        return rnd.choice(
            [list(value), [list(item) for item in items], [value], {"": value}, dict(items[:-1]), {**value, "": None},
             {f"{name}.{name}": part for name, part in items}, {name.upper(): part for name, part in items}]
        )  # fmt: skip
    if isinstance(value, str):
        return rnd.choice([list(value), value.split("/"), value.split(","), [value[:1], value[1:]], {value: ""}])
    return retyped(rnd, value)


def enumerated(value: list[Any]) -> list[tuple[str, Any]]:
    return [(str(at), item) for at, item in enumerate(value)]


def changed(rnd: random.Random, document: dict[str, Any], place: tuple[Any, ...]) -> None:
    """One change at one place of a document."""
    around, name = holder(document, place), place[-1]
    turn = rnd.randrange(6)
    if turn == 0:
        del around[name]
    elif turn == 1 and isinstance(around, dict):  # the value under another name
        around[respelt(rnd, name)] = around.pop(name)
    elif turn == 2 and isinstance(around, dict) and len(around) > 1:  # two values change places
        other = rnd.choice([key for key in around if key != name])
        around[name], around[other] = around[other], around[name]
    else:
        make = (retyped, respelt, reshaped)[turn % 3]
        around[name] = make(rnd, around[name])


def keyed(engine: EmbeddedEngine) -> Callable[[dict[str, Any]], bytes]:
    """The key under which the decision about a document is kept; but for the first, the decision itself is left out."""
    looked: list[bytes] = []

    def key(document: dict[str, Any]) -> bytes:
        found = engine._excerpts.of(AccessRequest(document))
        if not looked:
            engine.decide(AccessRequest(document))
            assert not engine._keeps or list(engine._cache) == [found]
            looked.append(found)
        return found

    return key


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["whole", "rego", "worked/bounds", "worked/classification"])
def test_pairs_that_differ_in_any_field_have_different_keys(policy: str) -> None:
    """Together 10^5 pairs. What is not read may differ without another key, and does: that is what keeps decisions."""
    rnd = random.Random(policy)
    source = source_of({"a.rego": WHOLE}) if policy == "whole" else read_folder(POLICIES / policy)
    engine = EmbeddedEngine(source, EmbeddedSettings(in_process_bytes=1 << 20))
    project, key_of = projector(engine.reads), keyed(engine)
    seen: dict[bytes, Any] = {}
    pairs = alike = 0
    while pairs < PAIRS // 4:
        one = copied(DOCUMENT)
        for _ in range(rnd.choice([0, 0, 1, 2])):
            changed(rnd, one, rnd.choice(places(one)))
        read = [place for place in places(one) if policy == "whole" or near(engine.reads, place)] or places(one)
        picture, key = typed(project(one)), key_of(one)
        assert seen.setdefault(key, picture) == picture, (key, picture)
        for _ in range(NEIGHBOURS):
            other = copied(one)
            changed(rnd, other, rnd.choice(read))
            others, its = typed(project(other)), key_of(other)
            assert seen.setdefault(its, others) == others, (its, others)
            assert (its == key) == (others == picture)
            pairs, alike = pairs + (its != key), alike + (its == key)
    assert len(seen) > 1000
    assert policy == "whole" or alike > 100


def near(reads: frozenset[tuple[str, ...]], place: tuple[Any, ...]) -> bool:
    return any(path[: len(place)] == place[: len(path)] for path in reads)


def test_every_place_of_a_request_changes_the_key_of_a_policy_that_reads_all() -> None:
    """None is left out by chance: each is taken away once, retyped, and given to another name."""
    engine = EmbeddedEngine(source_of({"a.rego": WHOLE}), EmbeddedSettings(in_process_bytes=1 << 20))
    key_of = keyed(engine)
    seen: dict[bytes, Any] = {key_of(DOCUMENT): typed(DOCUMENT)}
    for place in places(DOCUMENT):
        for make in (
            lambda value: [value],
            lambda value: {"": value},
            lambda value: None if value is not None else "",
            None,
        ):
            other = copied(DOCUMENT)
            around = holder(other, place)
            if make is None:
                del around[place[-1]]
            else:
                around[place[-1]] = make(around[place[-1]])
            assert typed(other) != typed(DOCUMENT)
            assert key_of(other) != key_of(DOCUMENT), place
            assert seen.setdefault(key_of(other), typed(other)) == typed(other), place


TENANTS = """package tollgate

decision := {
	"decision": input.subject.properties.org == "acme",
	"context": {"rule": sprintf("%v", [input.subject.properties.org])},
}
"""


def test_what_was_decided_for_one_tenant_is_never_another_ones() -> None:
    engine = EmbeddedEngine(source_of({"a.rego": TENANTS}))
    orgs: list[Any] = ["acme", "Acme", "acme ", "other", "acm\u0435", ["acme"], None, 1, True, "1"]
    for _ in range(2):  # the second time they are kept
        for org in orgs:
            decision = now(engine.decide(AccessRequest({"subject": {"id": "a", "properties": {"org": org}}})))
            assert decision.allow is (org == "acme")
    assert len(engine._cache) == len(orgs)


IMPURE = {
    "the clock": "decision if time.now_ns() > 0",
    "the time of the request": 'decision if input.context.time != ""',
    "chance": 'decision if rand.intn("x", 5) >= 0',
    "an id by chance": 'decision if uuid.rfc4122("x") != ""',
    "below an else": "decision if input.nothing\n\nelse := f(1)\n\nf(x) := time.now_ns() > x",
    "in a comprehension": "decision if count([x | x := time.now_ns()]) == 1",
}


@pytest.mark.parametrize("name", IMPURE)
def test_a_policy_that_may_answer_otherwise_the_next_time_keeps_nothing(name: str) -> None:
    engine = EmbeddedEngine(source_of({"a.rego": "package tollgate\n\n" + IMPURE[name] + "\n"}))
    for _ in range(3):
        assert now(engine.decide(request())).allow is True
    assert not engine._cache


def test_what_was_a_fault_or_late_is_not_kept() -> None:
    moments = iter(range(0, 100, 1))
    engine = EmbeddedEngine(
        source_of({"a.rego": "package tollgate\n\ndecision := true\n"}), monotonic=lambda: next(moments)
    )
    assert now(engine.decide(request())).rule == "late"
    broken = EmbeddedEngine(
        source_of({"a.rego": "package tollgate\n\ndecision if input.context.arguments.n / 0 == 1\n"})
    )
    assert now(broken.decide(request({"n": 1}))).fault
    assert not engine._cache
    assert not broken._cache


class CountingAsker:
    """An engine elsewhere, which may have changed its mind."""

    name = "elsewhere"

    def __init__(self) -> None:
        self.asked = 0

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        async def ask(found: Found) -> None:
            self.asked += len(found)
            found[:] = [Answer(self.asked % 2 == 1) for _ in found]

        return ask

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


def test_an_engine_elsewhere_is_asked_each_time() -> None:
    asker = CountingAsker()
    engine = RemoteEngine(asker, RemoteSettings("elsewhere", deadline_s=30.0))

    async def story() -> list[bool]:
        answers: list[Decision | Awaitable[Decision]] = [engine.decide(request({"n": 1})) for _ in range(4)]
        return [(await settled(answer)).allow for answer in answers]

    assert asyncio.run(story()) == [True, False, True, False]
    assert asker.asked == 4
