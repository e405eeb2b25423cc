"""Detached signatures of documents: nine rules of reading, what is signed is read again, no key out of its time."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, Vouched
from gateway.trust.jose import KeySet, Signer, read_jwk, read_jwks, signer
from gateway.trust.jose_detached import DETACHED_ALGORITHMS, Detached, read_detached, sign_detached

RSA = rsa.generate_private_key(65537, 2048)
SIGNERS = {
    "EdDSA": signer(ed25519.Ed25519PrivateKey.generate(), "k"),
    "ES256": signer(ec.generate_private_key(ec.SECP256R1()), "k"),
    "ES384": signer(ec.generate_private_key(ec.SECP384R1()), "k"),
    "RS256": signer(RSA, "k"),
    "PS256": signer(RSA, "k", pss=True),
}
ED = SIGNERS["EdDSA"]
PAYLOAD = b'{"name":"n"}'


def keys(*by: Signer, **more: Any) -> KeySet:
    return KeySet(read_jwk({**item.jwk(), **more}) for item in by)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def protected(header: object) -> dict[str, Any]:
    return {"protected": b64(json.dumps(header).encode()), "signature": b64(b"s" * 64)}


@pytest.mark.parametrize("algorithm", sorted(DETACHED_ALGORITHMS))
def test_what_is_signed_is_read_and_verified(algorithm: str) -> None:
    by = SIGNERS[algorithm]
    made = sign_detached(PAYLOAD, by, jku="https://gw.example/jwks.json", header={"orig": "sha256:00"})
    found = read_detached(json.loads(json.dumps(made)), jku=True)
    assert (found.algorithm, found.kid, found.jku) == (algorithm, "k", "https://gw.example/jwks.json")
    assert isinstance(keys(by).verify(found.over(PAYLOAD), DETACHED_ALGORITHMS), Vouched)
    assert keys(by).verify(found.over(PAYLOAD + b" "), DETACHED_ALGORITHMS) is Distrust.SIGNATURE
    assert keys(by).verify(found.over(b""), DETACHED_ALGORITHMS) is Distrust.SIGNATURE


def test_rsa_by_one_algorithm_is_not_the_other() -> None:
    found = read_detached(sign_detached(PAYLOAD, SIGNERS["RS256"]))
    swapped = Detached("PS256", found.kid, "", found.protected, found.signature)
    assert keys(SIGNERS["PS256"]).verify(found.over(PAYLOAD), DETACHED_ALGORITHMS) is Distrust.ALGORITHM
    assert keys(SIGNERS["PS256"]).verify(swapped.over(PAYLOAD), DETACHED_ALGORITHMS) is Distrust.SIGNATURE


GOOD = {"alg": "EdDSA", "kid": "k", "typ": "JOSE"}


@pytest.mark.parametrize(
    "header",
    [GOOD, {"alg": "Ed25519", "kid": "k"}, GOOD | {"typ": None, "jku": None}, GOOD | {"typ": "jose", "iat": 5}],
)
def test_a_plain_header_is_read(header: dict[str, Any]) -> None:
    assert read_detached(protected(header)).algorithm == "EdDSA"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ([], "object"),
        ("x", "object"),
        (GOOD | {"crit": ["b64"]}, "not allowed"),
        (GOOD | {"crit": []}, "not allowed"),
        (GOOD | {"crit": None}, "not allowed"),
        (GOOD | {"b64": False}, "not allowed"),
        (GOOD | {"b64": True}, "not allowed"),
        (GOOD | {"jwk": ED.jwk()}, "not allowed"),
        (GOOD | {"x5c": []}, "not allowed"),
        (GOOD | {"x5u": "https://evil.example"}, "not allowed"),
        (GOOD | {"x5t#S256": "x"}, "not allowed"),
        (GOOD | {"zip": "DEF"}, "not allowed"),
        (GOOD | {"p2c": 1}, "not allowed"),
        (GOOD | {"enc": "A256GCM"}, "not allowed"),
        (GOOD | {"jku": "https://evil.example"}, "jku is not allowed"),
        (GOOD | {"alg": "none"}, "algorithm"),
        (GOOD | {"alg": "HS256"}, "algorithm"),
        (GOOD | {"alg": "ES512"}, "algorithm"),
        (GOOD | {"alg": "RS512"}, "algorithm"),
        (GOOD | {"alg": "eddsa"}, "algorithm"),
        (GOOD | {"alg": ["EdDSA"]}, "algorithm"),
        ({"kid": "k"}, "algorithm"),
        ({"alg": "EdDSA"}, "no kid"),
        (GOOD | {"kid": ""}, "kid"),
        (GOOD | {"kid": 5}, "kid"),
        (GOOD | {"kid": "../x y"}, "kid"),
        (GOOD | {"kid": "k" * 300}, "kid"),
        (GOOD | {"typ": "JWT"}, "typ"),
        (GOOD | {"typ": ["JOSE"]}, "typ"),
    ],
)
def test_a_header_that_is_not_plain_is_refused(header: object, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_detached(protected(header))


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "e30"},
        {"extra": 1},
        {"protected": ""},
        {"protected": None},
        {"protected": 5},
        {"signature": ""},
        {"signature": "a"},
        {"signature": b64(b"x" * 64) + "="},
        {"signature": "a b"},
        {"signature": "aB"},  # loose bits
        {"signature": "é"},
        {"signature": "A" * 3000},
        {"protected": "A" * 9000},
        {"protected": b64(b'{"alg":"EdDSA","alg":"EdDSA","kid":"k"}')},
        {"protected": b64(b'\xef\xbb\xbf{"alg":"EdDSA","kid":"k"}')},
        {"protected": b64(b'{"alg":"EdDSA","kid":"k"}x')},
        {"header": []},
        {"header": {"x": "y" * 9000}},
        {"header": {"kid": "other"}},
        {"header": {"alg": "none"}},
        {"header": {"crit": ["x"]}},
        {"header": {"jku": "https://evil.example"}},
        {"header": {"jwk": {}}},
        {"header": {"x5u": "https://evil.example"}},
        {"header": {"iat": 5}},
    ],
)
def test_a_signature_that_two_readers_could_take_differently_is_refused(change: dict[str, Any]) -> None:
    good = protected(GOOD | {"iat": 5})
    assert read_detached(good | {"header": {"note": "x"}})
    with pytest.raises(Malformed):
        read_detached(good | change)


@pytest.mark.parametrize("found", [None, [], "e30.e30.eA", {}, {"protected": "e30"}, 5])
def test_what_is_no_signature_is_refused(found: Any) -> None:
    with pytest.raises(Malformed):
        read_detached(found)


def test_a_long_jku_is_refused() -> None:
    for address in ("https://a.example/" + "x" * 3000, 5, "https://ä.example"):
        with pytest.raises(Malformed, match="jku"):
            read_detached(protected(GOOD | {"jku": address}), jku=True)


def test_a_key_is_in_force_only_in_its_time() -> None:
    key = read_jwk({**ED.jwk(), "nbf": 100, "exp": 200.5})
    assert [key.in_force(now) for now in (99, 100, 200, 200.5, 300)] == [False, True, True, False, False]
    assert read_jwk(ED.jwk()).in_force(0)
    for wrong in ({"nbf": "100"}, {"exp": True}, {"exp": None}):
        with pytest.raises(Malformed, match="seconds"):
            read_jwk({**ED.jwk(), **wrong})


def test_a_revoked_key_is_not_in_the_set_even_where_it_is_the_only_one() -> None:
    revoked = {**ED.jwk(), "revoked": {"revoked_at": 5}}
    other = {**SIGNERS["ES256"].jwk(), "kid": "other"}
    assert [key.kid for key in read_jwks(json.dumps({"keys": [revoked, other]}).encode()).keys] == ["other"]
    alone = read_jwks(json.dumps({"keys": [revoked]}).encode())
    assert alone.keys == ()
    assert alone.skipped == ("key 0: revoked",)
