"""Signed manifests: what somebody trusted says that an MCP upstream describes.

The document is one JSON object: lists as MCP has them (`tools`, `prompts`, `resources`, `resourceTemplates`, items
without `_meta`), perhaps `expires` (RFC 3339), and `signatures`, each a flattened detached JWS (jose_detached.py) over
the canonical bytes of all the rest. It counts, in the order of the code:
1. A JSON object of at most `MANIFEST_BYTES`, without a repeated name. 2. No member but those; at least one list. 3. At
most `SIGNATURES` signatures. 4. It has not expired. 5. One is right by a key, in force now, of a signer that the
upstream names; `jku` leads nowhere here. 6. Each item has its name, once in its list, and a digest.
It says which digests are good and nothing else: what it does not name is simply not signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.core.canonical import Json, parse_answer
from gateway.core.reasons import Malformed, Unverified
from gateway.core.tokens import Vouched
from gateway.trust.jose import KeySet, Signer
from gateway.trust.jose_detached import DETACHED_ALGORITHMS, Detached, read_detached, sign_detached
from gateway.trust.tools import SHAPES, Named, Shape, canonical, see

MANIFEST_BYTES = 8 * 1024 * 1024
SIGNATURES = 8

_LISTS: Mapping[str, Shape] = {shape.member: shape for shape in SHAPES.values()}
_MEMBERS = {*_LISTS, "expires", "signatures"}


@dataclass(frozen=True, slots=True)
class Keys:
    """A signer's keys as they are now; None while they cannot be had."""

    signer: str
    keys: KeySet | None


def read_manifest(data: bytes) -> tuple[dict[str, Json], list[Detached]]:
    """Rules 1 to 3. Raises Malformed."""
    if len(data) > MANIFEST_BYTES:
        raise Malformed(f"the manifest is larger than {MANIFEST_BYTES} bytes")  # 1
    found = parse_answer(data)  # integers keep their digits, as in the lists that are compared with it
    if not isinstance(found, dict):
        raise Malformed("the manifest is not a JSON object")
    if not found.keys() <= _MEMBERS or not found.keys() & _LISTS.keys():
        raise Malformed(f"the manifest has members other than {', '.join(sorted(_MEMBERS))}, or no list")  # 2
    listed = found.get("signatures")
    if not isinstance(listed, list) or not 0 < len(listed) <= SIGNATURES:
        raise Malformed(f"signatures is not a list of 1 to {SIGNATURES}")  # 3
    return found, [read_detached(item) for item in listed]


def verify_manifest(
    manifest: Mapping[str, Json], signatures: Sequence[Detached], keys: Sequence[Keys], now: float
) -> Named:
    """Rules 4 to 6. Raises Unverified, which says what is wrong with each signature, and Malformed."""
    until = _expires(manifest)
    if until <= now:
        raise Unverified("the manifest has expired")  # 4
    payload = canonical({name: value for name, value in manifest.items() if name != "signatures"})
    wrong: list[str] = []
    for signature in signatures:
        for one in keys:
            key = one.keys.named(signature.kid) if one.keys is not None else None
            if key is None or one.keys is None:
                wrong.append(f"{signature.kid}: no key of {one.signer}")
            elif not key.in_force(now):
                wrong.append(f"{signature.kid}: the key of {one.signer} is not in force")
            elif not isinstance(one.keys.verify(signature.over(payload), DETACHED_ALGORITHMS), Vouched):
                wrong.append(f"{signature.kid}: it is not right, or over something else")
            else:
                return Named(one.signer, _digests(manifest), min(until, key.expires))  # 5
    raise Unverified("; ".join(dict.fromkeys(wrong)) or "nobody may sign it")


def sign_manifest(manifest: Mapping[str, Json], by: Signer) -> dict[str, Json]:
    """The manifest with this signature as its only one; items lose their `_meta`. Raises Malformed."""
    bare: dict[str, Json] = {}
    for name, value in manifest.items():
        if name in _LISTS and isinstance(value, list):
            bare[name] = [
                {key: part for key, part in item.items() if key != "_meta"} if isinstance(item, dict) else item
                for item in value
            ]
        elif name != "signatures":
            bare[name] = value
    _digests(bare)
    _expires(bare)
    return {**bare, "signatures": [sign_detached(canonical(bare), by)]}


def _expires(manifest: Mapping[str, Json]) -> float:
    said = manifest.get("expires")
    if said is None:
        return float("inf")
    try:
        found = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Malformed("expires is RFC 3339, as in 2027-01-01T00:00:00Z")
    return found.timestamp()


def _digests(manifest: Mapping[str, Json]) -> dict[tuple[str, str], str]:
    """6."""
    found: dict[tuple[str, str], str] = {}
    for member, shape in _LISTS.items():
        items = manifest.get(member, [])
        if not isinstance(items, list):
            raise Malformed(f"{member} is not a list")
        for item in items:
            name = item.get(shape.key) if isinstance(item, dict) else None
            if not isinstance(item, dict) or not isinstance(name, str) or not name:
                raise Malformed(f"an item of {member} has no {shape.key}")
            if "_meta" in item:
                raise Malformed(f"{member}: {name[:80]!r} has a _meta, which nobody signs")
            seen = see(shape.kind, name, item)
            if not seen.digest or (shape.kind, name) in found:
                raise Malformed(f"{member}: {name[:80]!r} {seen.why or 'is there twice'}")
            found[shape.kind, name] = seen.digest
    return found
