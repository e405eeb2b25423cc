"""A descriptor brings no key. A proof brings one, which proves that its maker has it and makes nobody of anybody."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.core.exchange import Head, Principal
from gateway.identity.signature import SignatureSettings
from gateway.trust.presented import TYPE
from tests.identity.bound_rig import URL, Bound
from tests.identity.issuer import NOW, Keys
from tests.identity.prover import Prover, b64url
from tests.identity.signature_rig import AGENT, REQUEST, Door, agent_head, bot, keys
from tests.identity.signature_rig import rule as signature_rule
from tests.trust.descriptor_rig import Desk, rule

ROW = 42
THIEF = Prover()
BROUGHT: list[dict[str, Any]] = [
    {"jwk": THIEF.jwk},
    {"jwk": {**THIEF.jwk, "kid": "acme-1"}},
    {"jku": "https://evil.example/jwks.json"},
    {"jku": "https://acme.example/jwks.json"},
    {"x5u": "https://evil.example/cert.pem"},
    {"x5c": ["MIIBIjANBgkq"]},
    {"x5t": "dGhpZWY"},
    {"x5t#S256": "dGhpZWY"},
]


@pytest.mark.parametrize("kid", ["acme-1", "evil"])
@pytest.mark.parametrize("more", BROUGHT, ids=", ".join)
def test_a_descriptor_that_brings_keys_is_refused_whoever_signed(more: dict[str, Any], kid: str) -> None:
    desk = Desk()
    for by in (THIEF, Prover(desk.private)):
        made = by.jws({"alg": "EdDSA", "kid": kid, "typ": TYPE, **more}, desk.claims()).encode()
        assert rule(desk.ask(made)) == "descriptor_malformed"


@pytest.mark.parametrize("more", [item for item in BROUGHT if "jwk" not in item], ids=", ".join)
def test_a_proof_says_nowhere_else_where_keys_are(more: dict[str, Any]) -> None:
    door = Bound()
    found = door.ask(*door.headers(door.token(), header=more))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"


def test_the_key_of_a_proof_is_the_tokens_or_nothing() -> None:
    door = Bound()
    token = door.token()
    made = THIEF.proof("POST", URL, token, door.clock.time())
    found = door.ask((b"authorization", f"DPoP {token}".encode()), (b"dpop", made.encode()))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_key"


def test_a_proof_alone_is_no_credential() -> None:
    door = Bound()
    made = door.prover.proof("POST", URL, "", door.clock.time()).encode()
    for headers in (
        [(b"dpop", made)], [(b"authorization", b"DPoP " + made), (b"dpop", made)],
        [(b"authorization", b"Bearer " + made)], [(b"authorization", b"DPoP ")],
    ):  # fmt: skip
        assert not isinstance(door.ask(*headers), Principal)


def test_a_key_that_is_given_away_is_no_proof() -> None:
    """Whoever reads the request could sign the next one."""
    door = Bound()
    raw = door.prover.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    for jwk in (
        {**door.prover.jwk, "d": b64url(raw)}, {"kty": "oct", "k": b64url(raw)}, {**door.prover.jwk, "k": "AAAA"},
        [door.prover.jwk], "jwk", {}, {**door.prover.jwk, "use": "enc"}, {**door.prover.jwk, "key_ops": ["sign"]},
        {**door.prover.jwk, "x": door.prover.jwk["x"] + "="}, {**door.prover.jwk, "crv": "X25519"},
    ):  # fmt: skip
        found = door.ask(*door.headers(door.token(), header={"jwk": jwk}))
        assert not isinstance(found, Principal)
        assert found.rule == "dpop_malformed"


def test_no_request_makes_the_gateway_ask_another_address() -> None:
    """Directories are configured; what a request names is compared with them, and never asked."""
    mine = Keys(keys(Prover()), later=keys(Prover()))
    door = bot(directories={AGENT: mine})
    for value in ("https://evil.example", "https://signer.example.evil.example", "http://169.254.169.254"):
        for number in range(20):
            found = door.ask(agent_head(door, f'sig1="{value}"', by=THIEF, nonce=f"{value} {number}"))
            assert signature_rule(found) == "signature_key"
    assert mine.refreshes == 0
    assert signature_rule(door.ask(agent_head(door, by=THIEF))) == "signature_key"
    assert mine.refreshes == 1  # the listed one is asked when a key is wanted, and seldom


def test_a_signature_brings_no_key() -> None:
    door = Door(None, SignatureSettings("others", keys=Keys(keys(Prover()))))
    for more in (
        (b"signature-key", b'sig1=hwk;kty="OKP"'),
        (b"jwk", b"{}"),
        (b"signature-agent", b'"https://evil.example"'),
    ):
        assert signature_rule(door.ask(door.head(REQUEST, more, by=THIEF))) == "signature_key"
    given: Head = door.head(REQUEST, created=int(NOW))
    assert isinstance(door.ask(given), Principal)
