"""A token does not bring its own key, nor say where to fetch one: nothing is fetched, nothing is believed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.exchange import Principal
from gateway.core.reasons import Refusal
from gateway.identity.bearer import Bearer
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.trust.jose import read_token
from gateway.trust.jwks import UrlKeys
from tests.identity.issuer import ROUTE, Issuer, ask, bearer, caller, head, known, refused

ROW = 42
THIEF = Issuer()


@pytest.mark.parametrize("kid", [{}, {"kid": "k1"}, {"kid": "evil"}])
@pytest.mark.parametrize(
    "more",
    [
        {"jwk": THIEF.signer.jwk()},
        {"jwk": {**THIEF.signer.jwk(), "kid": "evil"}},
        {"jku": "https://evil.example/jwks.json"},
        {"jku": "https://idp.example/jwks.json"},
        {"jku": "https://idp.example@evil.example/"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIBIjANBgkq"]},
        {"x5t": "dGhpZWY"},
        {"x5t#S256": "dGhpZWY"},
    ],
)
def test_header_key_material_is_refused_whoever_signed(more: dict[str, Any], kid: dict[str, str]) -> None:
    idp = Issuer()
    claims = json.dumps(idp.claims()).encode()
    for signing in (THIEF, idp):
        token = signing.raw(json.dumps({"alg": "EdDSA", "typ": "at+jwt", **kid, **more}).encode(), claims)
        refused(ask(caller(idp), bearer(token)))


def test_no_token_makes_the_gateway_ask_another_address() -> None:
    """The configured address is asked, for whatever a token claims, and at most once for many."""

    async def story() -> None:
        idp = Issuer()
        asked: list[str] = []

        async def fetch(url: str) -> bytes:
            asked.append(url)
            return json.dumps({"keys": [idp.signer.jwk()]}).encode()

        source = UrlKeys("https://idp.example/jwks.json", fetch, idp.clock)
        who = Caller(
            Bearer([(idp.settings(), source)], read_token, idp.clock), None, Challenges("https://gw.example"), idp.clock
        )

        async def verdict(token: bytes) -> Principal | Refusal:
            found = who.authenticate(head(bearer(token)), ROUTE)
            return found if isinstance(found, Principal | Refusal) else await found

        known(await verdict(idp.token()))
        idp.clock.pass_(31)
        claims = json.dumps(idp.claims(jku="https://evil.example/")).encode()
        for number in range(50):
            header = {"alg": "EdDSA", "kid": f"https://evil.example/{number}"}
            refused(await verdict(THIEF.raw(json.dumps(header).encode(), claims)))
            refused(await verdict(THIEF.raw(json.dumps({**header, "jku": "https://evil.example/"}).encode(), claims)))
        assert asked == ["https://idp.example/jwks.json"] * 2

    asyncio.run(story())
