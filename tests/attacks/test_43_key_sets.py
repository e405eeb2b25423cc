"""kids that are more than names, sets that are ambiguous, keys that are weak."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.identity.bearer import Bearer
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.trust.jose import read_token, signer
from gateway.trust.jwks import FileKeys
from tests.identity.issuer import Issuer, ask, bearer, caller, encode, known, refused

ROW = 43


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../../dev/null",
        "/etc/passwd",
        "k1' OR '1'='1",
        'k1"; --',
        "k1\u0000",
        "k1\n",
        " k1",
        "k1 ",
        "K1",
        "\uff4b1",
        "k1|id",
        "${jndi:ldap://evil}",
        "",
        "k" * 300,
        None,
        1,
        ["k1"],
        {"kid": "k1"},
    ],
)
def test_a_kid_finds_a_key_by_its_exact_name_or_nothing(kid: Any) -> None:
    idp = Issuer()
    claims = json.dumps(idp.claims()).encode()
    known(ask(caller(idp), bearer(idp.raw(b'{"alg":"EdDSA","kid":"k1"}', claims))))
    refused(ask(caller(idp), bearer(idp.raw(json.dumps({"alg": "EdDSA", "kid": kid}).encode(), claims))))


def from_file(path: Path, idp: Issuer, keys: list[Any]) -> Caller:
    path.write_text(json.dumps({"keys": keys}))
    source = FileKeys(path, idp.clock)
    return Caller(
        Bearer([(idp.settings(), source)], read_token, idp.clock), None, Challenges("https://gw.example"), idp.clock
    )


def weak() -> list[Any]:
    small = rsa.generate_private_key(65537, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of it as well
        listed = {**signer(small, "weak").jwk()}
    even = {**listed, "e": "AQ"}
    return [listed, even, {**listed, "alg": "PS256"}]


@pytest.mark.parametrize(
    "other",
    [
        Issuer().signer.jwk(),  # the same kid for another key
        {"kty": "oct", "kid": "mac", "alg": "HS256", "k": encode(b"s" * 32).decode()},
        {"kty": "oct", "kid": "mac", "alg": "HS256", "k": encode(b"short").decode()},
        {**Issuer(kid="k2").signer.jwk(), "d": "AAAA"},
        {**Issuer(kid="k2").signer.jwk(), "alg": "RS256"},
        *weak(),
    ],
    ids=["duplicate kid", "mixed set", "short mac", "private", "mislabelled", "RSA-1024", "exponent 1", "PSS-1024"],
)
def test_a_set_with_such_a_key_is_believed_in_nothing(tmp_path: Path, other: Any) -> None:
    idp = Issuer()
    known(ask(from_file(tmp_path / "good", idp, [idp.signer.jwk()]), bearer(idp.token())))
    verdict = refused(ask(from_file(tmp_path / "bad", idp, [idp.signer.jwk(), other]), bearer(idp.token())))
    assert verdict.http_status == 503
