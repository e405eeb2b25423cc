"""A card does not bring its own key, nor send the gateway for one where nobody listed it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.canonical import encode
from gateway.core.reasons import Unverified
from gateway.trust.cards import verify_card
from gateway.trust.jose import encoded
from gateway.trust.signers import NamedSets, Signers, TrustedSigner
from tests.trust.card_rig import ACME, THIEF, acme, card, jwks, signed

ROW = 42


def carried(more: dict[str, Any]) -> dict[str, Any]:
    """Signed by the thief, whose header says more."""
    protected = encoded(json.dumps({"alg": "EdDSA", "typ": "JOSE", **more}).encode())
    signature = THIEF.sign(protected + b"." + encoded(encode(card())))
    return {**card(), "signatures": [{"protected": protected.decode(), "signature": encoded(signature).decode()}]}


@pytest.mark.parametrize("kid", ["acme-1", "thief-1"])
@pytest.mark.parametrize(
    "more",
    [
        {"jwk": THIEF.jwk()},
        {"jwk": {**THIEF.jwk(), "kid": "acme-1"}},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIBIjANBgkq"]},
        {"x5t": "dGhpZWY"},
        {"x5t#S256": "dGhpZWY"},
        {"jku": "https://evil.example/jwks.json"},
        {},
    ],
    ids=", ".join,
)
def test_a_card_signed_by_its_own_key_is_not_believed(more: dict[str, Any], kid: str) -> None:
    with pytest.raises(Unverified):
        verify_card(carried({"kid": kid, **more}), acme(), 0.0)


class Clock:
    def time(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0


JKUS = [
    "https://evil.example/jwks.json",
    "https://acme.example.evil.example/jwks.json",
    "https://acme.example@evil.example/jwks.json",
    "https://acme.example\\@evil.example/jwks.json",
    "https://evil.example#@acme.example/jwks.json",
    "https://evil.example/https://acme.example/jwks.json",
    "https://ACME.example.:443/jwks.json",
    "https://acme.example:444/jwks.json",
    "http://acme.example/jwks.json",
    "//acme.example/jwks.json",
    "https://127.0.0.1/jwks.json",
    "https://[::ffff:169.254.169.254]/latest/meta-data",
    "file:///etc/passwd",
    "https://acme.example" + "/x" * 2000,
]


@pytest.mark.parametrize("jku", JKUS)
def test_no_card_makes_the_gateway_ask_an_address_nobody_listed(jku: str) -> None:
    async def story() -> None:
        asked: list[str] = []

        async def fetch(url: str) -> bytes:
            asked.append(url)
            return jwks(THIEF)

        listed = TrustedSigner("acme", None, frozenset({"https://acme.example"}))
        signers = Signers([listed], NamedSets(fetch, Clock()))
        for found in (signed(card(), THIEF, jku=jku), carried({"kid": "thief-1", "jku": jku, "jwk": THIEF.jwk()})):
            await signers.ready(found)
            with pytest.raises(Unverified):
                verify_card(found, signers.vouchers(), 0.0)
        assert asked == []

    asyncio.run(story())


def test_a_listed_set_speaks_for_its_own_signer_only() -> None:
    """The thief publishes at an origin of its own, listed for itself; the upstream trusts acme."""

    async def story() -> None:
        async def fetch(url: str) -> bytes:
            return jwks(THIEF)

        named = NamedSets(fetch, Clock())
        theirs = Signers([TrustedSigner("thief", None, frozenset({"https://thief.example"}))], named)
        found = signed(card(), THIEF, jku="https://thief.example/jwks.json")
        await theirs.ready(found)
        assert verify_card(found, theirs.vouchers(), 0.0).signer == "thief"
        ours = Signers([TrustedSigner("acme", None, frozenset({"https://acme.example"}))], named)
        await ours.ready(found)
        with pytest.raises(Unverified):
            verify_card(found, ours.vouchers(), 0.0)
        assert verify_card(signed(card(), ACME), acme(), 0.0).signer == "acme"

    asyncio.run(story())
