"""Large, compressed and costly tokens are refused before anything is parsed or computed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.trust.jose import TOKEN_LIMIT_BYTES
from tests.identity.issuer import Issuer, Keys, ask, bearer, caller, encode, refused

ROW = 44


class Untouchable:
    """Keys that nobody may come to ask."""

    def verify(self, token: object, algorithms: object) -> None:
        raise AssertionError("a bomb came as far as the keys")


def guarded() -> Issuer:
    idp = Issuer()
    idp.source = Keys(Untouchable())
    return idp


@pytest.mark.parametrize("size", [TOKEN_LIMIT_BYTES + 1, 300_000, 5_000_000])
@pytest.mark.parametrize("where", ["header", "payload", "signature"])
def test_a_token_above_16_kib_is_refused_unread(size: int, where: str) -> None:
    idp = guarded()
    header = {"alg": "EdDSA", "kid": "k1"}
    parts = {
        "header": encode(json.dumps({**header, "pad": "x" * size} if where == "header" else header).encode()),
        "payload": encode(json.dumps({**idp.claims(), **({"pad": "x" * size} if where == "payload" else {})}).encode()),
        "signature": encode(b"x" * (size if where == "signature" else 64)),
    }
    verdict = refused(ask(caller(idp), bearer(b".".join(parts.values()))))
    assert "larger than" in verdict.text


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "EdDSA", "zip": "DEF"},
        {"alg": "EdDSA", "zip": ""},
        {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2_000_000_000, "p2s": "AAAA"},
        {"alg": "EdDSA", "p2c": 2_000_000_000},
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"},
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
    ],
)
def test_compression_and_costly_derivation_are_refused_by_the_header_alone(header: dict[str, Any]) -> None:
    idp = guarded()
    claims = encode(json.dumps(idp.claims()).encode())
    refused(ask(caller(idp), bearer(b".".join((encode(json.dumps(header).encode()), claims, encode(b"x" * 64))))))
    five = b".".join((encode(json.dumps(header).encode()), b"AA", b"AA", b"AA", b"AA"))
    refused(ask(caller(idp), bearer(five)))


@pytest.mark.parametrize("depth", [65, 1000, 6000])
def test_depth_is_refused_without_recursion(depth: int) -> None:
    idp = guarded()
    nested = b"[" * depth + b"]" * depth
    for header, payload in (
        (b'{"alg":"EdDSA","x":' + nested + b"}", b"{}"),
        (b'{"alg":"EdDSA"}', b'{"x":' + nested + b"}"),
    ):
        refused(ask(caller(idp), bearer(idp.raw(header, payload))))


def test_refusing_a_bomb_costs_no_more_than_a_verification() -> None:
    """A ratio within one run: what a stranger can send for nothing must not cost more than an honest token."""
    idp = Issuer()
    who = caller(idp)
    honest = [bearer(idp.token(jti=str(number))) for number in range(200)]
    bomb = bearer(b"e30." + b"A" * 300_000 + b".AA")

    def cost(headers: list[tuple[bytes, bytes]]) -> float:
        begin = time.process_time()
        for header in headers:
            ask(who, header)
        return (time.process_time() - begin) / len(headers)

    cost(honest[:50])
    assert min(cost([bomb] * 20) for _ in range(3)) < cost(honest[50:])
