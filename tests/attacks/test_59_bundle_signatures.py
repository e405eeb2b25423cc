"""A bundle's signature cannot be stepped around: taken off, renamed, made partial, made by another, or about less."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from rig import gateway

from gateway.core.bundles import BundleRefused
from gateway.trust.bundle import BundleRules
from gateway.trust.bundle_signature import BundleSigner
from gateway.trust.jose import read_jwks, signer
from tests.flows.pushing import bundle_settings, push
from tests.trust.bundle_rig import (
    KEY,
    NOW,
    OTHER,
    POLICY,
    files,
    good,
    jws,
    listed,
    manifest,
    member,
    packed,
    rules,
    signatures,
    signed,
    verified,
)

ROW = 59
HEADER = {"alg": "EdDSA", "kid": "mine"}
NAME = ".signatures.json"


def claims(**members: Any) -> dict[str, Any]:
    return {"files": listed(files())} | members


def with_signature(document: bytes) -> bytes:
    return packed({NAME: document, **files()})


def with_token(token: str) -> bytes:
    return with_signature(signatures(token))


def changed(name: str, content: bytes) -> bytes:
    return packed(signed(files()) | {name: content})


def listing(change: Callable[[list[dict[str, str]]], object]) -> bytes:
    found = listed(files())
    change(found)
    return with_token(jws(HEADER, {"files": found}))


def without_signature_check() -> str:
    """`alg: none`, the oldest of them."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims())]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


ELSEWHERE = signer(generate_private_key(SECP256R1()), "mine")
CASES: list[tuple[str, Callable[[], bytes], int]] = [
    ("the signature is taken off", lambda: packed(files()), 4),
    ("it has another name", lambda: packed({".signatures.JSON": signed(files())[NAME], **files()}), 4),
    ("it lies in a folder", lambda: packed({"x/.signatures.json": signed(files())[NAME], **files()}), 4),
    ("it is no JSON", lambda: with_signature(b"signed, honestly"), 4),
    ("there is none in the list", lambda: with_signature(signatures()), 4),
    ("there are two", lambda: with_signature(signatures(jws(HEADER, claims()), jws(HEADER, claims()))), 4),
    ("a plugin is to check it", lambda: with_signature(signatures(jws(HEADER, claims()), plugin="lenient")), 4),
    ("something stands beside it", lambda: with_signature(signatures(jws(HEADER, claims()), trust="me")), 4),
    ("nobody signed it", lambda: with_token(without_signature_check()), 4),
    ("a MAC", lambda: with_token(jws({"alg": "HS256", "kid": "mine"}, claims())), 4),
    ("it brings its key", lambda: with_token(jws(HEADER | {"jwk": OTHER.jwk()}, claims(), OTHER)), 4),
    ("an extension is critical", lambda: with_token(jws(HEADER | {"crit": ["b64"], "b64": False}, claims())), 4),
    ("it lists no files", lambda: with_token(jws(HEADER, {"keyid": "mine"})), 4),
    ("a claim that nobody reads", lambda: with_token(jws(HEADER, claims(exp=1))), 4),
    ("a hash that is broken", lambda: listing(lambda found: found[0].update(algorithm="MD5", hash="0" * 64)), 4),
    ("a file is listed twice", lambda: listing(lambda found: found.append(found[0])), 4),
    ("somebody else signed it", lambda: packed(signed(files(), OTHER)), 5),
    ("somebody else under this name", lambda: with_token(jws(HEADER, claims(), OTHER)), 5),
    ("another kind of key under this name", lambda: packed(signed(files(), ELSEWHERE)), 5),
    ("two names for one key", lambda: with_token(jws(HEADER, claims(keyid="other"))), 5),
    ("a signature of another list", lambda: with_token(spliced()), 5),
    ("it is for another place", lambda: packed(signed(files(), scope="staging")), 6),
    ("a file more", lambda: packed(signed(files()) | {"more.rego": POLICY.encode()}), 7),
    ("data more", lambda: packed(signed(files()) | {"roles/data.json": b"{}"}), 7),
    ("a file less", lambda: listing(lambda found: found.append(found[0] | {"name": "gone.rego"})), 7),
    ("only some are signed", lambda: listing(lambda found: found.pop()), 7),
    ("the policy is another", lambda: changed("policy.rego", POLICY.replace("false", "true").encode()), 8),
    ("the data is other data", lambda: changed("data.json", b'{"friends": ["a", "mallory"]}'), 8),
    ("the manifest is another", lambda: changed(".manifest", manifest(99)), 8),
    ("a number is written otherwise", lambda: rewritten(b'{"friends": [1.0]}', b'{"friends": [1.00]}'), 8),
    ("a member is there twice", lambda: changed("data.json", b'{"friends": ["x"], "friends": ["a"]}'), 8),
]


def spliced() -> str:
    one, other = jws(HEADER, claims()), jws(HEADER, claims(iss="x"))
    return ".".join((*other.split(".")[:2], one.split(".")[2]))


def rewritten(was: bytes, now: bytes) -> bytes:
    return packed(signed(files(data=was)) | {"data.json": now})


@pytest.mark.parametrize(("make", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bundle_that_nobody_vouches_for_is_refused_by_its_rule(make: Callable[[], bytes], rule: int) -> None:
    with pytest.raises(BundleRefused) as refused:
        verified(make())
    assert refused.value.rule == rule, refused.value


def test_a_scope_that_is_configured_must_be_signed_for() -> None:
    with pytest.raises(BundleRefused) as refused:
        verified(good(), None, rules(scope="production"))
    assert refused.value.rule == 6
    assert verified(packed(signed(files(), scope="production")), None, rules(scope="production")).scope == "production"


def test_a_second_member_of_the_signatures_name_is_no_second_chance() -> None:
    with pytest.raises(BundleRefused) as refused:
        verified(packed(signed(files()), member(NAME, signed(files(), OTHER)[NAME])))
    assert refused.value.rule == 3


def test_the_old_bundle_stays_where_a_push_is_refused_and_records_say_so(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        assert push(running, good(1), activate=True).status_code == 200
        before = running.app.snapshot
        for _, make, rule in CASES[:6]:
            answer = push(running, make(), activate=True)
            assert (answer.status_code, answer.json()["rule"]) == (422, rule)
        assert running.app.snapshot is before
        headers = {"authorization": f"Bearer {running.admin_token}"}
        status = httpx2.get(f"{running.admin_url}/api/v1/bundles/tollgate", headers=headers).json()
        assert status["active"]["number"] == 1
        assert len(status["kept"]) == 1
        said = [record["bundle"]["refused"] for record in running.records() if "refused" in record.get("bundle", {})]
        assert [item["rule"] for item in said] == [rule for *_, rule in CASES[:6]]


def test_a_key_that_was_taken_back_puts_nothing_in_force_any_more(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        kept = push(running, good(1)).json()["pushed"]
        (tmp_path / "authors.jwks.json").write_text(json.dumps({"keys": [OTHER.jwk()]}))
        headers = {"authorization": f"Bearer {running.admin_token}", "if-match": "*"}
        url = f"{running.admin_url}/api/v1/bundles/tollgate/activate"
        answer = httpx2.post(url, json={"digest": kept["digest"]}, headers=headers)
        assert (answer.status_code, answer.json()["rule"]) == (422, 5)
        assert running.last("activation")["activation"]["effect"] == "refused"
        assert KEY.kid in kept["signer"] or kept["signer"] == "authors"


@pytest.mark.parametrize("time", [{"exp": NOW - 1}, {"nbf": NOW + 1}, {"revoked": True}], ids=str)
def test_a_key_that_is_not_in_force_vouches_for_nothing(time: dict[str, Any]) -> None:
    keys = read_jwks(json.dumps({"keys": [KEY.jwk() | time]}).encode())
    with pytest.raises(BundleRefused) as refused:
        verified(good(), None, BundleRules([BundleSigner("mine", lambda: keys)], "", [""]))
    assert refused.value.rule == 5
