"""How entries begin: what is told by its bytes says what a parse says, and nothing else is told so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.canonical import encode
from gateway.stores import openings
from gateway.stores.openings import Openings

IDENT = "01a20675-49c3-7880-9dd4-2a3a4777eb77"
DIGEST = "6b" * 32
BUDGET = {"key": ["acme"], "name": "month", "reserved": "1", "unit": "calls"}


def entry(**members: Any) -> bytes:
    found: dict[str, Any] = {
        "action": "mcp.tools/call", "decision": {"effect": "allow", "input": f"sha256:{DIGEST}", "rule": "r"},
        "exchange": IDENT, "id": IDENT, "kind": "intent", "v": 1,
    }  # fmt: skip
    return encode({name: value for name, value in (found | members).items() if value is not None})


def told(reader: Openings, data: bytes) -> tuple[str, str | None, str | None]:
    at = reader.at(data)
    assert at > 0, data
    return data[at : at + 36].decode(), reader.last.action, reader.last.effect


def test_budgets_and_inputs_differ_and_it_is_looked_into_once() -> None:
    reader = Openings()
    shapes = [
        entry(budgets=[BUDGET] * (number % 3 + 1), decision={"effect": "allow", "input": f"sha256:{number:064x}"})
        for number in range(20)
    ]
    for data in shapes:
        assert told(reader, data) == (IDENT, "mcp.tools/call", "allow")
        start = len(reader.last.charged) - 1
        assert json.loads(data[start : start + reader.last.budgets + 2]) == json.loads(data)["budgets"], (
            "where they lie"
        )
    assert len(reader._known) == 1


def test_each_shape_says_its_own_also_by_turns() -> None:
    shapes = [
        ({}, "mcp.tools/call", "allow"),
        ({"decision": {"effect": "deny", "rule": "r"}}, "mcp.tools/call", "deny"),
        ({"decision": {"effect": "allow", "input": f"sha256:{DIGEST}", "rule": "longer"}}, "mcp.tools/call", "allow"),
        ({"decision": {"effect": "audit", "input": f"sha256:{DIGEST}", "rule": "r"}}, "mcp.tools/call", "audit"),
        ({"decision": {"effect": "allow", "input": "sha256:short", "rule": "r" * 80}}, "mcp.tools/call", "allow"),
        ({"decision": None}, "mcp.tools/call", None),
        ({"decision": None, "action": None}, None, None),
        ({"budgets": [BUDGET]}, "mcp.tools/call", "allow"),
        ({"budgets": [BUDGET], "decision": {"effect": "deny"}}, "mcp.tools/call", "deny"),
        ({"action": 'odd","budgets":['}, 'odd","budgets":[', "allow"),
    ]
    reader = Openings()
    for _ in range(3):
        for members, action, effect in shapes:
            assert told(reader, entry(**members)) == (IDENT, action, effect)
    for members, _, _ in shapes:
        data = entry(**members)
        assert [reader.intent(data, reader.at(data)) for _ in range(2)] == [True, True]
        other = entry(**members, kind="outcome")
        assert not reader.intent(other, reader.at(other))


@pytest.mark.parametrize(
    "hole",
    [
        DIGEST[:-1] + "\\",  # the quote behind it is none
        DIGEST[:20] + '","exchange":"' + "x" * 30,
        DIGEST[:-1] + '"',
    ],
)
def test_where_the_digest_ends_otherwise_nothing_is_told(hole: str) -> None:
    reader = Openings()
    first = entry()
    assert told(reader, first)[0] == IDENT
    assert len(hole) == 64
    forged = first.replace(DIGEST.encode(), hole.encode())
    assert reader.last.at(forged) == -1


def test_what_is_no_object_is_not_told() -> None:
    reader = Openings()
    for data in (b'{"a":1', b'["exchange":"' + IDENT.encode(), b'{"kind":"checkpoint","v":1}', b"", b'"exchange":"x"'):
        assert reader.at(data) == -1
    assert told(reader, entry())[0] == IDENT
    assert reader.at(b'{"kind":"checkpoint","v":1}') == -1


def test_an_exchange_within_another_member_is_not_the_entrys_own() -> None:
    reader = Openings()
    data = entry(descriptor={"exchange": "x" * 36}, exchange=None)
    assert reader.at(data) == -1


def test_what_is_remembered_is_bounded() -> None:
    reader = Openings()
    for number in range(openings.KNOWN_MOST + 10):
        assert told(reader, entry(action=f"a{number}"))[1] == f"a{number}"
        assert len(reader._known) <= openings.KNOWN_MOST
    told(reader, entry(action="a" * openings.KNOWN_BYTES))
    assert max(map(len, reader._known)) <= openings.KNOWN_BYTES
