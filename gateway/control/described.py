"""How the admin plane shows descriptors: summaries, one of them whole with what changed, and an upstream over all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from gateway.core.canonical import Json
from gateway.core.descriptors import Described, Standing
from gateway.core.differences import changed, unified
from gateway.core.records import timestamp

ITEM_KINDS = ("tool", "prompt", "resource", "resource_template")


def etag(item: Described) -> str:
    """Of what an administrator decides about: it changes with what was seen, approved or blocked, not with time."""
    said = "\n".join(
        (item.kind, item.upstream, item.name, item.standing, item.digest, item.approved, item.by, item.why)
    )
    return f'"{hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'


def summary(item: Described) -> dict[str, Json]:
    found: dict[str, Json] = {"kind": item.kind, "upstream": item.upstream, "name": item.name}
    found["standing"] = str(item.standing)
    found |= {"digest": item.digest, "approved": item.approved, "by": item.by, "why": item.why}
    found |= {"seen": _moment(item.seen), "changed": _moment(item.changed), "etag": etag(item)}
    return {name: value for name, value in found.items() if value != ""}


def whole(item: Described, pin: str) -> dict[str, Json]:
    """With both documents, the paths of what differs, and a diff for reading."""
    found = summary(item)
    found["document"], found["approved_document"] = item.document, item.approved_document
    differs = item.approved_document is not None and item.document is not None
    found["differences"] = list(changed(item.approved_document, item.document)) if differs else []
    found["diff"] = unified(item.approved_document, item.document) if differs else ""
    found["text"] = "" if differs else unified(None, item.document or item.approved_document)
    if pin:
        found["pin"] = pin
    return found


def standing(own: Described | None, items: Sequence[Described]) -> Standing:
    """Of an upstream: its own descriptor's, or the worst of what it describes."""
    if own is not None and (own.standing is not Standing.UNVERIFIED or own.digest or own.approved):
        return own.standing
    found = {item.standing for item in items if item.kind in ITEM_KINDS}
    for worst in (Standing.QUARANTINED, Standing.UNVERIFIED):
        if worst in found:
            return worst
    return Standing.VERIFIED if Standing.VERIFIED in found else Standing.UNVERIFIED


def counts(items: Sequence[Described]) -> dict[str, Json]:
    found = Counter(str(item.standing) for item in items if item.kind in ITEM_KINDS)
    return {name: found[name] for name in sorted(found)}


def _moment(epoch: float) -> str:
    return timestamp(epoch) if epoch else ""
