"""Names of keys that mean two things, weak keys and mixed sets do not make a card believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gateway.core.canonical import encode
from gateway.core.reasons import Malformed, Unverified
from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import encoded, read_jwks, signer
from gateway.trust.jwks import FileKeys
from tests.trust.card_rig import ACME, OTHER, THIEF, acme, card, keys, signed

ROW = 43


@pytest.mark.parametrize(
    "kid",
    [
        "../../etc/passwd",
        "acme-1\x00",
        "acme-1\n",
        " acme-1",
        "acme-1'; DROP TABLE keys; --",
        "ａcme-1",
        "ACME-1",
        "acme-1/../thief-1",
        "",
        "k" * 257,
        ["acme-1"],
        {"kid": "acme-1"},
        None,
        1,
    ],
    ids=repr,
)
def test_a_kid_that_is_not_plainly_a_trusted_keys_is_nobodys(kid: Any) -> None:
    protected = encoded(json.dumps({"alg": "ES256", "kid": kid}).encode())
    signature = ACME.sign(protected + b"." + encoded(encode(card())))
    item = {"protected": protected.decode(), "signature": encoded(signature).decode()}
    with pytest.raises(Unverified):
        verify_card({**card(), "signatures": [item]}, acme(), 0.0)


def test_a_signature_without_a_kid_is_not_tried_with_every_key() -> None:
    protected = encoded(json.dumps({"alg": "ES256"}).encode())
    signature = ACME.sign(protected + b"." + encoded(encode(card())))
    item = {"protected": protected.decode(), "signature": encoded(signature).decode()}
    with pytest.raises(Unverified, match="no kid"):
        verify_card({**card(), "signatures": [item]}, acme(), 0.0)


def weak() -> dict[str, Any]:
    n = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    return {"kty": "RSA", "kid": "weak-1", "n": encoded(n.to_bytes(128)).decode(), "e": "AQAB"}


@pytest.mark.parametrize(
    "listed",
    [
        [ACME.jwk(), {**THIEF.jwk(), "kid": "acme-1"}],
        [ACME.jwk(), ACME.jwk()],
        [ACME.jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}],
        [ACME.jwk(), {**OTHER.jwk(), "d": "AAAA"}],
        [ACME.jwk(), weak()],
        [ACME.jwk(), {**ACME.jwk(), "kid": "acme-2", "x": ACME.jwk()["y"]}],
        [{**ACME.jwk(), "alg": "EdDSA"}],
        [{**ACME.jwk(), "key_ops": ["verify", "encrypt"]}],
        [{**ACME.jwk(), "kid": "acme 1"}],
        [{**ACME.jwk(), "exp": "never"}],
    ],
    ids=["kid twice", "key twice", "symmetric", "private", "weak", "off the curve", "alg", "ops", "kid", "exp"],
)
def test_a_set_that_is_at_odds_with_itself_is_refused_and_the_former_serves_on(tmp_path: Path, listed: Any) -> None:
    data = json.dumps({"keys": listed}).encode()
    with pytest.raises(Malformed):
        read_jwks(data)

    class Clock:
        def time(self) -> float:
            return 0.0

        def monotonic(self) -> float:
            return 0.0

    path = tmp_path / "acme.jwks.json"
    path.write_text(json.dumps({"keys": [OTHER.jwk()]}))
    source = FileKeys(path, Clock())
    path.write_bytes(data)
    source.poll()
    voucher = Voucher("acme", source.usable())
    assert verify_card(signed(card(), OTHER), [voucher], 0.0).kid == "other-1"
    with pytest.raises(Unverified):
        verify_card(signed(card(), ACME), [voucher], 0.0)


def test_a_key_for_encryption_verifies_nothing() -> None:
    found = read_jwks(json.dumps({"keys": [{**ACME.jwk(), "use": "enc"}, OTHER.jwk()]}).encode())
    with pytest.raises(Unverified):
        verify_card(signed(card(), ACME), [Voucher("acme", found)], 0.0)


def test_the_same_kid_at_two_signers_is_two_keys() -> None:
    theirs = signer(ed25519.Ed25519PrivateKey.generate(), "acme-1")
    vouchers = [Voucher("acme", keys(ACME)), Voucher("other", keys(theirs))]
    assert verify_card(signed(card(), ACME), vouchers, 0.0).signer == "acme"
    assert verify_card(signed(card(), theirs), vouchers, 0.0).signer == "other"
    with pytest.raises(Unverified):
        verify_card(signed(card(), theirs), vouchers[:1], 0.0)
