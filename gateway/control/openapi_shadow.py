"""What openapi.py says of what a shadow engine answers differently; the route is shadow.py's."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, UNCHANGED, members, query, ref, refused, said
from gateway.core.canonical import Json
from gateway.core.shadow import KINDS, PAGE_MOST

_COUNT: Json = {"type": "integer", "minimum": 0}


def paths() -> dict[str, Json]:
    summary = "What a shadow engine said differently, newest first; equal ones are one, counted"
    responses: dict[str, Json] = {
        "200": said(summary, ref("ShadowPage")),
        "304": UNCHANGED,
        **refused("400", "401", "403"),
    }
    parameters: list[Json] = [
        query("kind", {"enum": list(KINDS)}, "only those that differ in this"),
        query("subject", TEXT, "subject.id, exactly"),
        query("cursor", {"type": "integer", "minimum": 0}, "`next` of the page before"),
        query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MOST}, "differences per page"),
    ]
    return {"/api/v1/shadow": {"get": {"summary": summary, "parameters": parameters, "responses": responses}}}


def schemas() -> dict[str, Json]:
    decision: Json = members(
        {
            "effect": {"enum": ["allow", "deny"]}, "reason": TEXT, "rule": TEXT, "engine": TEXT, "revision": TEXT,
            "obligations": {"type": "array", "items": {"type": "object"}},
        },
        "effect", "reason", "rule", "engine", "revision", "obligations",
    )  # fmt: skip
    difference: Json = members(
        {
            "number": {"type": "integer", "minimum": 1}, "kinds": {"type": "array", "items": {"enum": list(KINDS)}},
            "exchange": {"type": "string", "description": "the latest one in which it came up"},
            "subject": TEXT, "action": TEXT, "resource": members({"type": TEXT, "id": TEXT}, "type", "id"),
            "listing": {"type": "boolean", "description": "an item of a list, not a call"},
            "digest": {"type": "string", "description": "of what the shadow engine read of the input"},
            "input": {"type": "object", "description": "as audit.capture keeps it: level, input, shape, masked"},
            "enforced": decision, "shadow": decision, "count": {"type": "integer", "minimum": 1},
            "first": DATE, "last": DATE,
        },
        "number", "kinds", "subject", "action", "resource", "listing", "digest", "enforced", "shadow", "count",
        "first", "last",
    )  # fmt: skip
    current: Json = {
        "description": "the engine that is asked on the side, null while there is none",
        "oneOf": [members({"engine": TEXT, "revision": TEXT}, "engine", "revision"), {"type": "null"}],
    }
    counted: Json = {"type": "object", "additionalProperties": _COUNT}
    page: Json = members(
        {
            "shadow": current, "totals": counted, "kinds": counted,
            "differences": {"type": "array", "items": ref("ShadowDifference")},
            "next": {"type": ["integer", "null"], "description": "`cursor` of the next page"},
        },
        "shadow", "totals", "kinds", "differences", "next",
    )  # fmt: skip
    return {"ShadowDifference": difference, "ShadowPage": page}
