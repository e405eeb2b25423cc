from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, Vouched
from gateway.trust.jose import (
    ALGORITHMS,
    SET_LIMIT_BYTES,
    SET_LIMIT_KEYS,
    TOKEN_LIMIT_BYTES,
    PrivateKey,
    read_jwk,
    read_jwks,
    read_token,
    sign_compact,
    signer,
)
from tests.identity.issuer import encode

ED = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ALL: list[tuple[str, PrivateKey]] = [
    ("EdDSA", ED),
    ("ES256", P256),
    ("ES384", ec.generate_private_key(ec.SECP384R1())),
    ("ES512", ec.generate_private_key(ec.SECP521R1())),
    ("RS256", RSA),
]
HEADER = {"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}


def jwks(*keys: Any, **more: Any) -> bytes:
    return json.dumps({"keys": list(keys), **more}).encode()


def token(header: bytes, payload: bytes = b"{}") -> bytes:
    signed = encode(header) + b"." + encode(payload)
    return signed + b"." + encode(ED.sign(signed))


def public(private: PrivateKey = ED, **changed: Any) -> dict[str, Any]:
    """`None` takes a member out."""
    members = {**signer(private, "k1").jwk(), **changed}
    return {name: value for name, value in members.items() if value is not None}


KNOWN = read_jwks(jwks(public()))


@pytest.mark.parametrize(("algorithm", "private"), ALL, ids=[name for name, _ in ALL])
def test_what_is_signed_is_verified_with_its_public_half(algorithm: str, private: PrivateKey) -> None:
    by = signer(private)
    known = read_jwks(jwks(by.jwk()))
    read = read_token(sign_compact({"sub": "a", "n": 1}, by).encode())
    assert read.algorithm == algorithm
    assert (read.kid, read.type, read.claims()) == (by.kid, "at+jwt", {"sub": "a", "n": 1})
    assert known.verify(read, ALGORITHMS) == Vouched(by.key.thumbprint())
    assert known.holds(by.key.thumbprint())


@pytest.mark.parametrize(("algorithm", "private"), ALL, ids=[name for name, _ in ALL])
def test_a_turned_bit_anywhere_is_noticed(algorithm: str, private: PrivateKey) -> None:
    by = signer(private)
    known = read_jwks(jwks(by.jwk()))
    good = read_token(sign_compact({"sub": "a"}, by).encode())
    for index in (0, len(good.signature) // 2, len(good.signature) - 1):
        bad = bytearray(good.signature)
        bad[index] ^= 1
        assert not known.keys[0].verifies(replaced(good, signature=bytes(bad)))
    assert not known.keys[0].verifies(replaced(good, signed=good.signed + b"A"))
    assert not known.keys[0].verifies(replaced(good, signature=b""))
    assert not known.keys[0].verifies(replaced(good, signature=b"\0" * len(good.signature)))


def replaced(read: Any, **changed: Any) -> Any:
    return type(read)(**{name: changed.get(name, getattr(read, name)) for name in read.__slots__})


def test_the_two_names_of_ed25519_are_one_algorithm() -> None:
    read = read_token(token(b'{"alg":"Ed25519","kid":"k1"}'))
    assert read.algorithm == "EdDSA"
    assert isinstance(read_jwks(jwks(public(alg="Ed25519"))).verify(read, frozenset({"EdDSA"})), Vouched)


FORBIDDEN: list[tuple[str, Any]] = [
    *[
        ("crit", value)
        for value in ([], ["exp"], ["b64"], ["alg"], ["x", "x"], [""], "exp", {}, None, 1, [1], [["b64"]])
    ],
    *[("b64", value) for value in (False, True, None, "false")],
    *[("jwk", value) for value in (public(), {}, None, "k1")],
    *[("jku", value) for value in ("https://idp.example/jwks.json", "http://127.0.0.1/k", "file:///etc/k", "", None)],
    *[("x5u", value) for value in ("https://idp.example/c.pem", "", None)],
    *[("x5c", value) for value in (["MIIB"], [], None)],
    *[("x5t", value) for value in ("AAAA", "", None)],
    *[("x5t#S256", value) for value in ("AAAA", None)],
    ("x5t#S512", "AAAA"),
    *[("zip", value) for value in ("DEF", "", None)],
    *[("enc", value) for value in ("A256GCM", None)],
    *[("p2c", value) for value in (1_000_000_000, 1)],
    *[(name, "AAAA") for name in ("p2s", "epk", "apu", "apv", "iv", "tag")],
]


@pytest.mark.parametrize(
    ("name", "value"), FORBIDDEN, ids=[f"{name}={json.dumps(value)[:24]}" for name, value in FORBIDDEN]
)
def test_a_header_that_brings_keys_or_meaning_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Malformed, match="not allowed"):
        read_token(token(json.dumps({**HEADER, name: value}).encode()))


def test_crit_is_refused_even_when_what_it_names_is_there() -> None:
    with pytest.raises(Malformed, match="not allowed"):
        read_token(token(json.dumps({**HEADER, "crit": ["https://x"], "https://x": 1}).encode()))


def test_unknown_header_members_that_nobody_calls_critical_are_ignored() -> None:
    read_token(token(json.dumps({**HEADER, "https://x": 1}).encode()))


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"EdDSA","alg":"EdDSA"}',
        b'{"alg":"none","alg":"EdDSA"}',
        b'{"alg":"EdDSA","kid":"k1","kid":"k1"}',
        b'{"alg":"EdDSA","\\u006bid":"k1","kid":"k2"}',
        b'{"alg":"EdDSA","x":{"a":1,"a":2}}',
        b"\xef\xbb\xbf" + b'{"alg":"EdDSA"}',
        b'{"alg":"EdDSA"} x',
        b'{"alg":"EdDSA","x":NaN}',
        b'{"alg":"EdDSA","x":9007199254740993}',
        b'{"alg":"EdDSA","x":"\\ud800"}',
        b'["alg","EdDSA"]',
        b'"EdDSA"',
        b"",
        b"{}",
        b'{"alg":"EdDSA",}',
        b"\xff\xfe{\x00}\x00",
        b'{"alg":' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_a_header_that_two_readers_could_read_differently_is_refused(header: bytes) -> None:
    with pytest.raises(Malformed):
        read_token(token(header) if header else b"." + token(b"{}").partition(b".")[2])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"a","sub":"a"}',
        b'{"sub":"a","s\\u0075b":"b"}',
        b'{"act":{"sub":"a","sub":"b"}}',
        b"[]",
        b"",
        b'{"exp":1e999}',
    ],
)
def test_claims_are_read_as_strictly_as_the_header(payload: bytes) -> None:
    with pytest.raises(Malformed):
        read_token(token(json.dumps(HEADER).encode(), payload)).claims()


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "ES256K",
        "Ed448",
        "eddsa",
        "RS1",
        "A256KW",
        "dir",
        None,
        7,
        ["EdDSA"],
        {},
    ],
)
def test_an_algorithm_that_is_not_ours_is_refused(algorithm: Any) -> None:
    with pytest.raises(Malformed, match="algorithm"):
        read_token(token(json.dumps({**HEADER, "alg": algorithm}).encode()))


def test_a_token_without_algorithm_is_refused() -> None:
    with pytest.raises(Malformed, match="algorithm"):
        read_token(token(b'{"kid":"k1"}'))


@pytest.mark.parametrize(
    "kid", ["", " ", "a b", "k1\n", "k1\0", "k1'--", 'k1"', "k" * 257, "\u212a1", "../\\x", 7, None, [], {"a": 1}, True]
)
def test_a_kid_that_is_no_short_plain_text_is_refused(kid: Any) -> None:
    with pytest.raises(Malformed, match="kid"):
        read_token(token(json.dumps({**HEADER, "kid": kid}).encode()))


@pytest.mark.parametrize("typ", ["", "at jwt", "a" * 65, 7, None, ["JWT"]])
def test_a_typ_that_is_no_short_plain_text_is_refused(typ: Any) -> None:
    with pytest.raises(Malformed, match="typ"):
        read_token(token(json.dumps({**HEADER, "typ": typ}).encode()))


def test_a_path_for_a_kid_is_looked_up_as_a_name_and_found_nowhere() -> None:
    read = read_token(token(b'{"alg":"EdDSA","kid":"../../../../dev/null"}'))
    assert KNOWN.verify(read, ALGORITHMS) is Distrust.KEY


GOOD = token(json.dumps(HEADER).encode(), b'{"sub":"a"}')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"..",
        b"...",
        GOOD + b".",
        b"." + GOOD,
        GOOD + b".AAAA",
        GOOD.rpartition(b".")[0],
        GOOD.rpartition(b".")[0] + b".",
        GOOD + b"=",
        GOOD.replace(b".", b"=.", 1),
        GOOD + b" ",
        b" " + GOOD,
        GOOD + b"\n",
        GOOD.replace(b".", b".\n", 1),
        GOOD.replace(b".", b". ", 1),
        GOOD.replace(b".", b"\t.", 1),
        GOOD.replace(b".", b"\0.", 1),
        GOOD + b"AAA",
        GOOD[:-1] + b"*",
        GOOD[:-1] + b"+",
        GOOD[:-1] + b"/",
        GOOD.replace(b".", b","),
        GOOD + b"\xc3\xa9",
        b"Bearer " + GOOD,
        b'{"payload":"e30","protected":"e30","signature":"AA"}',
    ],
)
def test_what_is_not_exactly_three_parts_of_base64url_is_refused(data: bytes) -> None:
    read_token(GOOD)
    with pytest.raises(Malformed):
        read_token(data)


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    """86 characters carry 516 bits for 512: the loose ones must be zero."""
    head, _, last = GOOD.rpartition(b".")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    position = alphabet.index(last[-1:])
    twin = head + b"." + last[:-1] + alphabet[position + 1 : position + 2]
    with pytest.raises(Malformed, match="canonical"):
        read_token(twin)


def test_a_token_of_16_kib_is_read_and_one_byte_more_is_not() -> None:
    empty = len(token(json.dumps(HEADER).encode(), b"{}"))
    fits = token(
        json.dumps(HEADER).encode(), b'{"a":"' + b"x" * (int((TOKEN_LIMIT_BYTES - empty) * 3 / 4) - 12) + b'"}'
    )
    assert TOKEN_LIMIT_BYTES - 32 < len(fits) <= TOKEN_LIMIT_BYTES
    read_token(fits)
    with pytest.raises(Malformed, match="larger"):
        read_token(b"A" * (TOKEN_LIMIT_BYTES + 1))


def test_no_error_quotes_the_token() -> None:
    secret = "s3cr3t-marker"
    for header in (
        f'{{"alg":"{secret}"}}',
        f'{{"alg":"EdDSA","kid":"{secret} x"}}',
        f'{{"alg":"EdDSA","x5u":"{secret}"}}',
        secret,
    ):
        with pytest.raises(Malformed) as caught:
            read_token(token(header.encode()))
        assert secret not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed_and_never_a_fault(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        read_token(data).claims()


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_three_parts_are_read_or_malformed_and_never_a_fault(
    header: bytes, payload: bytes, signature: bytes
) -> None:
    with contextlib.suppress(Malformed):
        KNOWN.verify(read_token(b".".join(map(encode, (header, payload, signature)))), ALGORITHMS)


@given(st.binary(max_size=200))
def test_no_signature_but_the_right_one_is_believed(signature: bytes) -> None:
    good = read_token(GOOD)
    assert KNOWN.keys[0].verifies(replaced(good, signature=signature)) is (signature == good.signature)


# --- keys


def test_the_issuers_list_of_algorithms_counts_before_anything_else() -> None:
    assert KNOWN.verify(read_token(GOOD), frozenset({"ES256"})) is Distrust.ALGORITHM


def test_a_key_serves_only_the_algorithm_it_names() -> None:
    known = read_jwks(jwks(public(RSA, alg="RS256")))
    signed = encode(b'{"alg":"PS256","kid":"k1"}') + b"." + encode(b"{}")
    made = RSA.sign(signed, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    read = read_token(signed + b"." + encode(made))
    assert isinstance(read_jwks(jwks(public(RSA, alg=None))).verify(read, ALGORITHMS), Vouched)
    assert known.verify(read, ALGORITHMS) is Distrust.ALGORITHM
    assert not known.keys[0].verifies(read)


def test_a_token_without_kid_is_tried_only_where_there_is_one_key_to_try() -> None:
    bare = read_token(token(b'{"alg":"EdDSA"}'))
    second = public(ed25519.Ed25519PrivateKey.generate(), kid="k2")
    assert isinstance(KNOWN.verify(bare, ALGORITHMS), Vouched)
    assert isinstance(read_jwks(jwks(public(), public(P256, kid="k2"))).verify(bare, ALGORITHMS), Vouched)
    assert read_jwks(jwks(public(), second)).verify(bare, ALGORITHMS) is Distrust.KEY


def test_a_key_without_kid_serves_no_token_that_names_one() -> None:
    assert read_jwks(jwks(public(kid=None))).verify(read_token(GOOD), ALGORITHMS) is Distrust.KEY


def test_a_kid_is_compared_as_it_stands() -> None:
    assert read_jwks(jwks(public(kid="K1"))).verify(read_token(GOOD), ALGORITHMS) is Distrust.KEY


@pytest.mark.parametrize("other", [public(P256), public(use="enc"), {"kty": "XYZ", "kid": "k1"}])
def test_a_kid_that_occurs_twice_refuses_the_set(other: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="twice"):
        read_jwks(jwks(public(), other))


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "oct", "kid": "s", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "alg": "HS256"},
        {"kty": "oct", "kid": "s"},
        {"kty": "oct", "kid": "s", "use": "enc", "k": ""},
        {**signer(P256, "s").jwk(), "d": "AAAA"},
        {**signer(RSA, "s").jwk(), "use": "enc", "p": "AAAA"},
        {"kty": "XYZ", "kid": "s", "k": "AAAA"},
    ],
)
def test_a_secret_in_a_public_set_refuses_the_set(other: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="symmetric or private"):
        read_jwks(jwks(public(), other))


SKIPPED = [
    public(P256, kid="s", use="enc"),
    public(P256, kid="s", use="tls"),
    public(P256, kid="s", use=None, key_ops=["encrypt"]),
    public(P256, kid="s", use=None, key_ops=[]),
    public(P256, kid="s", use=None, key_ops=["sign"]),
    public(P256, kid="s", alg="ECDH-ES"),
    public(P256, kid="s", alg="ES521"),
    public(RSA, kid="s", alg="RSA-OAEP"),
    {"kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "s"},
    {"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "s"},
    {"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA", "kid": "s"},
    {"kty": "AKP", "kid": "s"},
    {"kid": "s"},
]


@pytest.mark.parametrize("other", SKIPPED)
def test_a_key_that_is_not_for_us_is_skipped_and_the_rest_serves(other: dict[str, Any]) -> None:
    known = read_jwks(jwks(other, public()))
    assert len(known.keys) == 1
    assert len(known.skipped) == 1
    assert isinstance(known.verify(read_token(GOOD), ALGORITHMS), Vouched)
    with pytest.raises(Malformed, match="no key for verifying"):
        read_jwks(jwks(other))


def rsa_jwk(n: int, e: int = 65537) -> dict[str, Any]:
    numbers = {"n": n, "e": e}
    members = {name: encode(value.to_bytes((value.bit_length() + 7) // 8)).decode() for name, value in numbers.items()}
    return {"kty": "RSA", "kid": "s", **members}


N = RSA.public_key().public_numbers().n
# A power of 65537 is one modulo every small prime too, which is the mark that the broken generator leaves.
ROCA = 65537**130
COORDINATE = P256.public_key().public_numbers().x.to_bytes(32)
BROKEN = [
    rsa_jwk(N >> 1025),
    rsa_jwk(N >> 1),
    rsa_jwk(1 << 8192 | 1),
    rsa_jwk(N, 1),
    rsa_jwk(N, 3),
    rsa_jwk(N, 65536),
    rsa_jwk(N, 2**33 + 1),
    rsa_jwk(ROCA),
    {**public(RSA, kid="s"), "n": 7},
    {**public(RSA, kid="s"), "n": "A+/="},
    {name: value for name, value in public(RSA, kid="s").items() if name != "e"},
    public(P256, kid="s", x="AAAA"),
    public(P256, kid="s", x=encode(b"\0" + COORDINATE).decode()),
    public(P256, kid="s", y=encode(b"\1" * 32).decode()),
    public(P256, kid="s", crv="P-384", alg=None),
    public(P256, kid="s", crv="P-384"),
    public(P256, kid="s", alg="ES384"),
    public(P256, kid="s", alg="RS256"),
    public(P256, kid="s", alg=7),
    public(kid="s", x=encode(b"\1" * 31).decode()),
    public(kid="s", x=None),
    public(kid="s", alg="ES256"),
    public(kid="s", kty="RSA"),
    public(kid="s", use=7),
    public(kid="s", key_ops="verify"),
    public(kid="s", key_ops=["verify", "verify"]),
    public(kid="s", key_ops=["verify", "encrypt"]),
    public(kid="s", key_ops=["verify", 7]),
    public(kid="a b"),
    public(kid=7),
]


@pytest.mark.parametrize("other", BROKEN)
def test_a_key_that_is_weak_or_at_odds_with_itself_refuses_the_set(other: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_jwks(jwks(public(), other))


def test_a_modulus_of_the_broken_generator_is_recognised_and_an_honest_one_is_not() -> None:
    with pytest.raises(Malformed, match="CVE-2017-15361"):
        read_jwk(rsa_jwk(ROCA))
    read_jwk(rsa_jwk(N))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[7]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"OKP","kty":"OKP"}]}',
        b"<html>",
        jwks(public()) + b" " * SET_LIMIT_BYTES,
        jwks(*[public(kid=f"k{number}") for number in range(SET_LIMIT_KEYS + 1)]),
    ],
)
def test_what_is_no_strict_set_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_jwks(data)


def test_a_signer_shows_no_private_part() -> None:
    for _, private in ALL:
        by = signer(private)
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"}.intersection(by.jwk())
        assert "key=" not in repr(by)
