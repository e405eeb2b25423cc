"""A public key is no HMAC secret, `none` is no signature, and a key does only what it was published for."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.reasons import Reason
from tests.identity.issuer import Issuer, ask, bearer, caller, encode, known, refused

ROW = 40
PRIVATE = rsa.generate_private_key(65537, 2048)


def unsigned(idp: Issuer, algorithm: str) -> bytes:
    header = json.dumps({"alg": algorithm, "kid": idp.kid, "typ": "at+jwt"}).encode()
    return encode(header) + b"." + encode(json.dumps(idp.claims()).encode())


def secrets() -> list[bytes]:
    """Every form in which a public key might get used as a shared secret."""
    public = PRIVATE.public_key()
    forms = [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
    forms += [(Encoding.PEM, PublicFormat.PKCS1), (Encoding.DER, PublicFormat.PKCS1)]
    found = [public.public_bytes(*form) for form in forms]
    idp = Issuer(private=PRIVATE)
    numbers = public.public_numbers()
    return [
        *found,
        *(one.rstrip(b"\n") for one in found),
        json.dumps(idp.signer.jwk()).encode(),
        numbers.n.to_bytes(256),
        str(idp.signer.jwk()["n"]).encode(),
        b"",
    ]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", secrets(), ids=range(12))
def test_a_mac_made_with_the_public_key_is_refused(algorithm: str, secret: bytes) -> None:
    idp = Issuer(private=PRIVATE)
    known(ask(caller(idp), bearer(idp.token())))
    signed = unsigned(idp, algorithm)
    made = hmac.new(secret, signed, getattr(hashlib, "sha" + algorithm[2:])).digest()
    verdict = refused(
        ask(caller(idp, algorithms=frozenset({"RS256", algorithm})), bearer(signed + b"." + encode(made)))
    )
    assert verdict.reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "null"])
@pytest.mark.parametrize("signature", [b"", b"AA", b"e30"])
def test_no_signature_is_refused_even_where_the_configuration_would_allow_it(algorithm: str, signature: bytes) -> None:
    idp = Issuer()
    who = caller(idp, algorithms=frozenset({"EdDSA", algorithm}))
    refused(ask(who, bearer(unsigned(idp, algorithm) + b"." + signature)))


def test_an_algorithm_that_the_issuer_may_not_use_is_refused_with_a_right_signature() -> None:
    idp = Issuer(private=PRIVATE)
    refused(ask(caller(idp, algorithms=frozenset({"PS256", "EdDSA"})), bearer(idp.token())))


def test_a_key_published_for_one_algorithm_verifies_no_other() -> None:
    idp = Issuer(private=PRIVATE)
    signed = unsigned(idp, "PS256")
    made = PRIVATE.sign(signed, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    token = signed + b"." + encode(made)
    refused(ask(caller(idp, algorithms=frozenset({"RS256", "PS256"})), bearer(token)))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES384", "EdDSA", "ES256K"])
def test_a_header_that_names_another_familys_algorithm_is_refused(algorithm: str) -> None:
    idp = Issuer(private=ec.generate_private_key(ec.SECP256R1()))
    every = frozenset({"ES256", "ES384", "EdDSA", "RS256", "PS256", "ES256K"})
    known(ask(caller(idp, algorithms=every), bearer(idp.token())))
    _, payload, signature = idp.token().split(b".")
    header = encode(json.dumps({"alg": algorithm, "kid": idp.kid}).encode())
    refused(ask(caller(idp, algorithms=every), bearer(b".".join((header, payload, signature)))))
