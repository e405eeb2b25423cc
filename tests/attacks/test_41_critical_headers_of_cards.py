"""A card whose signature asks for an extension is not believed: none is understood here, and none is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.canonical import encode
from gateway.core.reasons import Unverified
from gateway.trust.cards import verify_card
from gateway.trust.jose import encoded
from tests.trust.card_rig import ACME, acme, card

ROW = 41


def carried(protected: bytes, payload: bytes | None = None, header: Any = None) -> dict[str, Any]:
    """Signed by the trusted key over just this header: only the header is wrong."""
    signing = encoded(protected) + b"." + (encoded(encode(card())) if payload is None else payload)
    item = {"protected": encoded(protected).decode(), "signature": encoded(ACME.sign(signing)).decode()}
    return {**card(), "signatures": [item if header is None else {**item, "header": header}]}


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["http://example.com/unknown"], "http://example.com/unknown": 1},
        {"crit": []},
        {"crit": None},
        {"crit": "b64"},
        {"crit": ["alg"]},
        {"crit": ["b64", "b64"], "b64": True},
        {"b64": False},
        {"b64": True},
    ],
    ids=str,
)
def test_a_critical_header_is_refused_in_any_form(more: dict[str, Any]) -> None:
    protected = json.dumps({"alg": "ES256", "kid": "acme-1", **more}).encode()
    with pytest.raises(Unverified, match="not allowed"):
        verify_card(carried(protected), acme(), 0.0)


def test_an_unencoded_payload_is_not_taken_for_an_encoded_one() -> None:
    """RFC 7797: with b64 false the payload itself would be signed."""
    protected = json.dumps({"alg": "ES256", "kid": "acme-1", "b64": False, "crit": ["b64"]}).encode()
    with pytest.raises(Unverified):
        verify_card(carried(protected, payload=encode(card())), acme(), 0.0)
    plain = json.dumps({"alg": "ES256", "kid": "acme-1"}).encode()
    with pytest.raises(Unverified):
        verify_card(carried(plain, payload=encode(card())), acme(), 0.0)


@pytest.mark.parametrize(
    "header", [{"crit": ["b64"]}, {"crit": []}, {"b64": False}, {"alg": "ES256"}, {"kid": "acme-1"}], ids=str
)
def test_the_unprotected_header_says_nothing_that_counts(header: dict[str, Any]) -> None:
    protected = json.dumps({"alg": "ES256", "kid": "acme-1"}).encode()
    assert verify_card(carried(protected, header={"note": "x"}), acme(), 0.0)
    with pytest.raises(Unverified, match="unprotected"):
        verify_card(carried(protected, header=header), acme(), 0.0)


def test_a_repeated_member_is_not_read_by_anybodys_rule() -> None:
    for protected in (
        b'{"alg":"none","alg":"ES256","kid":"acme-1"}',
        b'{"alg":"ES256","kid":"evil","kid":"acme-1"}',
        b'{"alg":"ES256","kid":"acme-1","\\u0063rit":["b64"]}',
    ):
        with pytest.raises(Unverified):
            verify_card(carried(protected), acme(), 0.0)
