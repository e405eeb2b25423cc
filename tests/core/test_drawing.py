"""What is drawn is what would be encoded: byte for byte, for every shape of an ordinary exchange."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import records
from gateway.core.accounts import Account, Budget, Charge, key_text
from gateway.core.drawing import KEPT_FRAGMENTS, Drawing, Drawn
from gateway.core.exchange import Call, Decision, Exchange, Head, Principal
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.log.entry import encode

ANN = Principal("user:idp/ann", "user", org="acme", roles=("reader", "wrïter"), agent="planner")
ALLOW = Decision(True, 'said "yes"\n', "role reader", "embedded", "sha256:00")
NOW = 1_700_000_000.25

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def opened(**wanted: Any) -> Exchange:
    head = Head("POST", "/tools?a=1", "/tools", "a=1", "gw.test", "http", (), "192.0.2.7")
    route = Route("tools", "/tools", "", "shop", "required", "json")
    upstream = Upstream("shop", "http", "http", "127.0.0.1", 9, "127.0.0.1:9", "/base")
    protocol: Any = SimpleNamespace(name="mcp")
    snapshot: Any = SimpleNamespace()
    found = Exchange("exchange-1", 1_700_000_000.0, 5.0, head, snapshot, route, upstream, protocol)
    call = Call("mcp.tools/call", "tool", "shop/pay")
    members = {"asked": call, "principal": ANN, "decision": ALLOW, "body": b"{}", "trace_id": "0af7"} | wanted
    for name, value in members.items():
        if name == "charges":
            found.charges = [charge(*item) for item in value]
        else:
            setattr(found.usage if hasattr(found.usage, name) else found, name, value)
    return found


def charge(name: str, key: str, period: str, unit: str, reserved: int, settled: int, marks: tuple[int, ...]) -> Charge:
    made = Charge(Budget(name, ("subject.org",), unit, 10**9, "month"), Account(name, key, period), reserved)
    made.settled, made.marks = settled, marks
    return made


def whole(drawn: Drawn, seq: int) -> bytes:
    """As the sequencer completes it."""
    return b'%s"node":"n",%s,"seq":%d%s' % (drawn.before, drawn.middle, seq, drawn.after)


def both(exchange: Exchange, drawing: Drawing) -> None:
    other = copy.copy(exchange)
    intent = drawing.intent(exchange, "id-1", NOW)
    assert intent is not None
    assert whole(intent, 7) == encode(records.intent(other, "id-1", NOW) | {"v": 1, "seq": 7, "node": "n"})
    exchange.intent_seq = other.intent_seq = 7
    for found in (exchange, other):
        found.status, found.response_digest, found.upstream_ms = 200, "sha256:aa", 3.9
        found.upstream_address = "127.0.0.1:9"
        found.usage.bytes_in, found.usage.bytes_out = 12, 345
    outcome = drawing.outcome(exchange, "id-2", NOW + 1)
    assert outcome is not None
    assert whole(outcome, 8) == encode(records.terminal(other, "id-2", NOW + 1) | {"v": 1, "seq": 8, "node": "n"})


ORDINARY: list[dict[str, Any]] = [
    {},
    {"body": None},
    {"body": None, "trace_id": ""},
    {"client_id": 'a"b\\'},
    {"item_digest": "sha256:01"},
    {"descriptor": {"tool": {"digest": "sha256:01"}, "agent": {"signer": "acme", "digest": "sha256:02"}}},
    {"limits": [{"name": "a", "remaining": 3}, {"name": "b", "remaining": 0}]},
    {"principal": Principal("anonymous", "anonymous")},
    {"decision": replace(ALLOW, reason="\u2028\x7f\x00é")},
    {"decision": replace(ALLOW, input="sha256:" + "1" * 64)},
    {"decision": replace(ALLOW, input="sha256:" + "2" * 64)},
    {"decision": replace(ALLOW, mode="report")},
    {"decision": replace(ALLOW, allow=False, mode="report")},
    {"asked": Call("http.GET", "endpoint", "/ü")},
    {"charges": [("org-month", '["acme"]', "2026-11-01T00:00:00Z", "usd", 1_500_000, 20_001, ())]},
    {"charges": [("total", '["\\u00fc,\\"decision\\":", null]', "", "tokens", 17, 0, (500, 800))]},
    {
        "charges": [("a", "[]", "", "usd", 1, 2, ()), ("b", '["x"]', "", "calls", 1, 1, (50,))],
        "limits": [{"name": "l"}],
    },
    {"attempts": 3},
    {"usd": 1},
    {"usd": 12_345_678, "unpriced": True},
    {"estimated": True, "usd": 0},
    {"input_tokens": 4, "cache_write_tokens": 3, "usd": 5},
    {"reported": 120_000, "usd": 100_000},
    {"input_tokens": 4, "output_tokens": 9, "cache_write_1h_tokens": 1, "image_output_tokens": 2, "tier": "flex"},
    {"input_tokens": 4, "audio_tokens": 1, "audio_output_tokens": 2, "reasoning_tokens": 3, "image_tokens": 0},
]


@pytest.mark.parametrize("wanted", ORDINARY, ids=str)
def test_what_is_drawn_is_the_canonical_form_of_the_record(wanted: dict[str, Any]) -> None:
    both(opened(**wanted), Drawing())


@given(text, text, text, text, st.booleans())
def test_whatever_a_caller_or_a_policy_puts_there_is_spelled_alike(
    action: str, name: str, reason: str, client: str, body: bool
) -> None:
    wanted = {"asked": Call(action, "tool", name), "decision": replace(ALLOW, reason=reason), "client_id": client}
    both(opened(**wanted, body=b"x" if body else None), Drawing())


@given(text, text, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1), st.sampled_from(["usd", "tokens"]))
def test_whatever_a_key_has_budgets_are_spelled_alike(
    action: str, value: str, reserved: int, settled: int, unit: str
) -> None:
    charges = [("b", key_text((value, None, action)), "", unit, reserved, settled, ())]
    both(opened(charges=charges, asked=Call(action, "tool", value)), Drawing())


def test_fragments_are_told_apart_by_all_they_say() -> None:
    drawing = Drawing()
    for wanted in (*ORDINARY, *reversed(ORDINARY)):
        both(opened(**wanted), drawing)
    head = opened().head
    for principal in (ANN, replace(ANN, org="other"), ANN):  # one connection, two callers
        both(opened(head=head, principal=principal), drawing)


def test_what_is_kept_of_an_account_says_what_each_charge_of_it_came_to() -> None:
    drawing, account = Drawing(), Account("b", '["acme"]', "")
    for unit, reserved, settled, marks in (
        ("usd", 5, 3, ()), ("usd", 5, 3, ()), ("usd", 6, 3, ()), ("usd", 6, 4, ()), ("usd", 6, 4, (500,)),
        ("usd", 6, 4, ()), ("tokens", 6, 4, ()), ("usd", 0, 0, ()),
    ):  # fmt: skip
        exchange = opened()
        exchange.charges = [Charge(Budget("b", ("subject.org",), unit, 10**9, "total"), account, reserved)]
        exchange.charges[0].settled, exchange.charges[0].marks = settled, marks
        both(exchange, drawing)


def test_what_counted_of_descriptors_is_drawn_as_it_is_now() -> None:
    drawing = Drawing()
    tool, other = {"digest": "sha256:01"}, {"digest": "sha256:02"}
    for descriptor in ({"tool": tool}, {"prompt": tool}, {"tool": other}, {"tool": tool, "agent": other}):
        both(opened(descriptor=dict(descriptor)), drawing)
    for number in range(3000):  # each is made anew, perhaps where the one before was
        both(opened(descriptor={"tool": {"digest": f"sha256:{number}"}}), drawing)
    shared = opened(descriptor={"tool": tool})
    both(shared, drawing)
    assert shared.descriptor is not None
    shared.descriptor["agent"] = other  # as a later check of the same exchange does
    both(opened(descriptor={"tool": tool}), drawing)


def test_token_counts_are_drawn_too() -> None:
    exchange, drawing = opened(), Drawing()
    drawing.intent(exchange, "id-1", NOW)
    other = copy.copy(exchange)
    exchange.intent_seq = other.intent_seq = 1
    exchange.usage.input_tokens, exchange.usage.estimated = 5, True
    outcome = drawing.outcome(exchange, "id-2", NOW)
    assert outcome is not None
    assert whole(outcome, 2) == encode(records.terminal(other, "id-2", NOW) | {"v": 1, "seq": 2, "node": "n"})


REFUSED = Refusal(Reason.UPSTREAM_FAILED, "no")


@pytest.mark.parametrize(
    "wanted",
    [
        {"decision": None},
        {"principal": None},
        {"asked": None},
        {"parent": "exchange-0"},
        {"forwarded_digest": "sha256:02"},
        {"body": None, "body_stream": object()},
        {"refusal": REFUSED},
        {"decision": replace(ALLOW, id="d-1")},
        {"decision": replace(ALLOW, fault=True)},
    ],
    ids=", ".join,
)
def test_what_is_not_ordinary_is_left_to_the_dictionary(wanted: dict[str, Any]) -> None:
    assert Drawing().intent(opened(**wanted), "id", NOW) is None


OUT_OF_THE_ORDINARY: list[dict[str, Any]] = [
    {"refusal": REFUSED}, {"fault": "x"}, {"filtered": (1, 2)}, {"intent_seq": None}, {"would_deny": 1},
    {"failed_open": 1},
]  # fmt: skip


@pytest.mark.parametrize("wanted", OUT_OF_THE_ORDINARY)
def test_an_outcome_that_is_not_ordinary_is_left_to_the_dictionary(wanted: dict[str, Any]) -> None:
    exchange, drawing = opened(), Drawing()
    assert drawing.intent(exchange, "id", NOW) is not None
    exchange.intent_seq = 1
    assert drawing.outcome(exchange, "id", NOW) is not None
    for name, value in wanted.items():
        setattr(exchange, name, value)
    assert drawing.outcome(exchange, "id", NOW) is None


def test_fragments_are_bounded() -> None:
    drawing = Drawing()
    for number in range(3 * KEPT_FRAGMENTS):
        drawing.intent(opened(asked=Call("mcp.tools/call", "tool", f"shop/{number}")), "id", NOW)
    assert len(drawing._resources) <= KEPT_FRAGMENTS
