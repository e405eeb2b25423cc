"""kids that are more than names, and keys too weak to prove anything, in descriptors, proofs and signatures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.exchange import Principal
from gateway.core.reasons import Malformed
from gateway.trust.callers import CallerDescriptors
from gateway.trust.jose import read_jwks, signer
from gateway.trust.presented import TYPE
from gateway.trust.signers import TrustedSigner
from tests.identity.bound_rig import Bound
from tests.identity.prover import Prover, b64url, p256
from tests.identity.signature_rig import REQUEST, Door
from tests.identity.signature_rig import rule as signature_rule
from tests.trust.descriptor_rig import Desk, Source, rule, shown

ROW = 43
STRANGE = [
    "../../etc/passwd", "a b", "a\nb", "a\0b", "' OR 1=1 --", "${jndi:x}", "", "k" * 257, "\u0430cme-1", None, 5,
    ["acme-1"], {"kid": "acme-1"}, True, "|cat /etc/passwd", "%2e%2e", "acme-1\u0000",
]  # fmt: skip


@pytest.mark.parametrize("kid", STRANGE, ids=repr)
def test_a_kid_is_a_name_and_nothing_else(kid: Any) -> None:
    desk = Desk()
    made = Prover(desk.private).jws({"alg": "EdDSA", "kid": kid, "typ": TYPE}, desk.claims()).encode()
    assert rule(desk.ask(made)) in ("descriptor_malformed", "descriptor_key")


def test_a_descriptor_without_a_kid_is_refused() -> None:
    desk = Desk()
    made = Prover(desk.private).jws({"alg": "EdDSA", "typ": TYPE}, desk.claims()).encode()
    assert rule(desk.ask(made)) == "descriptor_malformed"


def test_one_signers_kid_is_not_anothers() -> None:
    """Both call their key the same: each vouches for what it signed itself, under its own name."""
    desk = Desk()
    other = signer(Ed25519PrivateKey.generate(), "acme-1")
    sources: Any = [TrustedSigner("evil", Source(other)), TrustedSigner("acme", desk.source)]  # type: ignore[arg-type]
    desk.checker = CallerDescriptors(sources, desk.named, {}, desk.issuers, desk.clock)
    assert shown(desk.ask(desk.jws()))["signer"] == "acme"
    assert shown(desk.ask(desk.jws(by=other)))["signer"] == "evil"
    assert shown(desk.ask(desk.jws(iss="acme")))["signer"] == "acme"
    assert rule(desk.ask(desk.jws(by=other, iss="acme"))).startswith("descriptor: ")


@pytest.mark.parametrize(
    "keyid", [item for item in STRANGE if isinstance(item, str) and item.isprintable() and item.isascii()]
)
def test_a_keyid_is_the_thumbprint_and_nothing_else(keyid: str) -> None:
    door = Door()
    found = door.ask(door.head(REQUEST, keyid=keyid))
    assert signature_rule(found) in ("signature_key", "signature_malformed")


def test_a_sets_own_name_for_a_key_is_not_its_thumbprint() -> None:
    door = Door()
    jwk = {**door.prover.jwk, "kid": "friendly"}
    door.source.keys = read_jwks(json.dumps({"keys": [jwk]}).encode())
    assert signature_rule(door.ask(door.head(REQUEST, keyid="friendly"))) == "signature_key"
    assert isinstance(door.ask(door.head(REQUEST)), Principal)


def weak() -> list[dict[str, Any]]:
    small = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    point = Prover(p256()).jwk
    return [
        {"kty": "RSA", "n": b64url(small.n.to_bytes(128)), "e": "AQAB"},
        {**point, "y": point["x"]},
        {**point, "x": b64url(b"\0" * 32), "y": b64url(b"\0" * 32)},
        {**point, "x": b64url(b"\xff" * 32)},
        {**point, "crv": "P-384"},
        {**point, "crv": "secp256k1"},
        {**point, "alg": "ES384"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64url(b"\1" * 31)},
        {"kty": "OKP", "crv": "Ed448", "x": b64url(b"\1" * 57)},
        {"kty": "EC"},
    ]


@pytest.mark.parametrize("jwk", weak(), ids=range(10))
def test_a_weak_or_broken_key_proves_nothing(jwk: dict[str, Any]) -> None:
    door = Bound()
    found = door.ask(*door.headers(door.token(), header={"jwk": jwk}))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"
    with pytest.raises(Malformed):
        read_jwks(json.dumps({"keys": [jwk]}).encode())
