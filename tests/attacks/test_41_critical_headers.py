"""What must be understood and is not, refuses the token, rightly signed or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.identity.issuer import Issuer, ask, bearer, caller, encode, known, refused

ROW = 41


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["https://example/unknown"], "https://example/unknown": True},
        {"crit": ["unknown"]},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["alg"]},
        {"crit": ["crit"]},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": ["x", "x"], "x": 1},
        {"crit": [""]},
        {"crit": "exp"},
        {"crit": {"exp": 1}},
        {"crit": None},
        {"crit": False},
        {"crit": 0},
    ],
)
def test_crit_and_b64_are_refused_in_every_form(more: dict[str, Any]) -> None:
    idp = Issuer()
    header = {"alg": "EdDSA", "kid": idp.kid, "typ": "at+jwt"}
    claims = json.dumps(idp.claims()).encode()
    known(ask(caller(idp), bearer(idp.raw(json.dumps(header).encode(), claims))))
    assert (
        refused(ask(caller(idp), bearer(idp.raw(json.dumps({**header, **more}).encode(), claims)))).rule
        == "token_malformed"
    )


def test_crit_hidden_behind_a_second_crit_or_an_escape_is_refused() -> None:
    idp = Issuer()
    claims = json.dumps(idp.claims()).encode()
    for header in (
        b'{"alg":"EdDSA","kid":"k1","crit":["x"],"crit":null}',
        b'{"alg":"EdDSA","kid":"k1","\\u0063rit":["x"]}',
    ):
        refused(ask(caller(idp), bearer(idp.raw(header, claims))))


def test_an_unencoded_payload_is_refused() -> None:
    """RFC 7797: the signature would cover the payload's own bytes."""
    idp = Issuer()
    header = encode(b'{"alg":"EdDSA","kid":"k1","b64":false,"crit":["b64"]}')
    payload = json.dumps(idp.claims()).encode()
    signature = encode(idp.private.sign(header + b"." + payload))  # type: ignore[call-arg, union-attr]
    refused(ask(caller(idp), bearer(header + b"." + payload + b"." + signature)))
    refused(ask(caller(idp), bearer(header + b"." + encode(payload) + b"." + signature)))
    refused(ask(caller(idp), bearer(header + b".." + signature)))
