"""Bundles for the tests, good ones and any other: files, signatures and archives put together by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.bundles import Bundle, Terms
from gateway.pdp.apart import SeparateLab
from gateway.trust.bundle import BundleRules, Verifier
from gateway.trust.bundle_signature import BundleSigner
from gateway.trust.jose import Signer, read_jwks, signer

NOW = 1_800_000_000.0
POLICY = (
    "package tollgate\n\nimport rego.v1\n\ndefault decision := false\n\ndecision if input.subject.id in data.friends\n"
)
TESTS = """package tollgate_test

import rego.v1

test_a_friend_is_let_in if data.tollgate.decision with input as {"subject": {"id": "a"}} with data.friends as ["a"]
"""
KEY = signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "mine")
OTHER = signer(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "other")


def manifest(number: int | None = 7, **members: Any) -> bytes:
    own = {} if number is None else {"metadata": {"tollgate": {"number": number}}}
    return json.dumps({"revision": "r7", "roots": [""], "rego_version": 1} | own | members).encode()


def files(number: int | None = 7, **others: bytes | None) -> dict[str, bytes]:
    """The good bundle's; `others` replace or, None, take out, by their short names in MEMBERS."""
    found: dict[str, bytes] = {
        ".manifest": manifest(number),
        "policy.rego": POLICY.encode(),
        "policy_test.rego": TESTS.encode(),
        "data.json": b'{"friends": ["a"]}',
    }
    for name, content in others.items():
        if content is None:
            del found[MEMBERS[name]]
        else:
            found[MEMBERS[name]] = content
    return found


MEMBERS = {"manifest": ".manifest", "policy": "policy.rego", "tests": "policy_test.rego", "data": "data.json"}


def listed(content: Mapping[str, bytes]) -> list[dict[str, str]]:
    """The signed list, for documents written without space and in order: our own hashing is not asked."""
    found = []
    for name, raw in content.items():
        if name.endswith((".json", ".manifest")):
            raw = json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        found.append({"name": name, "hash": hashlib.sha256(raw).hexdigest(), "algorithm": "SHA-256"})
    return found


def jws(header: Mapping[str, Any], claims: Any, by: Signer = KEY) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    data = b".".join(parts)
    return (data + b"." + base64.urlsafe_b64encode(by.sign(data)).rstrip(b"=")).decode()


def signatures(*tokens: str, **members: Any) -> bytes:
    return json.dumps({"signatures": list(tokens)} | members).encode()


def signed(content: Mapping[str, bytes], by: Signer = KEY, **claims: Any) -> dict[str, bytes]:
    """With `.signatures.json` in front, as OPA's builder would have it."""
    said = {"files": listed(content)} | claims
    token = jws({"alg": by.algorithm, "kid": by.kid}, {name: value for name, value in said.items() if value != ""}, by)
    return {".signatures.json": signatures(token), **content}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[Any, bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = len(content), kind, link
    return made, content


def archive(members: Iterable[tuple[Any, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for item, content in members:
            tar.addfile(item, io.BytesIO(content))
    return made.getvalue()


def packed(content: Mapping[str, bytes], *more: tuple[Any, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    return gzip.compress(archive([*(member(name, raw) for name, raw in content.items()), *more], format), 1, mtime=0)


def good(number: int = 7, **members: Any) -> bytes:
    return packed(signed(files(number, manifest=manifest(number, **members))))


def rules(*by: Signer, scope: str = "", roots: tuple[str, ...] = ("",)) -> BundleRules:
    trusted = by or (KEY,)
    sets = [(key.kid, read_jwks(json.dumps({"keys": [key.jwk()]}).encode())) for key in trusted]
    return BundleRules([BundleSigner(name, lambda keys=keys: keys) for name, keys in sets], scope, roots)  # type: ignore[misc]


def verified(tarball: bytes, terms: Terms | None = None, found: BundleRules | None = None) -> Bundle:
    """Held against every rule. Raises BundleRefused."""
    verifier = Verifier(lambda: found or rules(), SeparateLab(20.0), lambda: NOW)
    return verifier.verify(tarball, terms or Terms(now=NOW))


def today(offset_s: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + offset_s))
