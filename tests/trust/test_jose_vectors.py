"""Wycheproof's JWS and JWK cases: nothing false is accepted; what is true and refused is listed with its reason.

Source: C2SP/wycheproof, testvectors_v1 (Apache-2.0), read from ../shared/vectors beside the checkout when it is there.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gateway.core.reasons import Malformed
from gateway.core.tokens import Vouched
from gateway.trust.jose import ALGORITHMS, decoded, read_jwks, read_token
from gateway.trust.jose_detached import DETACHED_ALGORITHMS, read_detached

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "wycheproof-jose.tar.xz"

SYMMETRIC = "keys of issuers are public keys: HMAC and sets with symmetric keys are never accepted"
MISLABELLED = "the key says an algorithm that is not the token's (PS256 for PS384) or that does not exist (ES521)"
JWS_FALSE_REJECTS = {
    **dict.fromkeys([1, 348, 352, 357, 358, 359, 376, 377], SYMMETRIC),
    **dict.fromkeys([372, 373], SYMMETRIC + "; besides, a character outside base64url stands in the token"),
    **dict.fromkeys([346, 350, 347, 351], MISLABELLED),
}
JWK_FALSE_REJECTS = dict.fromkeys([2, 13, 14, 15], SYMMETRIC)

UNUSED = "documents are signed with EdDSA, ES256, ES384, RS256 or PS256 only"
DETACHED_FALSE_REJECTS = {
    **JWS_FALSE_REJECTS,
    **dict.fromkeys([*range(264, 272), *range(320, 324), *range(325, 329)], UNUSED),
}


@cache
def groups(name: str) -> list[dict]:
    if not VECTORS.exists():
        pytest.skip(f"vectors are not here: {VECTORS.name} is expected in ../shared/vectors beside the checkout")
    with tarfile.open(VECTORS) as archive:
        member = archive.extractfile(name)
        assert member is not None
        return json.loads(member.read())["testGroups"]


def accepts(keys: dict, jws: object) -> bool:
    """Every algorithm the gateway has is allowed: the vectors try the wrapper at its widest."""
    try:
        known = read_jwks(json.dumps(keys if "keys" in keys else {"keys": [keys]}).encode())
        token = read_token(jws.encode() if isinstance(jws, str) else json.dumps(jws).encode())
    except Malformed:
        return False
    return isinstance(known.verify(token, ALGORITHMS), Vouched)


def accepts_detached(keys: dict, jws: str) -> bool:
    """The same signature as a document would carry it: flattened, its payload known from elsewhere."""
    parts = jws.split(".")
    if len(parts) != 3:
        return False
    try:
        payload = decoded(parts[1].encode("ascii", "replace")) if parts[1] else b""
        found = read_detached({"protected": parts[0], "signature": parts[2]})
        known = read_jwks(json.dumps(keys if "keys" in keys else {"keys": [keys]}).encode())
    except Malformed:
        return False
    return isinstance(known.verify(found.over(payload), DETACHED_ALGORITHMS), Vouched)


def judged(name: str, accepts: Callable[[dict, str], bool] = accepts) -> tuple[int, list[int], list[int]]:
    count, false_accepts, false_rejects = 0, [], []
    for group in groups(name):
        for case in group["tests"]:
            count += 1
            accepted = accepts(group.get("public") or group["private"], case["jws"])
            if accepted and case["result"] == "invalid":
                false_accepts.append(case["tcId"])
            if not accepted and case["result"] == "valid":
                false_rejects.append(case["tcId"])
    return count, false_accepts, false_rejects


def test_no_false_signature_is_accepted_and_each_refused_true_one_has_a_reason() -> None:
    count, false_accepts, false_rejects = judged("jws.json")
    assert count == 401
    assert false_accepts == []
    assert false_rejects == sorted(JWS_FALSE_REJECTS)


def test_the_same_holds_for_detached_signatures_of_documents() -> None:
    count, false_accepts, false_rejects = judged("jws.json", accepts_detached)
    assert count == 401
    assert false_accepts == []
    assert false_rejects == sorted(DETACHED_FALSE_REJECTS)


def test_no_false_key_is_accepted_and_each_refused_true_one_has_a_reason() -> None:
    count, false_accepts, false_rejects = judged("jwk.json")
    assert count == 26
    assert false_accepts == []
    assert false_rejects == sorted(JWK_FALSE_REJECTS)


def test_each_refused_true_case_is_refused_for_the_reason_listed() -> None:
    for group in groups("jws.json"):
        keys = group.get("public") or group["private"]
        for case in group["tests"]:
            reason = JWS_FALSE_REJECTS.get(case["tcId"])
            if reason is None:
                continue
            if reason.startswith(SYMMETRIC):
                assert keys["kty"] == "oct"
            else:
                assert keys["alg"] in ("PS256", "ES521")
