"""A card's signature is checked by the algorithm of the key that its signer published, whatever the card says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.canonical import encode
from gateway.core.reasons import Malformed, Unverified
from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import KeySet, encoded, read_jwk, read_jwks, signer
from tests.trust.card_rig import ACME, OTHER, acme, card, signed

ROW = 40
PRIVATE = rsa.generate_private_key(65537, 2048)
RSA = signer(PRIVATE, "rsa-1")
PAYLOAD = encode(card())


def carried(header: dict[str, Any], signature: bytes) -> dict[str, Any]:
    item = {"protected": encoded(json.dumps(header).encode()).decode(), "signature": encoded(signature).decode()}
    return {**card(), "signatures": [item]}


def over(header: dict[str, Any]) -> bytes:
    return encoded(json.dumps(header).encode()) + b"." + encoded(PAYLOAD)


def forms_of_the_public_key() -> list[bytes]:
    public = PRIVATE.public_key()
    return [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        json.dumps(RSA.jwk()).encode(),
        base64.urlsafe_b64decode(str(RSA.jwk()["n"]) + "=="),
        b"",
    ]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", forms_of_the_public_key(), ids=range(6))
def test_the_public_key_is_no_secret_to_sign_a_card_with(algorithm: str, secret: bytes) -> None:
    header = {"alg": algorithm, "kid": "rsa-1", "typ": "JOSE"}
    name = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
    mac = hmac.new(secret, over(header), getattr(hashlib, name)).digest()
    with pytest.raises(Unverified, match="algorithm"):
        verify_card(carried(header, mac), acme(RSA), 0.0)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 0, "eddsa", "ES256K", "RS1", "ES512", "RS512"])
def test_an_algorithm_that_is_not_listed_is_none(algorithm: Any) -> None:
    header = {"alg": algorithm, "kid": "acme-1"}
    for signature in (b"", ACME.sign(over(header))):
        with pytest.raises(Unverified):
            verify_card(carried(header, signature), acme(), 0.0)


def test_a_key_serves_its_own_algorithm_and_no_other() -> None:
    """One RSA key, published for RS256: the same key's PS256 signature is right, and counts for nothing."""
    pss = signer(PRIVATE, "rsa-1", pss=True)
    with pytest.raises(Unverified):
        verify_card(signed(card(), pss), acme(RSA), 0.0)
    with pytest.raises(Unverified):
        verify_card(signed(card(), RSA), [Voucher("acme", KeySet([read_jwk(pss.jwk())]))], 0.0)
    assert verify_card(signed(card(), RSA), acme(RSA), 0.0)


def test_the_name_of_an_algorithm_does_not_turn_one_kind_of_key_into_another() -> None:
    for by, said in ((ACME, "EdDSA"), (OTHER, "ES256"), (ACME, "RS256"), (OTHER, "RS256"), (ACME, "ES384")):
        header = {"alg": said, "kid": by.kid}
        with pytest.raises(Unverified):
            verify_card(carried(header, by.sign(over(header))), acme(by), 0.0)


def test_a_set_with_a_symmetric_key_is_refused_whole() -> None:
    with pytest.raises(Malformed, match="symmetric"):
        read_jwks(json.dumps({"keys": [ACME.jwk(), {"kty": "oct", "k": "AAAA", "kid": "acme-2"}]}).encode())
