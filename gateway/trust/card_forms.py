"""What a signature of an agent card may cover: the canonical forms that are in the field, made from the raw JSON.

A form gives the payload that is signed and the card that this payload says: what a payload does not say was not signed
and never goes on. Forms of v1.0, in this order, the first that fits names the signature:
1. The specification's (8.4.1): members with default values are left out, REQUIRED ones stay even when empty, `optional`
ones stay where they are there; unknown members stay. 2. The same without unknown members (a reader that parses first).
3. Both once more with every REQUIRED member put in, for signers that read "always present" so. 4. `compat`: what the
SDKs sign: parsed, so without unknown members, then everything empty left out at any depth; once more with unknown
members (an SDK that is newer than this table); once more as their earlier releases wrote it, escaped to ASCII; and
without `securitySchemes`, which @a2a-js/sdk 1.x loses when it signs and when it verifies: it reads its own typed card
as if it were JSON.
v0.3 defines no form, so each is `compat`: 5. The card as it stands. 6. The SDK's of that time: members of the schema
without what is empty or the default, written as Python does; two releases differ in whether false is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.core.canonical import Json
from gateway.core.canonical import encode as encode_any
from gateway.core.reasons import Malformed
from gateway.trust.card_schema import CARD, LEGACY_CARD, Member

SPEC = "spec"
COMPAT = "compat"


@dataclass(frozen=True, slots=True)
class Form:
    """`card` is what `payload` says, with REQUIRED members that it leaves out as empty."""

    name: str
    payload: bytes
    card: dict[str, Json]


def is_legacy(card: Mapping[str, Json]) -> bool:
    """Whether it is a card of v0.3: one with both versions' interfaces is of v1.0."""
    return "supportedInterfaces" not in card and "url" in card


def forms(card: Mapping[str, Json]) -> list[Form]:
    """Every form of the card without `signatures`, no payload twice. Raises Malformed for what is no card."""
    bare = {name: value for name, value in card.items() if name != "signatures"}
    found: dict[bytes, Form] = {}
    for form in _legacy(bare) if is_legacy(bare) else _current(bare):
        found.setdefault(form.payload, form)
    return list(found.values())


def to_sign(card: Mapping[str, Json]) -> list[bytes]:
    """The payloads to put a signature over, so that every reader finds its own: what the Python SDK verifies, a form
    that covers every member, what the JavaScript SDK verifies; each once. Raises Malformed for what is no card."""
    bare = {name: value for name, value in card.items() if name != "signatures"}
    if is_legacy(bare):
        return list(dict.fromkeys((encode(bare), next(_legacy_sdk(bare)).payload)))
    every, known = (_told(bare, CARD, unknown=unknown) for unknown in (True, False))
    cleaned = _object(_cleaned(known))
    return list(dict.fromkeys((encode(cleaned), encode(every), encode(_without_schemes(cleaned)))))


def _current(card: dict[str, Json]) -> Iterator[Form]:
    every, known = (_told(card, CARD, unknown=unknown) for unknown in (True, False))
    for told in (every, known, _whole(every, CARD), _whole(known, CARD)):
        yield Form(SPEC, encode(told), told)  # 1, 2, 3
    for told in (known, every):
        cleaned = _object(_cleaned(told))
        yield Form(COMPAT, encode(cleaned), _whole(cleaned, CARD))  # 4
    cleaned = _object(_cleaned(known))
    yield Form(COMPAT, _escaped(cleaned), _whole(cleaned, CARD))  # 4
    less = _without_schemes(cleaned)
    yield Form(COMPAT, encode(less), _whole(less, CARD))  # 4


def _legacy(card: dict[str, Json]) -> Iterator[Form]:
    yield Form(COMPAT, encode(card), card)  # 5
    yield from _legacy_sdk(card)


def _legacy_sdk(card: dict[str, Json]) -> Iterator[Form]:
    known = _told(card, LEGACY_CARD, unknown=False)
    for name, default in (("preferredTransport", "JSONRPC"), ("protocolVersion", "0.3.0")):
        if known.get(name) == default:
            del known[name]  # a reader of v0.3 takes the same for absent
    schemes = known.get("securitySchemes")
    if isinstance(schemes, dict):
        for scheme in schemes.values():
            if isinstance(scheme, dict):
                scheme.pop("type", None)
    for false_is_empty in (True, False):
        cleaned = _object(_cleaned(known, false_is_empty=false_is_empty))
        yield Form(COMPAT, _escaped(cleaned), _typed(_whole(cleaned, LEGACY_CARD)))  # 6


def _told(found: Mapping[str, Json], schema: Mapping[str, Member], *, unknown: bool) -> dict[str, Json]:
    """Rule 1 for one message: a copy without nulls, and without defaults that need not be told."""
    told: dict[str, Json] = {}
    for name, value in found.items():
        member = schema.get(name)
        if member is None:
            if unknown:
                told[name] = value
        elif value is not None:
            said = _value(name, value, member, unknown)
            if member.keep or not _default(said, member):
                told[name] = said
    return told


def _value(name: str, value: Json, member: Member, unknown: bool) -> Json:
    kind, of = member.kind, member.of
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "flag" and isinstance(value, bool):
        return value
    if kind == "texts" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if kind in ("open", "any") and (isinstance(value, dict) or kind == "any"):
        return value
    if kind == "textmap" and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    if kind == "message" and isinstance(value, dict):
        return _told(value, of, unknown=unknown)
    if kind == "messages" and isinstance(value, list):
        return [_told(_message(name, item), of, unknown=unknown) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _told(_message(name, item), of, unknown=unknown) for key, item in value.items()}
    raise Malformed(f"the card's {name} is not what an agent card has there")


def _message(name: str, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise Malformed(f"the card's {name} holds something else than objects")
    return value


def _default(value: Json, member: Member) -> bool:
    """Whether absence says the same. A message that is there is not absent, even an empty one."""
    return member.kind not in ("message", "open", "any") and not value


def _whole(found: Mapping[str, Json], schema: Mapping[str, Member]) -> dict[str, Json]:
    """The same with every REQUIRED member there, at any depth: empty, which is what its absence says."""
    whole: dict[str, Json] = {}
    for name, value in found.items():
        member = schema.get(name)
        if member is None or not member.of:
            whole[name] = value
        elif isinstance(value, dict) and member.kind == "message":
            whole[name] = _whole(value, member.of)
        elif isinstance(value, dict):
            whole[name] = {key: _whole(_object(item), member.of) for key, item in value.items()}
        elif isinstance(value, list):
            whole[name] = [_whole(_object(item), member.of) for item in value]
    for name, member in schema.items():
        if member.keep == "required" and name not in whole:
            whole[name] = _empty(member)
    return whole


def _empty(member: Member) -> Json:
    if member.kind == "text":
        return ""
    if member.kind in ("texts", "messages"):
        return []
    return _whole({}, member.of) if member.kind == "message" else {}


def _cleaned(value: Json, *, false_is_empty: bool = False) -> Json:
    """Without what is empty, at any depth; None where nothing is left. What was parsed strictly is not deep."""
    if isinstance(value, dict):
        members = ((name, _cleaned(item, false_is_empty=false_is_empty)) for name, item in value.items())
        return {name: item for name, item in members if item is not None} or None
    if isinstance(value, list):
        items = (_cleaned(item, false_is_empty=false_is_empty) for item in value)
        return [item for item in items if item is not None] or None
    if value == "" or (false_is_empty and not value):
        return None
    return value


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def encode(card: dict[str, Json]) -> bytes:
    """Canonical JSON. Without fractions and odd names, which few cards have, the C encoder writes the same bytes in a
    twentieth of the time."""
    if _ordinary(card):
        return json.dumps(card, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return encode_any(card)


def _ordinary(value: Json) -> bool:
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_ordinary, value.values()))
    return all(map(_ordinary, value)) if isinstance(value, list) else not isinstance(value, float)


def _without_schemes(card: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in card.items() if name != "securitySchemes"}


def _escaped(card: dict[str, Json]) -> bytes:
    return json.dumps(card, separators=(",", ":"), sort_keys=True).encode()


def _typed(card: dict[str, Json]) -> dict[str, Json]:
    """The type of each security scheme of v0.3, which its SDK does not sign, from the members that it does."""
    schemes = card.get("securitySchemes")
    if isinstance(schemes, dict):
        by = {"in": "apiKey", "scheme": "http", "flows": "oauth2", "openIdConnectUrl": "openIdConnect"}
        for name, scheme in schemes.items():
            kinds = [kind for member, kind in by.items() if isinstance(scheme, dict) and member in scheme]
            if len(kinds) < 2 and isinstance(scheme, dict):
                schemes[name] = {**scheme, "type": kinds[0] if kinds else "mutualTLS"}
    return card
