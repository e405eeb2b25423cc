"""What is read from entries by position is what a parse of them says, whatever callers and policies put into them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from itertools import count
from typing import Any

import orjson
import pytest

from gateway.stores import facets, openings
from gateway.stores.facets import Portion, PortionReader, code_of, facet_of, moment_of, second_of

EXCHANGE = "01a20435-91cb-7775-90cc-87798f67613a"
IDENT = "01a20435-91cb-7775-90cc-87798f676fff"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TIME = "2026-11-22T17:02:29.323762Z"
OTHER: dict[str, Any] = {
    "exchange": EXCHANGE, "id": IDENT, "kind": "outcome", "node": "n", "refusal": {"reason": "x"}, "request": {},
    "route": "x", "seq": 7, "subject": {"id": "other"}, "time": "2020-01-01T00:00:00.000000Z", "trace_id": TRACE,
    "upstream": {"name": "u"}, "v": 1,
}  # fmt: skip

NASTY: list[Any] = [
    f'"exchange":"{EXCHANGE}","id":"{IDENT}","kind":"intent","',
    ',"route":"x","seq":7,"subject":{"id":"other"},"time":"2020-01-01T00:00:00.000000Z"',
    OTHER,
    OTHER | {"node": "n\\"},
    {"refusal": {"reason": "x"}, "request": {}, "route": "x", "seq": 8, "time": TIME},
    {"id": IDENT, "kind": "intent", "node": "n", "request": {"a": "b"}},
    [{"seq": 7, "time": TIME}],
    "Z",
    "\\",
    '"',
    "",
    "\N{LINE SEPARATOR}",
]
TEXTS = ["a", "b", *(item for item in NASTY if isinstance(item, str))]


def budgets(key: Any, reserved: int) -> list[Any]:
    return [{"key": [key, "acme"], "name": "few", "reserved": str(reserved), "unit": "calls"}]


def entry(seq: int, **members: Any) -> bytes:
    whole = {"exchange": EXCHANGE, "id": IDENT, "kind": "intent", "node": "n", "time": TIME, "v": 1} | members
    return orjson.dumps(whole | {"seq": seq}, option=orjson.OPT_SORT_KEYS)


def common(seq: int, **members: Any) -> bytes:
    """As a gateway writes most of them."""
    whole: dict[str, Any] = {
        "action": "mcp.tools/call", "decision": {"effect": "allow", "reason": "readers may"}, "route": "w",
        "request": {"bytes": 7, "path": "/w"}, "resource": {"id": "w/x", "type": "tool"}, "trace_id": TRACE,
        "subject": {"id": "a", "roles": ["reader"], "type": "agent"}, "upstream": {"name": "u"},
    }  # fmt: skip
    if members.get("kind") == "outcome":
        whole |= {"response": {"status": 200}, "result": "ok", "us": seq, "usage": {"bytes_out": seq, "calls": 1}}
    return entry(seq, **whole | members)


def anything(source: random.Random, seq: int) -> bytes:
    """A record in which everybody had a hand who may have one, and some who may not."""
    members: dict[str, Any] = {"kind": source.choice(["intent", "outcome"] * 3 + ["refusal", "admin", "recovery"])}
    parts: dict[str, Any] = {
        "action": source.choice(TEXTS),
        "budgets": budgets(source.choice([*TEXTS, ']},"decision":{"effect":"deny"}', '],"decision":{']), seq),
        "decision": {"effect": source.choice(["allow", "deny", "warn"]), "reason": source.choice(TEXTS)},
        "exchange": source.choice([EXCHANGE, EXCHANGE[::-1], "x", 'y","id":"' + "z" * 29, "\\" * 18, "é" * 18]),
        "fault": source.choice(TEXTS),
        "filtered": {"hidden": 1, "shown": source.randrange(200)},
        "id": source.choice([IDENT, IDENT[::-1]]),
        "intent": 7,
        "limits": [{"name": source.choice(TEXTS), "remaining": source.randrange(200)}],
        "parent": source.choice(TEXTS),
        "refusal": {"reason": source.choice(["denied", "fault"]), "text": source.choice(TEXTS)},
        "request": {"capture": source.choice(NASTY), "path": source.choice(TEXTS)},
        "resource": {"id": source.choice(TEXTS), "type": "tool"},
        "response": {"capture": source.choice(NASTY), "status": 200},
        "result": source.choice(TEXTS),
        "route": source.choice(TEXTS),
        "shortened": True,
        "subject": {"id": source.choice(TEXTS), "roles": [source.choice(TEXTS)]},
        "time": source.choice([TIME, TIME.replace("17", "18"), TIME.replace("29.", "30.")]),
        "trace_id": source.choice([TRACE, TRACE[::-1]]),
        "upstream": {"address": "127.0.0.1:8", "name": source.choice("uvwZ")},
        "us": source.randrange(200),
        "usage": {"bytes_out": source.randrange(2000), "calls": 1},
    }
    odd = source.random()
    for name, value in parts.items():
        usual = name not in ("budgets", "fault", "filtered", "intent", "limits", "parent", "refusal", "shortened")
        if source.random() < (0.97 if usual else 0.2 * odd):
            members[name] = value
    if "decision" not in members:
        members.pop("budgets", None)  # nothing is reserved for what nobody decided
    if members["kind"] == "intent":
        members.pop("refusal", None)  # what is forwarded was not refused
    usual_exchange = {} if source.random() < odd else {"exchange": EXCHANGE}
    return entry(seq, **members | usual_exchange)


def usual(source: random.Random, seq: int) -> bytes:
    more: dict[str, Any] = {
        "action": source.choice("ab"), "budgets": budgets(source.choice(["a", "b", "]}", "longer"]), seq),
        "decision": {"effect": source.choice(["allow", "deny", "warn"])},
        "exchange": source.choice([EXCHANGE, EXCHANGE[::-1]]), "kind": source.choice(["intent", "outcome"]),
        "limits": [{"name": "few", "remaining": source.randrange(2000)}], "parent": IDENT, "route": source.choice("vw"),
        "subject": {"id": source.choice("ab")}, "time": source.choice([TIME, TIME.replace("29.", "30.")]),
        "upstream": {"name": source.choice(["u", "u-v", "uuuuuuuuuuuuuuZ"])},
    }  # fmt: skip
    return common(seq, **{name: value for name, value in more.items() if name == "kind" or source.random() < 0.5})


def parsed(entries: Sequence[tuple[int, bytes]]) -> Portion:
    """The plainest oracle."""
    records = [orjson.loads(data) for _, data in entries]
    exchanges = [record["exchange"] for record in records if "exchange" in record]
    return Portion(
        min(second_of(record["time"]) for record in records),
        max(second_of(record["time"]) for record in records),
        min(map(moment_of, exchanges), default=""),
        max(map(moment_of, exchanges), default=""),
        array("I", map(code_of, exchanges)).tobytes(),
        frozenset(map(facet_of, records)),
        sum(len(data) for _, data in entries),
    )


def only(reader: PortionReader, seq: int, data: bytes) -> Any:
    [facet] = reader.read([(seq, data)]).facets
    return facet


def test_reading_by_position_says_what_a_parse_says() -> None:
    for seed in range(60):
        source, reader = random.Random(seed), PortionReader()
        seq = source.choice([0, 5, 95, 99_990])
        for _ in range(40):
            entries = []
            for _ in range(source.randrange(1, 12)):
                seq += 1
                make = usual if source.random() < 0.7 else anything
                entries.append((seq, make(source, seq)))
            assert reader.read(entries) == parsed(entries), entries


def test_intents_and_outcomes_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[dict[str, Any]] = [
        {"kind": "intent"},
        {"kind": "outcome"},
        {"kind": "outcome", "limits": [{"name": "few", "remaining": 12}]},
        {"kind": "outcome", "parent": IDENT},
        {"kind": "outcome", "filtered": {"hidden": 2, "shown": 13}},
        {"kind": "outcome", "fault": "closed by the gateway"},
    ]
    charged = ({"budgets": budgets("x" * seq, seq)} if seq % 3 else {} for seq in count())
    reader = PortionReader()
    reader.read([(seq, common(seq, **shape)) for seq, shape in enumerate(shapes)])
    reader.read([(seq, common(seq, **shape, **next(charged))) for seq, shape in enumerate(shapes)])
    later = [(seq, common(seq, **shapes[seq % len(shapes)], **next(charged))) for seq in range(990, 1090)]
    expected = parsed(later)
    refused = [(6, common(6, kind="outcome", refusal={"reason": "denied"}))]

    def no(record: Any) -> Any:
        raise AssertionError("parsed")

    monkeypatch.setattr(facets, "facet_of", no)
    assert reader.read(later) == expected
    assert len(reader._routes) == 1, "whatever the seq"
    assert len(reader._openings._known) == 2, "with budgets, whatever they are, and without"
    with pytest.raises(AssertionError, match="parsed"):
        reader.read(refused)  # its reason is in no known shape


def test_another_subject_route_effect_or_kind_is_another_facet() -> None:
    reader = PortionReader()
    for members in (
        {"subject": {"id": "a"}}, {"subject": {"id": "b"}}, {"route": "w"}, {"route": "v"}, {"action": "x"}, {},
        {"decision": {"effect": "deny"}}, {"decision": {"effect": "allow"}}, {"kind": "outcome"},
        {"kind": "outcome", "decision": {"effect": "deny"}}, {"upstream": {"name": "a-longer-one"}},
    ):  # fmt: skip
        for _ in range(2):
            data = common(3, **members)
            assert only(reader, 3, data) == facet_of(orjson.loads(data))
    whole = [(seq, common(seq, subject={"id": who})) for seq, who in enumerate("abab")]
    assert {facet[0] for facet in reader.read(whole).facets} == {"a", "b"}


@pytest.mark.parametrize("side", ["request", "response"])
@pytest.mark.parametrize("kind", ["intent", "outcome", "refused"])
def test_what_a_caller_puts_into_a_capture_is_not_taken_for_the_record(side: str, kind: str) -> None:
    """The record before taught the reader every fragment that the capture repeats, at one distance after another."""
    taught = "outcome" if kind == "refused" else kind
    copied = orjson.loads(common(9, kind=taught))
    own: dict[str, Any] = {"subject": {"id": "mallory"}, "time": TIME.replace("T17", "T18"), "kind": taught}
    if kind == "refused":
        own["refusal"] = {"reason": "denied"}
    for room in range(400):
        reader = PortionReader()
        only(reader, 9, common(9, kind=taught))
        data = common(9, **own, **{side: {"capture": copied, "path": "/w" + "x" * room}})
        assert reader.read([(9, data)]) == parsed([(9, data)])


def test_a_refusal_is_seen_behind_a_capture_that_looks_like_none() -> None:
    reader = PortionReader()
    only(reader, 9, common(9, kind="outcome"))
    capture = {"node": "n", "request": {"path": "/w"}}
    data = common(9, kind="outcome", refusal={"reason": "denied"}, request={"capture": capture, "path": "/w"})
    assert only(reader, 9, data)[-1] == "denied"


def both(first: bytes, second: bytes) -> None:
    """The second is read as it is, whatever the first taught; both have seqs of one digit."""
    entries = [(1, first), (2, second)]
    assert PortionReader().read(entries) == parsed(entries)


@pytest.mark.parametrize(
    ("exchange", "more"),
    [
        ("x", {"fault": "b" * 24}),  # the quote that ends this fault stands where that of the exchange would
        ('"' * 18, {}),  # 36 bytes when escaped
        ("a" * 36 + "wxyz", {"id": IDENT[4:]}),  # `kind` stands where it would
        ("x", {}),
        ("é" * 40, {}),
        ("", {}),
    ],
)
def test_an_exchange_that_is_no_uuid_is_kept_as_it_is(exchange: str, more: dict[str, Any]) -> None:
    both(common(1), common(2, exchange=exchange, **more))


def test_an_object_that_looks_like_a_record_is_none() -> None:
    inner = {"exchange": EXCHANGE[::-1], "id": IDENT, "kind": "intent", "z": 1}
    both(common(1), common(2, decision={"effect": "deny"} | inner))
    both(common(1), common(2, kind="indeed"))
    response = {"a": 0, "route": "fake", "z": 1}
    without = orjson.loads(common(2, response=response))
    for name in ("route", "seq"):
        del without[name]
    data = orjson.dumps(without, option=orjson.OPT_SORT_KEYS)
    assert b':1},"subject"' in data
    both(common(1), data)
    assert only(PortionReader(), 10, data)[2] is None, "its last two bytes are as long as the seq"


@pytest.mark.parametrize("inner", ["", TRACE, "short"])
def test_an_intent_of_nobody_is_not_taken_for_the_one_in_its_request(inner: str) -> None:
    """It ends as the one before did, and at that distance from the end there is a time, though not its own."""
    request = {"path": "/w", "route": "fake", "seq": 2, "subject": {"id": "fake"}, "time": TIME} | (
        {"trace_id": inner} if inner else {}
    )
    whole = orjson.loads(common(2, request=request, time=TIME.replace("T17", "T18")))
    for name in ("resource", "route", "subject", "trace_id"):
        del whole[name]
    for length in range(80):
        upstream = {"name": "u" * length}
        short = orjson.loads(common(1, upstream=upstream))
        del short["trace_id"]
        for first in (common(1, upstream=upstream), orjson.dumps(short, option=orjson.OPT_SORT_KEYS)):
            both(first, orjson.dumps(whole, option=orjson.OPT_SORT_KEYS))
            both(first, orjson.dumps(whole | {"upstream": upstream}, option=orjson.OPT_SORT_KEYS))


def test_a_text_behind_the_time_that_ends_like_one_is_none() -> None:
    for length in range(60):
        both(common(1), common(2, kind="outcome", ts="u" * length + "Z"))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "_KNOWN_MOST", 10)
    monkeypatch.setattr(facets, "_KNOWN_BYTES", 300)
    monkeypatch.setattr(openings, "KNOWN_MOST", 10)
    reader = PortionReader()
    for number in range(100):
        data = common(
            3, action=f"a{number}", route=f"r{number}", subject={"id": f"s{number}"}, upstream={"name": f"u{number}"}
        )
        assert only(reader, 3, data)[:3] == (f"s{number}", f"a{number}", f"r{number}")
        for known in (reader._openings._known, reader._subjects, reader._routes):
            assert 0 < len(known) <= 10  # type: ignore[arg-type]
    only(reader, 3, common(3, subject={"id": "long" * 100}))
    assert max(map(len, reader._subjects), default=0) <= 300
