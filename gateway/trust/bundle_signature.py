"""`.signatures.json` of a bundle: who signed which files. With the numbers of trust/bundle.py:

4. Form: the file is there, strict JSON with exactly one signature and no plugin but OPA's own; the signature is a
compact JWS that kept the rules of jose.py (its size is bounded by the number of files), its payload says `files`,
perhaps `keyid`, `scope`, `iss` and `iat`, and nothing else. 5. Key: the signature is right, by a key in force of a
signer who may sign bundles here; a key's name, in the header and in the payload, is the same name. 6. Scope: the
payload's is the one that is configured, and there is none where none is.
The files that it lists are held against the bundle in bundle.py (7 and 8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.bundles import BundleRefused
from gateway.core.canonical import Json, encode, parse_object
from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, Vouched
from gateway.trust.bundle_hash import ALGORITHMS as HASHES
from gateway.trust.bundle_hash import file_hash
from gateway.trust.jose import ALGORITHMS, KeySet, Signer, Token, encoded, read_token

SIGNATURES = ".signatures.json"
PAYLOAD_BYTES = 1024 * 1024  # 2000 files of 255 characters' names
_PLUGIN = "_default"
_UNNAMED = "default"  # what OPA writes as the key's name where nobody gave one
_CLAIMS = frozenset({"files", "keyid", "scope", "iss", "iat"})
_HEX = re.compile(r"[0-9a-f]{64,128}")


@dataclass(frozen=True, slots=True)
class BundleSigner:
    """Who may sign bundles: `keys` gives the set as it is now, None while there is none to believe. `any_name`: it is
    one bare key, to be tried whatever the signature calls it."""

    name: str
    keys: Callable[[], KeySet | None]
    any_name: bool = False


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What one signer vouches for: by file name, algorithm and hex digest."""

    signer: str
    kid: str
    scope: str
    files: Mapping[str, tuple[str, str]]


def verified(document: bytes | None, signers: Sequence[BundleSigner], scope: str, now: float) -> SignedFiles:
    """Rules 4 to 6. `now` is epoch seconds: a key must be in force. Raises BundleRefused."""
    if document is None:
        raise BundleRefused(4, f"{SIGNATURES} is not there: the bundle is not signed")
    try:
        token = _token(document)
        claims = token.claims()
        files = _files(claims)
    except Malformed as error:
        raise BundleRefused(4, f"{SIGNATURES}: {error}") from None
    named = _key_name(token, claims)
    signer, kid = _signer(replace(token, kid=named), signers, now)
    said = claims.get("scope", "")
    if said != scope:
        wanted = f"policy.scope is {scope!r}" if scope else "policy.scope is not set"
        raise BundleRefused(6, f"it is signed for scope {str(said)[:100]!r}, and {wanted}")
    return SignedFiles(signer, kid, scope, files)


def _token(document: bytes) -> Token:
    found = parse_object(document)
    if not {"signatures"} <= found.keys() <= {"signatures", "plugin"}:
        raise Malformed("it has signatures, perhaps plugin, and nothing else")
    if found.get("plugin", _PLUGIN) not in ("", _PLUGIN):
        raise Malformed("it asks for a plugin that is not here")
    listed = found["signatures"]
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], str):
        raise Malformed("it has not exactly one signature")
    return read_token(listed[0].encode("utf-8", "replace"), limit_bytes=PAYLOAD_BYTES)


def _files(claims: Mapping[str, Json]) -> dict[str, tuple[str, str]]:
    if not {"files"} <= claims.keys() <= _CLAIMS:
        odd = sorted(claims.keys() - _CLAIMS) or ["files is missing"]
        raise Malformed(f"the payload is not understood: {', '.join(odd)[:200]}")
    if not all(isinstance(claims.get(name, ""), str) for name in ("keyid", "scope", "iss")):
        raise Malformed("keyid, scope or iss is not text")
    listed = claims["files"]
    if not isinstance(listed, list):
        raise Malformed("files is not a list")
    found: dict[str, tuple[str, str]] = {}
    for item in listed:
        if not isinstance(item, dict) or item.keys() != {"name", "hash", "algorithm"}:
            raise Malformed("a file is not an object of name, hash and algorithm")
        name, hashed, algorithm = item["name"], item["hash"], item["algorithm"]
        if not isinstance(name, str) or not isinstance(hashed, str) or _HEX.fullmatch(hashed) is None:
            raise Malformed("a file's name is not text, or its hash is not lower-case hex")
        if not isinstance(algorithm, str) or algorithm not in HASHES:
            raise Malformed(f"{name[:100]}: the hash algorithm is not one of {', '.join(HASHES)}")
        if name in found:
            raise Malformed(f"{name[:100]} is listed twice")
        found[name] = (algorithm, hashed)
    return found


def _key_name(token: Token, claims: Mapping[str, Json]) -> str | None:
    said = claims.get("keyid") or None
    if said is not None and token.kid is not None and said != token.kid:
        raise BundleRefused(5, "its header and its payload name different keys")
    named = token.kid or said
    return named if isinstance(named, str) else None


def _signer(token: Token, signers: Sequence[BundleSigner], now: float) -> tuple[str, str]:
    """5: the name of the signer and of its key."""
    if not signers:
        raise BundleRefused(5, "nobody may sign bundles here: policy.signers is empty")
    why: list[str] = []
    for signer in signers:
        keys = signer.keys()
        if keys is None:
            why.append(f"{signer.name}: its keys are not there")
            continue
        asked = token
        if signer.any_name or (token.kid == _UNNAMED and keys.named(_UNNAMED) is None):
            asked = replace(token, kid=None)
        found = keys.verify(asked, ALGORITHMS)
        if isinstance(found, Vouched):
            found = keys.proves(found.key, token.algorithm, token.signed, token.signature, now)
        if isinstance(found, Vouched):
            key = next(key for key in keys.keys if key.thumbprint == found.key)
            return signer.name, key.kid or key.thumbprint
        why.append(f"{signer.name}: {_WHY[found]}")
    raise BundleRefused(5, "signed by nobody who may; " + "; ".join(why))


_WHY = {
    Distrust.ALGORITHM: "the key is not for this algorithm",
    Distrust.KEY: "it has no such key in force",
    Distrust.SIGNATURE: "the signature is wrong",
}


def sign_files(files: Mapping[str, bytes], by: Signer, *, scope: str = "", named: bool = True) -> bytes:
    """`.signatures.json` over these files. `named`: the key's name goes along. Raises Malformed."""
    listed: list[Json] = [
        {"algorithm": "SHA-256", "hash": file_hash(name, content), "name": name}
        for name, content in sorted(files.items())
        if name != SIGNATURES
    ]
    claims: dict[str, Json] = {"files": listed}
    if named:
        claims["keyid"] = by.kid
    if scope:
        claims["scope"] = scope
    header: dict[str, Json] = {"alg": by.algorithm}
    if named:
        header["kid"] = by.kid
    signed = encoded(encode(header)) + b"." + encoded(encode(claims))
    token = signed + b"." + encoded(by.sign(signed))
    return encode({"plugin": _PLUGIN, "signatures": [token.decode()]}) + b"\n"
