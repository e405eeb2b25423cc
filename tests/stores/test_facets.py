"""What is read from an entry by position is what a parse of it says, whatever callers and policies put into records."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from gateway.stores import facets
from gateway.stores.facets import FactReader, facts_of

EXCHANGE = "01a20435-91cb-7775-90cc-87798f67613a"
IDENT = "01a20435-91cb-7775-90cc-87798f676fff"
TIME = "2026-11-22T17:02:29.323762Z"

NASTY: list[Any] = [
    f'"exchange":"{EXCHANGE}","id":"{IDENT}","kind":"intent","',
    ',"route":"x","seq":7,"subject":{"id":"other"},"time":"2020-01-01T00:00:00.000000Z"',
    {"exchange": EXCHANGE, "id": IDENT, "kind": "outcome", "route": "x", "seq": 7, "subject": {"id": "other"}},
    {"refusal": {"reason": "x"}, "request": {}, "route": "x", "seq": 8, "time": TIME},
    [{"seq": 7, "time": TIME}],
    "\\",
    '"',
    "",
    "\N{LINE SEPARATOR}",
]


def entry(seq: int, **members: Any) -> bytes:
    whole = {"exchange": EXCHANGE, "id": IDENT, "kind": "intent", "node": "n", "time": TIME, "v": 1} | members
    return orjson.dumps(whole | {"seq": seq}, option=orjson.OPT_SORT_KEYS)


def made(random: random.Random, seq: int) -> bytes:
    def text() -> Any:
        return random.choice(["a", "b", *(item for item in NASTY if isinstance(item, str))])

    members: dict[str, Any] = {"kind": random.choice(["intent", "outcome", "refusal", "admin", "recovery"])}
    parts: dict[str, Any] = {
        "action": text(),
        "decision": {"effect": random.choice(["allow", "deny"]), "reason": text()},
        "exchange": random.choice([EXCHANGE, EXCHANGE, EXCHANGE[::-1], "x", 'y","id":"' + "z" * 29, "\\" * 18]),
        "fault": text(),
        "intent": 7,
        "limits": [random.choice(NASTY)],
        "parent": text(),
        "refusal": {"reason": text(), "text": text()},
        "request": {"capture": random.choice(NASTY), "path": text()},
        "route": text(),
        "subject": {"id": text(), "roles": [text()]},
        "upstream": {"name": text()},
        "time": random.choice([TIME, TIME.replace("17", "18"), "2026"]),
    }
    for name, value in parts.items():
        if random.random() < 0.6:
            members[name] = value
    return entry(seq, **members)


def test_reading_by_position_says_what_a_parse_says() -> None:
    for seed in range(20):
        source, reader = random.Random(seed), FactReader()
        for _ in range(500):
            seq = source.choice([7, 8, 70, 12345])
            data = made(source, seq)
            assert reader.read(seq, data) == facts_of(orjson.loads(data)), data


def test_a_known_shape_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    members: dict[str, Any] = {
        "action": "mcp.tools/call", "decision": {"effect": "allow"}, "request": {"path": "/w"}, "route": "w",
        "subject": {"id": "a"},
    }  # fmt: skip
    reader = FactReader()
    for kind in ("intent", "outcome"):
        reader.read(1, entry(1, kind=kind, **members))
    later = [entry(seq, kind=kind, us=seq, **members) for kind in ("intent", "outcome") for seq in (5, 123_456)]
    expected = [facts_of(orjson.loads(data)) for data in later]
    refused = entry(6, kind="outcome", refusal={"reason": "denied"}, **members)
    monkeypatch.setattr(facets, "facts_of", lambda record: record["kind"])
    assert [reader.read(orjson.loads(data)["seq"], data) for data in later] == expected
    assert reader.read(6, refused) == "outcome", "its reason is in no known shape"


def test_another_subject_route_effect_or_kind_is_another_facet() -> None:
    reader = FactReader()
    plain = {"request": {"path": "/w"}}
    for members in (
        {"subject": {"id": "a"}}, {"subject": {"id": "b"}}, {"route": "w"}, {"route": "v"}, {"action": "x"}, {},
        {"decision": {"effect": "deny"}}, {"decision": {"effect": "allow"}}, {"kind": "outcome"},
    ):  # fmt: skip
        for _ in range(2):
            data = entry(3, **plain, **members)
            assert reader.read(3, data) == facts_of(orjson.loads(data))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "_KNOWN_MOST", 10)
    reader = FactReader()
    for number in range(100):
        data = entry(3, action=f"a{number}", request={})
        assert reader.read(3, data)[0].action == f"a{number}"
        assert len(reader._known) <= 10
