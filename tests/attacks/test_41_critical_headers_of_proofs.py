"""What a descriptor or a proof says must be understood, is not understood here, so nothing else of it counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.exchange import Principal
from gateway.trust.jose import encoded
from gateway.trust.presented import TYPE
from tests.identity.bound_rig import Bound
from tests.identity.prover import Prover
from tests.trust.descriptor_rig import Desk, rule

ROW = 41
CRITICAL: list[dict[str, Any]] = [
    {"crit": ["https://example/unknown"], "https://example/unknown": True},
    {"crit": ["exp"], "exp": 1},
    {"crit": []},
    {"crit": None},
    {"crit": "exp"},
    {"crit": ["alg"]},
    {"crit": ["b64"], "b64": True},
    {"crit": ["b64"], "b64": False},
    {"crit": ["x", "x"], "x": 1},
    {"b64": False},
    {"b64": True},
]


@pytest.mark.parametrize("more", CRITICAL, ids=str)
def test_a_descriptor_that_asks_for_more_is_refused(more: dict[str, Any]) -> None:
    desk = Desk()
    by = Prover(desk.private)
    header = {"alg": "EdDSA", "kid": "acme-1", "typ": TYPE}
    assert desk.ask(by.jws(header, desk.claims()).encode())[1].vouched is not None
    assert rule(desk.ask(by.jws(header | more, desk.claims()).encode())) == "descriptor_malformed"


@pytest.mark.parametrize("more", CRITICAL, ids=str)
def test_a_proof_that_asks_for_more_is_refused(more: dict[str, Any]) -> None:
    door = Bound()
    found = door.ask(*door.headers(door.token(), header=more | ({"crit": []} if more.get("crit", 1) is None else {})))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"EdDSA","kid":"acme-1","typ":"%s","crit":["x"],"crit":null}',
        b'{"alg":"EdDSA","kid":"acme-1","typ":"%s","\\u0063rit":["x"]}',
        b'{"alg":"none","alg":"EdDSA","kid":"acme-1","typ":"%s"}',
        b'{"alg":"EdDSA","kid":"evil","k\\u0069d":"acme-1","typ":"%s"}',
        b'{"alg":"EdDSA","kid":"acme-1","typ":"at+jwt","typ":"%s"}',
    ],
)
def test_a_header_with_two_readings_is_refused(header: bytes) -> None:
    desk, door = Desk(), Bound()
    by = Prover(desk.private)
    signed = encoded(header % TYPE.encode()) + b"." + encoded(json.dumps(desk.claims()).encode())
    assert rule(desk.ask(signed + b"." + encoded(by.sign(signed)))) == "descriptor_malformed"
    jwk = json.dumps(door.prover.jwk).encode()
    told = (header % b"dpop+jwt")[:-1] + b',"jwk":' + jwk + b"}"
    signed = encoded(told) + b"." + encoded(b"{}")
    found = door.ask(
        (b"authorization", f"DPoP {door.token()}".encode()),
        (b"dpop", signed + b"." + encoded(door.prover.sign(signed))),
    )
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"


@pytest.mark.parametrize(
    "claims", [b'{"sub":"other","sub":"%s"}', b'{"sub":"other","s\\u0075b":"%s"}', b'[{"sub":"%s"}]', b'"%s"', b"{%s"]
)
def test_claims_with_two_readings_are_refused(claims: bytes) -> None:
    desk = Desk()
    by = Prover(desk.private)
    payload = claims % b"agent:idp/planner"
    assert rule(desk.ask(by.jws({"alg": "EdDSA", "kid": "acme-1", "typ": TYPE}, payload).encode())) == (
        "descriptor_malformed"
    )
