"""Pins of what MCP upstreams describe (tools, prompts, resources, resource templates), sans-I/O.

A digest is over the canonical JSON of the whole object without `_meta`; integers beyond 2^53-1, for which RFC 8785 has
no form of their own, keep all their digits. What an item is held to be, in this order:
1. One that has no canonical form, or is too large to keep, is never verified.
2. What a signed manifest names with this very digest is verified.
3. What was changed once stays quarantined, also when it is changed back: an administrator says which one holds.
4. What has the approved digest is verified, if who approved it counts: an administrator always; first use only where
   the configuration says first_use; a signer only while a manifest names it.
5. In the first list of its kind that first_use sees, what nobody approved yet is approved as it is.
6. Anything else that was approved is quarantined: it changed.
7. Where first_use has seen the list before, what is new, or bears another name, is quarantined too.
8. The rest is unverified.
What is gone from a list is no change: lists may differ by caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.core.canonical import Json, digest, encode
from gateway.core.descriptors import Described, Standing
from gateway.core.differences import changed
from gateway.core.reasons import Malformed

ITEM_BYTES = 256 * 1024  # far above any real tool; what is larger would fill the store
FIRST_USE = "first_use"  # as `Described.by`
SIGNER = "signer:"
_PATHS_SHOWN = 5


class Pin(StrEnum):
    REQUIRED = "required"
    FIRST_USE = "first_use"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of list: the registry's kind, the member of the result, the member that names an item, the method, and
    the capability that a server which has the list declares."""

    kind: str
    member: str
    key: str
    method: str
    capability: str


SHAPES: Mapping[str, Shape] = {
    "tools": Shape("tool", "tools", "name", "tools/list", "tools"),
    "prompts": Shape("prompt", "prompts", "name", "prompts/list", "prompts"),
    "resources": Shape("resource", "resources", "uri", "resources/list", "resources"),
    "templates": Shape(
        "resource_template", "resourceTemplates", "uriTemplate", "resources/templates/list", "resources"
    ),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """An item as it was listed. `digest` is "" where it can have none, `why` says why then."""

    kind: str
    name: str
    digest: str
    document: Json
    why: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """What a signed manifest vouches for: digests by kind and name, `until` epoch seconds."""

    signer: str
    digests: Mapping[tuple[str, str], str]
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as approved at one upstream. `told`: another process judges by these rules, and its word on what is
    signed counts."""

    pin: Pin
    manifests: tuple[Named, ...] = field(default=())
    told: bool = False

    def signed(self, kind: str, name: str, found: str) -> str:
        """Who signed this very digest; "" for nobody."""
        for manifest in self.manifests:
            if found and manifest.digests.get((kind, name)) == found:
                return manifest.signer
        return ""

    def counts(self, item: Described) -> bool:
        """4: whether who approved it is somebody by these rules."""
        if not item.approved:
            return False
        if item.by == FIRST_USE:
            return self.pin is Pin.FIRST_USE
        return self.told or not item.by.startswith(SIGNER) or bool(self.signed(item.kind, item.name, item.approved))

    def reached(self, item: Described | None) -> bool:
        """Whether calls may reach it, by what the registry says and by who approved it."""
        return item is not None and item.standing is Standing.VERIFIED and self.counts(item)


def canonical(item: Mapping[str, Json]) -> bytes:
    """The bytes that are digested. Raises Malformed where there are none (a lone surrogate)."""
    whole: Json = {name: value for name, value in item.items() if name != "_meta"}
    try:
        return encode(whole)
    except Malformed:
        try:
            return _exact(whole).encode()
        except UnicodeEncodeError:
            raise Malformed("it has no canonical form: a lone surrogate is not text") from None


def see(kind: str, name: str, item: Mapping[str, Json]) -> Seen:
    try:
        form = canonical(item)
    except Malformed as error:
        return Seen(kind, name, "", None, str(error))
    if len(form) > ITEM_BYTES:
        return Seen(kind, name, "", None, f"it is larger than {ITEM_BYTES} bytes")
    return Seen(kind, name, digest(form), {key: value for key, value in item.items() if key != "_meta"})


class Before(StrEnum):
    """What first_use knows of this kind of list."""

    PINNED = "pinned"
    NOTHING = "nothing"  # and this list is whole: it will be pinned
    PART = "part"  # nothing, and this is not all of it


def judged(upstream: str, known: Described | None, seen: Seen, rules: Rules, before: Before, now: float) -> Described:
    """What is thought of an item from now on. `known` is what was thought of it until now."""
    old = known or Described(seen.kind, upstream, seen.name, Standing.UNVERIFIED, changed=now)
    item = replace(old, digest=seen.digest, document=seen.document, seen=now)
    counts = rules.counts(old)
    enforced = rules.pin is not Pin.NONE
    signer = rules.signed(seen.kind, seen.name, seen.digest)
    if not seen.digest:  # 1
        item = replace(item, document=old.document)
        return _moved(old, item, Standing.QUARANTINED if enforced else Standing.UNVERIFIED, seen.why, now)
    if signer:  # 2
        return _moved(old, approved(item, SIGNER + signer), Standing.VERIFIED, "", now)
    if enforced and counts and stuck(old) and seen.digest == old.approved:  # 3
        return replace(old, seen=now)
    if counts and seen.digest == old.approved:  # 4
        return _moved(old, item, Standing.VERIFIED, "", now)
    if rules.pin is Pin.FIRST_USE and before is Before.NOTHING and not counts:  # 5
        return _moved(old, approved(item, FIRST_USE), Standing.VERIFIED, "", now)
    if enforced and counts:  # 6
        return _moved(old, item, Standing.QUARANTINED, _what_changed(old.approved_document, seen.document), now)
    if rules.pin is Pin.FIRST_USE and before is Before.PINNED:  # 7
        return _moved(old, item, Standing.QUARANTINED, "it is new since the first list", now)
    return _moved(old, item, Standing.UNVERIFIED, "nobody has approved it", now)  # 8


def stuck(item: Described) -> bool:
    """3: what was seen last is not what was approved."""
    return bool(item.approved) and item.digest not in ("", item.approved)


def approved(item: Described, by: str) -> Described:
    """The item as it was seen, approved."""
    return replace(item, approved=item.digest, approved_document=item.document, by=by)


def kept(item: Described) -> Described:
    """The item as it was approved, whatever was seen since: an administrator says that the pin holds."""
    return replace(item, digest=item.approved, document=item.approved_document)


def renamed(document: Json, key: str, others: Sequence[Described]) -> str:
    """The name under which the same thing was approved, "" for none."""
    if not isinstance(document, dict):
        return ""
    rest = {name: value for name, value in document.items() if name != key}
    for other in others:
        before = other.approved_document
        if isinstance(before, dict) and {name: value for name, value in before.items() if name != key} == rest:
            return other.name
    return ""


def _moved(old: Described, item: Described, standing: Standing, why: str, now: float) -> Described:
    """A block lies over the standing and hides it: then the rest tells whether anything happened."""
    same = old.standing in (standing, Standing.BLOCKED) and (old.digest, old.approved) == (item.digest, item.approved)
    return replace(item, standing=standing, why=old.why if same else why, changed=old.changed if same else now)


def _what_changed(before: Json, after: Json) -> str:
    paths = changed(before, after)
    more = f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else ""
    return f"changed: {', '.join(paths[:_PATHS_SHOWN])}{more}"


def _exact(value: Json) -> str:
    """RFC 8785, but that integers keep their digits. Raises UnicodeEncodeError for what is not text."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_exact(name)}:{_exact(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_exact(item) for item in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        value.encode()
        return json.dumps(value, ensure_ascii=False)
    return encode(value).decode()
