"""What an answer says it cost: read where it may stand, from nothing else, however it arrives."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.protocols.a2a import A2a
from gateway.protocols.mcp import Mcp
from gateway.protocols.reported_cost import KEPT_BYTES, ReportedCost
from tests.ledger.pricing import prices

LISTED = prices(
    "tools: [{tool: up/draw, per_call: 1, reported_up_to: 5}]\nagents: [{agent: up, per_call: 1, reported_up_to: 5}]"
)
COST = {"tollgate/cost": {"usd": "0.25"}}
EVENTS = b"text/event-stream"
JSON = b"application/json"


def read(
    document: Any, *, member: str = "_meta", enveloped: bool = True, ident: Any = 1, events: bool = False, cut: int = 0
) -> Usage:
    found = ReportedCost(ident, member, enveloped, events, coded=False)
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    data = b"data: " + data + b"\n\n" if events else data
    for chunk in (data[:cut], data[cut:]):
        found.feed(chunk)
    usage = Usage()
    found.finish(usage)
    return usage


def result(ident: Any = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "result": {"content": [], **members}}


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (result(_meta=COST), 250_000),
        (result(_meta={"tollgate/cost": {"usd": "0.0000001"}}), 1),
        (result(_meta={**COST, "other": 1}), 250_000),
        (result(), None),
        (result(metadata=COST), None),
        (result(structuredContent={"_meta": COST}), None),
        (result(content=[{"type": "text", "text": json.dumps({"_meta": COST})}]), None),
        (result(2, _meta=COST), None),
        (result("1", _meta=COST), None),
        (result(True, _meta=COST), None),
        ({"jsonrpc": "2.0", "id": 1, "_meta": COST, "result": {}}, None),
        ({"jsonrpc": "2.0", "id": 1, "error": {"data": {"_meta": COST}}}, None),
        ({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"_meta": COST}}, None),
        (["tollgate/cost"], None),
        (b'{"tollgate/cost": ', None),
        *(
            (result(_meta={"tollgate/cost": {"usd": said}}), None)
            for said in (1, 0.5, "-1", "1e3", "NaN", "", None, [])
        ),
        (result(_meta={"tollgate/cost": "0.25"}), None),
        (result(_meta=[COST]), None),
    ],
)
def test_only_the_results_own_word_counts(document: Any, wanted: int | None, events: bool) -> None:
    usage = read(document, events=events)
    assert (usage.reported, usage.estimated) == (wanted, False)


@pytest.mark.parametrize(
    ("document", "enveloped"),
    [
        (result(task={"id": "t", "metadata": COST}), True),
        (result(message={"role": "ROLE_AGENT", "metadata": COST}), True),
        (result(metadata=COST), True),
        ({"task": {"id": "t", "metadata": COST}}, False),
        ({"statusUpdate": {"taskId": "t", "metadata": COST}}, False),
    ],
)
def test_an_agents_word_stands_in_the_metadata_of_what_it_answers_with(
    document: dict[str, Any], enveloped: bool
) -> None:
    assert read(document, member="metadata", enveloped=enveloped).reported == 250_000
    assert read(document, enveloped=enveloped).reported is None


def test_of_several_words_the_largest_counts() -> None:
    found = ReportedCost(1, "_meta", True, True, coded=False)
    for usd in ("0.10", "0.30", "0.20"):
        found.feed(b"data: " + json.dumps(result(_meta={"tollgate/cost": {"usd": usd}})).encode() + b"\n\n")
    usage = Usage()
    found.finish(usage)
    assert usage.reported == 300_000


def test_what_is_too_large_or_coded_is_not_read_and_marked() -> None:
    assert read(result(content=["x" * KEPT_BYTES], _meta=COST)).estimated
    assert read(result(content=["x" * KEPT_BYTES], _meta=COST), events=True, cut=KEPT_BYTES + 1000).estimated
    coded = ReportedCost(1, "_meta", True, False, coded=True)
    coded.feed(gzip.compress(json.dumps(result(_meta=COST)).encode()))
    usage = Usage()
    coded.finish(usage)
    assert (usage.reported, usage.estimated) == (None, True)


@given(cuts=st.lists(st.integers(0, 400), max_size=6), ends=st.booleans())
def test_it_does_not_matter_how_the_answer_was_cut(cuts: list[int], ends: bool) -> None:
    stream = b": ping\n\ndata: {}\n\ndata: " + json.dumps(result(_meta=COST)).encode() + (b"\n\n" if ends else b"")
    places = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    found = ReportedCost(1, "_meta", True, True, coded=False)
    for start, stop in pairwise(places):
        found.feed(stream[start:stop])
    usage = Usage()
    found.finish(usage)
    assert usage.reported == 250_000


def tool(wire: Any, name: str, **members: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
    headers = [("mcp-protocol-version", "2025-11-25")]
    return wire.classified(Mcp(), "POST", "/r", json.dumps(body).encode(), headers, **members)


def test_answers_are_read_only_where_the_price_list_says_so(wire: Any) -> None:
    answer = wire.Answer(200, [(b"content-type", JSON)])
    assert wire.reader(tool(wire, "draw", prices=LISTED), answer) is not None
    assert wire.reader(tool(wire, "write", prices=LISTED), answer) is None
    assert wire.reader(tool(wire, "draw"), answer) is None
    assert wire.reader(tool(wire, "draw", prices=LISTED), wire.Answer(500, [(b"content-type", JSON)])) is None
    message = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}
    asked = {"jsonrpc": "2.0", "id": "x", "method": "SendMessage", "params": message}
    agent = wire.classified(A2a(), "POST", "/r", json.dumps(asked).encode(), prices=LISTED)
    found = wire.reader(agent, answer)
    found.feed(json.dumps(result("x", task={"metadata": COST})).encode())
    usage = Usage()
    found.finish(usage)
    assert usage.reported == 250_000
