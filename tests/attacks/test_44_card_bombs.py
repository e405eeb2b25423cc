"""A card costs what its size costs: no header, number of signatures or depth of it makes the gateway work long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.core.canonical import encode
from gateway.core.reasons import Malformed, Unverified
from gateway.trust.cards import CARD_LIMIT_BYTES, CARD_SIGNATURES, read_card, verify_card
from gateway.trust.jose import encoded
from tests.trust.card_rig import ACME, THIEF, acme, card, signed

ROW = 44


def carried(header: dict[str, Any]) -> dict[str, Any]:
    protected = encoded(json.dumps({"alg": "ES256", "kid": "acme-1", **header}).encode())
    signature = ACME.sign(protected + b"." + encoded(encode(card())))
    return {**card(), "signatures": [{"protected": protected.decode(), "signature": encoded(signature).decode()}]}


@pytest.mark.parametrize(
    "header",
    [
        {"zip": "DEF"},
        {"p2c": 2_000_000_000, "p2s": "AAAA"},
        {"p2c": 1},
        {"enc": "A256GCM"},
        {"epk": {"kty": "EC"}},
        {"x": "y" * 8192},
    ],
    ids=lambda found: ",".join(found),
)
def test_a_header_that_makes_work_is_refused_before_any(header: dict[str, Any]) -> None:
    with pytest.raises(Unverified):
        verify_card(carried(header), acme(), 0.0)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"name":"' + b"x" * CARD_LIMIT_BYTES + b'"}',
        b'{"name":1' + b"0" * 5000 + b"}",
        b'{"skills":[' + b'{"id":"a"},' * 30_000 + b"{}]}",
    ],
    ids=["open brackets", "nested", "large", "long number", "many"],
)
def test_a_card_that_is_too_much_is_refused_while_it_is_read(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(Malformed):
        read_card(data)
    assert time.process_time() - began < 1.0


def test_the_worst_card_that_is_read_is_judged_in_no_time_to_speak_of() -> None:
    """As large as it may be, with as many signatures as it may have, by a trusted key, wrong in every form."""
    full = card(
        description="ü" * 1000,
        future={"x": [""] * 1000},
        skills=[{"id": str(n), "name": "", "description": "", "tags": [], "examples": ["ü"]} for n in range(1000)],
    )
    full = signed(full, *[ACME] * CARD_SIGNATURES, payload=b"{}")
    data = json.dumps(full, ensure_ascii=False).encode()
    assert CARD_LIMIT_BYTES / 2 < len(data) < CARD_LIMIT_BYTES
    began = time.process_time()
    with pytest.raises(Unverified, match="not right"):
        verify_card(read_card(data), acme(), 0.0)
    assert time.process_time() - began < 2.0


def test_signatures_of_strangers_cost_no_arithmetic() -> None:
    stranger = signed(card(), *[THIEF] * CARD_SIGNATURES)
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(Unverified, match="no trusted signer"):
            verify_card(stranger, acme(), 0.0)
    assert time.process_time() - began < 1.0
    with pytest.raises(Malformed, match="signatures"):
        verify_card(signed(card(), *[THIEF] * (CARD_SIGNATURES + 1)), acme(), 0.0)
