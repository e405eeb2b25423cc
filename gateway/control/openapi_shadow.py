"""What openapi.py says of what a shadow engine answers differently; the route is shadow.py's."""

from __future__ import annotations

from gateway.core.canonical import Json
from gateway.core.shadow import KINDS, PAGE_MOST

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}


def paths() -> dict[str, Json]:
    summary = "What a shadow engine said differently, newest first; equal ones are one, counted"
    refused: Json = {"$ref": "#/components/responses/Problem"}
    shown: Json = {"schema": {"$ref": "#/components/schemas/ShadowPage"}}
    responses: dict[str, Json] = {
        "200": {"description": summary, "content": {"application/json": shown}},
        "304": {"description": "The ETag in If-None-Match is still right"},
    }
    responses.update(dict.fromkeys(("400", "401", "403"), refused))
    parameters: list[Json] = [
        _query("kind", "only those that differ in this", {"enum": list(KINDS)}),
        _query("subject", "subject.id, exactly", _TEXT),
        _query("cursor", "`next` of the page before", {"type": "integer", "minimum": 0}),
        _query("limit", "differences per page", {"type": "integer", "minimum": 1, "maximum": PAGE_MOST}),
    ]
    return {"/api/v1/shadow": {"get": {"summary": summary, "parameters": parameters, "responses": responses}}}


def schemas() -> dict[str, Json]:
    decision: Json = _object(
        {
            "effect": {"enum": ["allow", "deny"]}, "reason": _TEXT, "rule": _TEXT, "engine": _TEXT, "revision": _TEXT,
            "obligations": {"type": "array", "items": {"type": "object"}},
        },
        "effect", "reason", "rule", "engine", "revision", "obligations",
    )  # fmt: skip
    moment: Json = {"type": "string", "format": "date-time"}
    difference: Json = _object(
        {
            "number": {"type": "integer", "minimum": 1}, "kinds": {"type": "array", "items": {"enum": list(KINDS)}},
            "exchange": {"type": "string", "description": "the latest one in which it came up"},
            "subject": _TEXT, "action": _TEXT, "resource": _object({"type": _TEXT, "id": _TEXT}, "type", "id"),
            "listing": {"type": "boolean", "description": "an item of a list, not a call"},
            "digest": {"type": "string", "description": "of what the shadow engine read of the input"},
            "input": {"type": "object", "description": "as audit.capture keeps it: level, input, shape, masked"},
            "enforced": decision, "shadow": decision, "count": {"type": "integer", "minimum": 1},
            "first": moment, "last": moment,
        },
        "number", "kinds", "subject", "action", "resource", "listing", "digest", "enforced", "shadow", "count",
        "first", "last",
    )  # fmt: skip
    current: Json = {
        "description": "the engine that is asked on the side, null while there is none",
        "oneOf": [_object({"engine": _TEXT, "revision": _TEXT}, "engine", "revision"), {"type": "null"}],
    }
    counted: Json = {"type": "object", "additionalProperties": _COUNT}
    page: Json = _object(
        {
            "shadow": current, "totals": counted, "kinds": counted,
            "differences": {"type": "array", "items": {"$ref": "#/components/schemas/ShadowDifference"}},
            "next": {"type": ["integer", "null"], "description": "`cursor` of the next page"},
        },
        "shadow", "totals", "kinds", "differences", "next",
    )  # fmt: skip
    return {"ShadowDifference": difference, "ShadowPage": page}


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _query(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}
