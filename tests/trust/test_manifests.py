"""Signed manifests: whose word counts, over what, and how long."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.canonical import encode
from gateway.core.reasons import Malformed, Unverified
from gateway.trust.jose import KeySet, Signer, read_jwk, signer
from gateway.trust.jose_detached import sign_detached
from gateway.trust.manifests import MANIFEST_BYTES, Keys, read_manifest, sign_manifest, verify_manifest
from gateway.trust.tools import Named, canonical, see

NOW = 1_800_000_000.0
TOOL = {"name": "forecast", "description": "Snow", "inputSchema": {"type": "object", "maximum": 2**60}}
MANIFEST: dict[str, Any] = {
    "tools": [TOOL],
    "prompts": [{"name": "packing"}],
    "resourceTemplates": [{"name": "city", "uriTemplate": "weather://{city}"}],
}


def key(kid: str = "k1", **members: Any) -> tuple[Signer, KeySet]:
    made = signer(Ed25519PrivateKey.generate(), kid)
    return made, KeySet([read_jwk({**made.jwk(), **members})])


ACME, ACME_KEYS = key()


def judged(document: Any, *keys: Keys, now: float = NOW) -> Named:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return verify_manifest(*read_manifest(data), keys or (Keys("acme", ACME_KEYS),), now)


def test_what_a_trusted_signer_signed_is_named_by_digest() -> None:
    found = judged(sign_manifest(MANIFEST, ACME))
    assert found.signer == "acme"
    assert found.digests == {
        ("tool", "forecast"): see("tool", "forecast", TOOL).digest,
        ("prompt", "packing"): see("prompt", "packing", {"name": "packing"}).digest,
        ("resource_template", "weather://{city}"): see("x", "x", MANIFEST["resourceTemplates"][0]).digest,
    }


def test_spelling_is_free_and_meta_is_nobodys_to_sign() -> None:
    signed = sign_manifest({"tools": [{**TOOL, "_meta": {"seen": 1}}]}, ACME)
    assert "_meta" not in json.dumps(signed)
    spaced = json.dumps(dict(reversed(signed.items())), indent=3).encode()
    assert judged(spaced).digests == judged(signed).digests


def test_one_good_signature_is_enough_and_may_be_any_of_them() -> None:
    stranger, _ = key("k2")
    signed = sign_manifest(MANIFEST, ACME)
    other = sign_manifest(MANIFEST, stranger)
    both = {**signed, "signatures": [*other["signatures"], *signed["signatures"]]}  # type: ignore[misc]
    assert judged(both).signer == "acme"
    with pytest.raises(Unverified):
        judged(other)


Change = Callable[[dict[str, Any]], Any]


def _put(path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        *places, last = path.split(".")
        found: Any = document
        for place in places:
            found = found[int(place)] if place.isdigit() else found[place]
        found[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _put("tools.0.description", "Rain"), _put("tools.0.inputSchema.maximum", 2**60 - 1),
        _put("tools.0.title", "new"), _put("prompts", []), _put("resources", []),
        _put("expires", "2099-01-01T00:00:00Z"), lambda document: document.pop("prompts"),
        lambda document: document["tools"].append({"name": "more"}),
    ],
)  # fmt: skip
def test_nothing_can_be_changed_or_added_after_signing(change: Change) -> None:
    document = copy.deepcopy(sign_manifest(MANIFEST, ACME))
    change(document)
    with pytest.raises(Unverified):
        judged(document)


@pytest.mark.parametrize(
    "document",
    [
        b"[]", b"{}", b'{"tools":[],"tools":[],"signatures":[]}', {"tools": []}, {"tools": [], "signatures": []},
        {"signatures": [{}]}, {"tools": [], "more": 1, "signatures": [{}]}, {"tools": [], "signatures": [{}] * 9},
        {"tools": [], "signatures": [{"protected": "e30", "signature": "AA"}]},
        b" " * (MANIFEST_BYTES + 1),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(document: Any) -> None:
    with pytest.raises(Malformed):
        judged(document)


@pytest.mark.parametrize(
    "manifest",
    [
        {"tools": [{"description": "no name"}]}, {"tools": [TOOL, TOOL]}, {"tools": ["forecast"]}, {"tools": {}},
        {"tools": [{**TOOL, "name": ""}]}, {"tools": [TOOL], "expires": "soon"},
        {"tools": [TOOL], "expires": "2099-01-01T00:00:00"}, {"tools": [TOOL], "expires": 4e9},
    ],
)  # fmt: skip
def test_a_manifest_that_says_nothing_clear_is_neither_made_nor_believed(manifest: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        sign_manifest(manifest, ACME)
    signed = {**manifest, "signatures": [sign_detached(canonical(manifest), ACME)]}
    with pytest.raises(Malformed):
        judged(signed)


def test_a_meta_that_was_signed_all_the_same_is_refused() -> None:
    manifest = {"tools": [{"name": "a", "_meta": {}}]}
    with pytest.raises(Malformed, match="_meta"):
        judged({**manifest, "signatures": [sign_detached(encode(manifest), ACME)]})  # type: ignore[arg-type]


def test_a_manifest_ends_when_it_says_and_when_its_key_does() -> None:
    signed = sign_manifest({**MANIFEST, "expires": "2027-02-01T00:00:00Z"}, ACME)
    assert judged(signed, now=1_801_439_999.0).until == 1_801_440_000.0
    with pytest.raises(Unverified, match="expired"):
        judged(signed, now=1_801_440_000.0)
    made, ends = key("k3", exp=int(NOW) + 10)
    assert judged(sign_manifest(MANIFEST, made), Keys("acme", ends)).until == NOW + 10
    with pytest.raises(Unverified, match="not in force"):
        judged(sign_manifest(MANIFEST, made), Keys("acme", ends), now=NOW + 10)
    _, later = key("k1", nbf=int(NOW) + 10)
    with pytest.raises(Unverified, match="not in force"):
        judged(sign_manifest(MANIFEST, ACME), Keys("acme", later))


def test_keys_that_cannot_be_had_verify_nothing() -> None:
    with pytest.raises(Unverified):
        judged(sign_manifest(MANIFEST, ACME), Keys("acme", None))
    with pytest.raises(Unverified):
        verify_manifest(*read_manifest(json.dumps(sign_manifest(MANIFEST, ACME)).encode()), (), NOW)
