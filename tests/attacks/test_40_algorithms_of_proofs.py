"""Descriptors, proofs of possession and signed requests: the key says what it may sign with, the message never does."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.core.exchange import Principal
from gateway.trust.jose import encoded, signer
from gateway.trust.presented import TYPE
from tests.identity.bound_rig import URL, Bound
from tests.identity.prover import Prover, p256
from tests.identity.signature_rig import REQUEST, Door, keys
from tests.identity.signature_rig import rule as signature_rule
from tests.trust.descriptor_rig import PLANNER, Desk, rule
from tests.trust.descriptor_rig import keys as signer_keys

ROW = 40
MACS = ("HS256", "HS384", "HS512")
PRIVATE = rsa.generate_private_key(65537, 2048)


def mac(algorithm: str, secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, getattr(hashlib, "sha" + algorithm[2:])).digest()


def token(header: dict[str, Any], claims: dict[str, Any]) -> bytes:
    return b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))


@pytest.mark.parametrize("algorithm", [*MACS, "none", "None", ""])
def test_a_descriptor_is_not_signed_with_what_everybody_knows(algorithm: str) -> None:
    desk = Desk()
    jwk = desk.signer.jwk()
    signed = token({"alg": algorithm, "kid": "acme-1", "typ": TYPE}, desk.claims())
    for secret in (json.dumps(jwk).encode(), str(jwk["x"]).encode(), b""):
        made = mac(algorithm, secret, signed) if algorithm in MACS else b""
        assert rule(desk.ask(signed + b"." + encoded(made))) == "descriptor_malformed"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "ES384"])
def test_a_descriptors_header_does_not_make_another_key_of_its_signers(algorithm: str) -> None:
    desk = Desk()
    signed = token({"alg": algorithm, "kid": "acme-1", "typ": TYPE}, desk.claims())
    assert rule(desk.ask(signed + b"." + encoded(desk.private.sign(signed)))).startswith("descriptor: ")


def test_a_signers_key_for_one_algorithm_signs_no_descriptor_with_another() -> None:
    desk = Desk()
    first, other = signer(PRIVATE, "acme-1"), signer(PRIVATE, "acme-1", pss=True)
    desk.source.keys = signer_keys(first)
    assert desk.ask(desk.jws(by=first))[1].vouched is not None
    assert rule(desk.ask(desk.jws(by=other))).startswith("descriptor: ")


@pytest.mark.parametrize("algorithm", ["ES512", "RS512"])
def test_a_descriptor_is_signed_with_what_descriptors_are_signed_with(algorithm: str) -> None:
    desk = Desk()
    made = signer(ec.generate_private_key(ec.SECP521R1()) if algorithm == "ES512" else PRIVATE, "acme-1")
    desk.source.keys = signer_keys(made)
    signed = token({"alg": algorithm, "kid": "acme-1", "typ": TYPE}, desk.claims())
    assert rule(desk.ask(signed + b"." + encoded(made.sign(signed)))).startswith("descriptor: ")


@pytest.mark.parametrize("algorithm", [*MACS, "none", "NONE", "", "ES256", "RS256", "PS256", "ES384", "Ed448"])
def test_a_proof_is_signed_as_the_key_it_brings_signs(algorithm: str) -> None:
    door = Bound()
    credential = door.token()
    header, claims = {"typ": "dpop+jwt", "alg": algorithm, "jwk": door.prover.jwk}, {
        "jti": "j", "htm": "POST", "htu": URL, "iat": int(door.clock.time()),
        "ath": encoded(hashlib.sha256(credential.encode()).digest()).decode(),
    }  # fmt: skip
    signed = token(header, claims)
    jwk = json.dumps(door.prover.jwk, separators=(",", ":")).encode()
    for made in (door.prover.sign(signed), b"", *(mac(algorithm, jwk, signed) for _ in "x" if algorithm in MACS)):
        found = door.ask(
            (b"authorization", f"DPoP {credential}".encode()), (b"dpop", signed + b"." + encoded(made))
        )  # fmt: skip
        assert not isinstance(found, Principal)
        assert found.rule == "dpop_malformed"


def test_a_proof_is_signed_with_one_of_two_algorithms() -> None:
    """An RSA key that a token was bound to is as good as any, and refused: nobody needs it here."""
    jwk = signer(PRIVATE).jwk()
    bare = {name: jwk[name] for name in ("e", "kty", "n")}
    thumbprint = encoded(hashlib.sha256(json.dumps(bare, separators=(",", ":")).encode()).digest()).decode()
    door = Bound()
    credential = door.token(cnf={"jkt": thumbprint})
    claims = {"jti": "j", "htm": "POST", "htu": URL, "iat": int(door.clock.time())}
    claims["ath"] = encoded(hashlib.sha256(credential.encode()).digest()).decode()
    signed = token({"typ": "dpop+jwt", "alg": "RS256", "jwk": bare}, claims)
    proof = signed + b"." + encoded(signer(PRIVATE).sign(signed))
    found = door.ask((b"authorization", f"DPoP {credential}".encode()), (b"dpop", proof))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"


@pytest.mark.parametrize("key", [None, p256()], ids=["Ed25519", "P-256"])
@pytest.mark.parametrize("algorithm", ["hmac-sha256", "rsa-v1_5-sha256", "rsa-pss-sha512", "none", "EdDSA", "ed25519x"])
def test_a_message_signature_names_no_other_algorithm_than_its_key_has(key: Any, algorithm: str) -> None:
    door = Door(Prover(key) if key else None)
    assert signature_rule(door.ask(door.head(REQUEST, alg=algorithm))) == "signature_algorithm"
    right, wrong = ("ecdsa-p256-sha256", "ed25519") if key else ("ed25519", "ecdsa-p256-sha256")
    assert isinstance(door.ask(door.head(REQUEST, alg=right)), Principal)
    assert signature_rule(door.ask(door.head(REQUEST, alg=wrong))) == "signature_algorithm"


def test_a_message_signature_by_another_kind_of_key_is_refused() -> None:
    """In the set, and with the right signature of its own kind."""
    private = ec.generate_private_key(ec.SECP384R1())
    made = signer(private)
    door = Door()
    door.source.keys = signer_keys(made)

    class Other(Prover):
        thumbprint = made.kid

        def sign(self, data: bytes) -> bytes:
            return made.sign(data)

    assert signature_rule(door.ask(door.head(REQUEST, by=Other()))) == "signature_algorithm"


def test_the_rig_is_refused_for_what_it_says_it_is() -> None:
    door, desk = Door(), Desk()
    assert isinstance(door.ask(door.head(REQUEST)), Principal)
    assert desk.ask(desk.jws())[1].principal is PLANNER
    assert keys(door.prover).holds(door.prover.thumbprint)
