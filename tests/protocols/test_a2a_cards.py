"""Agent cards: every way in leads through the gateway, signatures of another card are gone, skills are the caller's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as v03
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import AgentCapabilities, AgentCard, AgentCardSignature, AgentInterface, AgentSkill
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.canonical import encode
from gateway.core.exchange import Call
from gateway.core.reasons import Malformed
from gateway.protocols.a2a import A2a
from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import KeySet, decoded, read_jwk

A2A = A2a()
UP = "http://agent.internal:9001"
PUBLIC = "https://gw.example/r"


def sdk_card(*interfaces: tuple[str, str], skills: tuple[str, ...] = ("book", "pay")) -> AgentCard:
    return AgentCard(
        name="concierge — ünïcode",
        description="Books tables.",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0", tenant="acme")
            for url, binding in interfaces
        ],
        capabilities=AgentCapabilities(streaming=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        documentation_url=UP + "/docs",
        icon_url=UP + "/icon.png",
        skills=[AgentSkill(id=name, name=name, description=name, tags=["dinner"]) for name in skills],
        signatures=[AgentCardSignature(protected="e30", signature="eA")],
    )


def fetched(
    wire: Any,
    card: object,
    *,
    allows: Any = None,
    headers: list[tuple[str, str]] | None = None,
    chunks: list[bytes] | None = None,
    answer: Any = None,
    **how: Any,
) -> tuple[bytes, Any, Any, Any]:
    exchange = wire.classified(
        A2A, "GET", how.pop("target", "/r/.well-known/agent-card.json"), None, headers or (), **how
    )
    answer = answer or wire.Answer(200, [(b"content-type", b"application/json")])
    policy = wire.Policy(allows or (lambda item: True))
    body = json.dumps(card).encode()
    shown = b"".join(wire.filtered(exchange, answer, chunks or [body], policy=policy))
    return shown, exchange, answer, policy


def urls(shown: bytes) -> list[tuple[str, str]]:
    """The interfaces a client of the official library finds."""
    return [(item.url, item.protocol_binding) for item in parse_agent_card(json.loads(shown)).supported_interfaces]


def test_every_interface_of_a_card_leads_through_the_gateway(wire: Any) -> None:
    card = sdk_card((UP, "JSONRPC"), (UP + "/a2a/rest", "HTTP+JSON"))
    shown, *_ = fetched(wire, MessageToDict(card))
    assert urls(shown) == [(PUBLIC, "JSONRPC"), (PUBLIC + "/a2a/rest", "HTTP+JSON")]
    found = parse_agent_card(json.loads(shown))
    assert (found.name, found.documentation_url, found.icon_url) == (card.name, UP + "/docs", UP + "/icon.png")
    assert found.supported_interfaces[0].tenant == "acme"
    signed_here(wire, json.loads(shown))


def signed_here(wire: Any, card: dict[str, Any]) -> None:
    """The upstream's signatures are gone, and the gateway's one is right."""
    voucher = Voucher("gateway", KeySet([read_jwk(wire.signer.jwk())]))
    believed = verify_card(card, [voucher], 0.0)
    assert believed.card == {name: value for name, value in card.items() if name != "signatures"}
    for item in card["signatures"]:
        header = json.loads(decoded(item["protected"].encode()))
        assert (header["kid"], header["jku"]) == ("gw", "https://gw.example/.well-known/jwks.json")


def test_a_card_for_both_versions_is_right_for_both(wire: Any) -> None:
    card = sdk_card((UP + "/rpc", "JSONRPC"), (UP + "/old", "JSONRPC"), (UP + "/rest", "HTTP+JSON"))
    for interface in card.supported_interfaces[1:]:
        interface.protocol_version = "0.3"
    sent = agent_card_to_dict(card)
    assert sent["url"] == UP + "/old"
    shown, *_ = fetched(wire, sent)
    assert urls(shown) == [
        (PUBLIC + "/rpc", "JSONRPC"),
        (PUBLIC + "/old", "JSONRPC"),
        (PUBLIC + "/rest", "HTTP+JSON"),
    ]
    older = v03.AgentCard.model_validate(json.loads(shown))
    assert older.url == PUBLIC + "/old"
    assert [item.url for item in older.additional_interfaces or []] == [PUBLIC + "/rest"]


def v03_card(url: str, transport: str | None = None, *others: tuple[str, str]) -> dict[str, Any]:
    return v03.AgentCard(
        name="old",
        description="d",
        version="1",
        url=url,
        preferred_transport=transport,
        additional_interfaces=[v03.AgentInterface(url=item, transport=kind) for item, kind in others] or None,
        capabilities=v03.AgentCapabilities(),
        default_input_modes=["text"],
        default_output_modes=["text"],
        skills=[],
        signatures=[v03.AgentCardSignature(protected="e30", signature="eA")],
    ).model_dump(by_alias=True, exclude_none=True, mode="json")


def test_a_card_of_the_older_version_is_rewritten_in_its_own_members(wire: Any) -> None:
    card = v03_card(UP + "/", "JSONRPC", (UP + "/", "JSONRPC"), (UP + "/v1x", "HTTP+JSON"), ("h:50051", "GRPC"))
    shown, *_ = fetched(wire, card, target="/r/.well-known/agent.json")
    found = v03.AgentCard.model_validate(json.loads(shown))
    assert found.url == PUBLIC + "/"
    assert [item.url for item in found.additional_interfaces or []] == [PUBLIC + "/", PUBLIC + "/v1x"]
    signed_here(wire, json.loads(shown))


def test_an_older_card_whose_main_way_is_gone_leads_by_the_next(wire: Any) -> None:
    shown, *_ = fetched(wire, v03_card("h:50051", "GRPC", (UP + "/rest", "HTTP+JSON")))
    found = v03.AgentCard.model_validate(json.loads(shown))
    assert (found.url, found.preferred_transport) == (PUBLIC + "/rest", "HTTP+JSON")


@pytest.mark.parametrize(
    ("url", "binding"),
    [
        ("https://elsewhere.example/rpc", "JSONRPC"),
        ("https://agent.internal:9001/rpc", "JSONRPC"),
        ("http://agent.internal:9002/rpc", "JSONRPC"),
        ("http://agent.internal/rpc", "JSONRPC"),
        ("http://agent.internal.evil.example:9001/rpc", "JSONRPC"),
        ("http://user@agent.internal:9001/rpc", "JSONRPC"),
        ("http://agent.internal:9001@evil.example/rpc", "JSONRPC"),
        ("http://agent.internal:99999/rpc", "JSONRPC"),
        ("http://[::1/rpc", "JSONRPC"),
        ("//agent.internal:9001/rpc", "JSONRPC"),
        ("/rpc", "JSONRPC"),
        ("", "JSONRPC"),
        ("agent.internal:9001", "GRPC"),
        (UP + "/rpc", "GRPC"),
        (UP + "/rpc", "https://example.com/own-binding"),
        ("https://gw.example/rival", "JSONRPC"),
        ("https://gw.example.evil.example/r", "JSONRPC"),
    ],
)
def test_a_way_round_the_gateway_is_not_in_the_card(wire: Any, url: str, binding: str) -> None:
    card = sdk_card((UP + "/ok", "JSONRPC"), (url, binding))
    shown, *_ = fetched(wire, MessageToDict(card))
    assert urls(shown) == [(PUBLIC + "/ok", "JSONRPC")]
    with pytest.raises(Malformed, match="no interface"):
        fetched(wire, MessageToDict(sdk_card((url, binding))))


@pytest.mark.parametrize(
    ("url", "public"),
    [
        (UP + "/base", PUBLIC),
        (UP + "/base/", PUBLIC + "/"),
        (UP + "/base/rpc?x=1", PUBLIC + "/rpc?x=1"),
        ("HTTP://AGENT.internal:9001/base/rpc", PUBLIC + "/rpc"),
        (PUBLIC + "/rpc", PUBLIC + "/rpc"),
        (UP + "/based", None),
        (UP + "/", None),
        (UP, None),
        (UP + "/BASE", None),
    ],
)
@pytest.mark.parametrize("upstream_path", ["/base", "/base/"])
def test_what_leads_to_the_upstream_is_told_on_segment_borders(
    wire: Any, url: str, public: str | None, upstream_path: str
) -> None:
    card = MessageToDict(sdk_card((url, "JSONRPC")))
    if public is None:
        with pytest.raises(Malformed):
            fetched(wire, card, upstream_path=upstream_path)
        return
    shown, *_ = fetched(wire, card, upstream_path=upstream_path)
    assert urls(shown) == [(public, "JSONRPC")]


def test_a_route_with_a_host_of_its_own_is_found_there(wire: Any) -> None:
    shown, *_ = fetched(
        wire,
        MessageToDict(sdk_card((UP + "/rpc", "JSONRPC"))),
        host="tools.example",
        path="",
        target="/.well-known/agent-card.json",
    )
    assert urls(shown) == [("https://tools.example/rpc", "JSONRPC")]


def test_loopback_has_one_name(wire: Any) -> None:
    exchange = wire.classified(A2A, "GET", "/r/.well-known/agent-card.json")
    exchange.upstream = replace(exchange.upstream, host="127.0.0.1", authority="127.0.0.1:9001")
    for name in ("localhost", "127.0.0.1", "[::1]"):
        body = json.dumps(MessageToDict(sdk_card((f"http://{name}:9001/rpc", "JSONRPC")))).encode()
        assert urls(b"".join(wire.filtered(exchange, wire.Answer(), [body]))) == [(PUBLIC + "/rpc", "JSONRPC")]


@pytest.mark.parametrize(
    "members",
    [
        {"supported_interfaces": [{"url": "https://elsewhere.example", "protocolBinding": "JSONRPC"}]},
        {"URL": "https://elsewhere.example"},
        {"Signatures": []},
        {"additional_interfaces": []},
    ],
)
def test_a_member_that_careless_readers_take_for_another_is_not_served(wire: Any, members: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        fetched(wire, MessageToDict(sdk_card((UP, "JSONRPC"))) | members)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"url": 5}',
        b'{"supportedInterfaces": {}}',
        b'{"supportedInterfaces": [], "supportedInterfaces": []}',
        b'{"url": "http://agent.internal:9001", "skills": {}}',
        b'{"url": "http://agent.internal:9001", "skills": [{}]}',
    ],
)
def test_what_is_no_card_is_not_served(wire: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        fetched(wire, None, chunks=[body])


def test_skills_are_filtered_by_the_policy_that_judges_messages(wire: Any) -> None:
    shown, exchange, _, policy = fetched(
        wire, MessageToDict(sdk_card((UP, "JSONRPC"))), allows=lambda item: item.context["skill"] == "book"
    )
    assert [skill.id for skill in parse_agent_card(json.loads(shown)).skills] == ["book"]
    assert exchange.filtered == (1, 1)
    assert [item.action for item in policy.asked] == ["a2a.SendMessage"] * 2
    asked: Call = policy.asked[1]
    assert (asked.resource_type, asked.resource_id) == ("agent", "up")
    assert asked.context == {"listing": True, "skill": "pay"}
    assert asked.resource == {"skill": {"id": "pay", "tags": ["dinner"]}}


def test_a_card_is_the_same_at_every_split(wire: Any) -> None:
    body = json.dumps(v03_card(UP)).encode()
    wanted, *_ = fetched(wire, None, chunks=[body])
    for place in range(len(body) + 1):
        assert fetched(wire, None, chunks=[body[:place], body[place:]])[0] == wanted


def test_members_and_their_order_stay(wire: Any) -> None:
    card = {"x-own": [1.5, 9007199254740991], "name": "n", "url": UP, "zeta": {"b": 1, "a": None}, "version": "1"}
    shown, *_ = fetched(wire, card)
    found = json.loads(shown)
    assert found.pop("signatures")
    assert list(found.items()) == list((card | {"url": PUBLIC}).items())


@pytest.mark.parametrize("member", ["99999999999999999999", '"\\ud800"', '{"a":1,"a":2}'])
def test_a_card_that_has_no_canonical_form_cannot_be_signed_and_is_not_served(wire: Any, member: str) -> None:
    with pytest.raises(Malformed):
        fetched(wire, None, chunks=[f'{{"url": "{UP}", "name": "n", "x": {member}}}'.encode()])


def test_a_card_that_nobody_signs_is_not_served(wire: Any) -> None:
    exchange = wire.classified(A2A, "GET", "/r/.well-known/agent-card.json")
    exchange.snapshot = replace(exchange.snapshot, cards={})
    body = json.dumps(MessageToDict(sdk_card((UP, "JSONRPC")))).encode()
    with pytest.raises(Malformed, match="nobody here signs"):
        wire.filtered(exchange, wire.Answer(), [body])


def test_a_card_is_private_with_a_validator_of_its_own(wire: Any) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"public, max-age=3600"),
        (b"etag", b'W/"upstream"'),
        (b"last-modified", b"then"),
        (b"content-md5", b"x"),
    ]
    card = MessageToDict(sdk_card((UP, "JSONRPC")))
    answer = wire.Answer(200, list(headers))
    shown, *_ = fetched(wire, card, answer=answer)
    found = dict(answer.headers)
    assert found[b"cache-control"] == b"private, max-age=3600"
    assert set(found) == {b"content-type", b"cache-control", b"etag", b"link"}
    digest = "sha256:" + hashlib.sha256(json.dumps(card).encode()).hexdigest()
    place = f"{PUBLIC}/.well-known/agent-card.original.json?digest={digest}"
    assert found[b"link"] == f'<{place}>; rel="original"'.encode()
    assert {item["header"]["orig"] for item in json.loads(shown)["signatures"]} == {digest}
    assert found[b"etag"] not in (b'W/"upstream"', b"")
    again = wire.Answer(200, list(headers))
    fetched(wire, card, answer=again)
    assert dict(again.headers)[b"etag"] == found[b"etag"]
    fewer = wire.Answer(200, list(headers))
    fetched(wire, card, answer=fewer, allows=lambda item: False)
    assert dict(fewer.headers)[b"etag"] != found[b"etag"]
    for sent in (found[b"etag"], b'"other", W/' + found[b"etag"], b"*"):
        unchanged = wire.Answer(200, list(headers))
        body, *_ = fetched(wire, card, answer=unchanged, headers=[("If-None-Match", sent.decode())])
        assert (unchanged.status, body) == (304, b"")
        assert dict(unchanged.headers)[b"etag"] == found[b"etag"]
    changed = wire.Answer(200, list(headers))
    body, *_ = fetched(wire, card, answer=changed, headers=[("If-None-Match", '"other"')])
    assert (changed.status, body) == (200, shown)


def test_a_callers_conditions_and_ranges_do_not_reach_the_agent(wire: Any) -> None:
    found = wire.asked(A2A, "GET", "/r/.well-known/agent-card.json")
    assert {b"if-none-match", b"if-modified-since", b"range", b"if-range"} <= found.drop_headers


def test_head_of_a_card_says_nothing_of_the_upstreams_bytes(wire: Any) -> None:
    exchange = wire.classified(A2A, "HEAD", "/r/.well-known/agent-card.json")
    answer = wire.Answer(200, [(b"content-length", b"900"), (b"etag", b'"x"'), (b"content-type", b"application/json")])
    assert wire.filtered(exchange, answer, []) == []
    assert answer.headers == [(b"content-type", b"application/json"), (b"cache-control", b"private")]


def test_the_extended_card_is_rewritten_in_both_bindings(wire: Any) -> None:
    card = MessageToDict(sdk_card((UP, "JSONRPC"), ("h:1", "GRPC"), skills=("pay", "only-here")))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard"}).encode()
    exchange = wire.classified(A2A, "POST", "/r", body)
    answer = wire.Answer(200, [(b"content-type", b"application/json")])
    sent = json.dumps({"jsonrpc": "2.0", "id": 1, "result": card}).encode()
    policy = wire.Policy(lambda item: item.context["skill"] == "pay")
    found = json.loads(b"".join(wire.filtered(exchange, answer, [sent], policy=policy)))
    assert (found["jsonrpc"], found["id"]) == ("2.0", 1)
    assert [skill["id"] for skill in found["result"]["skills"]] == ["pay"]
    assert urls(json.dumps(found["result"]).encode()) == [(PUBLIC, "JSONRPC")]
    signed_here(wire, found["result"])
    assert dict(answer.headers)[b"cache-control"] == b"private, no-store"
    assert {b"etag", b"link"}.isdisjoint(dict(answer.headers))
    rest = wire.Answer(200, [(b"content-type", b"application/json"), (b"cache-control", b"public"), (b"etag", b'"x"')])
    shown, *_ = fetched(wire, card, target="/r/extendedAgentCard", answer=rest)
    assert urls(shown) == [(PUBLIC, "JSONRPC")]
    signed_here(wire, json.loads(shown))
    assert rest.headers == [(b"content-type", b"application/json"), (b"cache-control", b"private, no-store")]
    for data in (json.dumps(card).encode(), encode(card)):
        assert wire.cards.original("sha256:" + hashlib.sha256(data).hexdigest()) is None


def test_an_agent_without_an_extended_card_says_so_unchanged(wire: Any) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "agent/getAuthenticatedExtendedCard"}).encode()
    error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32007,"message":"none"}}'
    exchange = wire.classified(A2A, "POST", "/r", body)
    assert b"".join(wire.filtered(exchange, wire.Answer(), [error])) == error


JSONISH = st.recursive(
    st.none() | st.text(max_size=4) | st.integers() | st.just(UP) | st.just("JSONRPC"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["url", "transport", "protocolBinding", "id", "tags"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    card=st.dictionaries(
        st.sampled_from(["url", "supportedInterfaces", "additionalInterfaces", "preferredTransport", "skills", "x"]),
        JSONISH,
    )
)
def test_no_card_raises_anything_but_malformed_or_shows_another_way_in(wire: Any, card: dict[str, Any]) -> None:
    try:
        shown, *_ = fetched(wire, card)
    except Malformed:
        return
    found = json.loads(shown)
    ways = [
        found.get("url"),
        *(item["url"] for name in ("supportedInterfaces", "additionalInterfaces") for item in found.get(name) or []),
    ]
    assert all(way is None or way.startswith(PUBLIC) for way in ways)
    assert any(ways)
