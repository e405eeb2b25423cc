"""What openapi.py says of the gateway's own keys; the routes are keys.py's."""

from __future__ import annotations

from gateway.core.canonical import Json

_TEXT: Json = {"type": "string"}
_DATE: dict[str, Json] = {"type": "string", "format": "date-time"}
_PURPOSE: Json = {"enum": ["log", "cards", "manifests", "bundles", "tokens", "webhooks"]}
_KEY: Json = {"$ref": "#/components/schemas/Key"}
_REFUSED: Json = {"$ref": "#/components/responses/Problem"}


def paths() -> dict[str, Json]:
    refused: dict[str, Json] = dict.fromkeys(("400", "401", "403", "503"), _REFUSED)
    read = "The gateway's own signing keys: public halves, states and dates"
    change = "The next key of a purpose signs in place of the one that is named, and is made where there is none"
    return {
        "/api/v1/keys": {
            "get": {
                "summary": read,
                "parameters": [{"name": "purpose", "in": "query", "schema": _PURPOSE}],
                "responses": {
                    "200": _json(read, {"$ref": "#/components/schemas/Keys"}),
                    "304": {"description": "The ETag in If-None-Match is still right"},
                    **refused,
                },
            }
        },
        "/api/v1/keys/rotate": {
            "post": {
                "summary": change,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RotateKey"}}},
                },
                "responses": {
                    "200": _json(change, {"$ref": "#/components/schemas/RotatedKey"}),
                    "409": _REFUSED,
                    "412": _REFUSED,
                    **refused,
                },
            }
        },
    }


def schemas() -> dict[str, Json]:
    key: dict[str, Json] = {
        "purpose": _PURPOSE, "kid": _TEXT,
        "state": {
            "enum": ["next", "current", "retired", "kept", "revoked"],
            "description": "next: published; current: signs; retired: signs no more, published; kept: verifies here",
        },
        "created": _DATE, "signs_from": _DATE, "retired": _DATE, "revoked": _DATE,
        "published_until": {**_DATE, "description": "end of the overlap"},
        "kept_in": {"enum": ["file", "vault"]},
        "jwk": {"type": "object", "description": "the public half (RFC 8037)"},
        "vkey": {"type": "string", "description": "of a log key: what `audit verify --key` takes"},
    }  # fmt: skip
    return {
        "Key": _object(key, "purpose", "kid", "state", "created", "kept_in", "jwk"),
        "Keys": _object(
            {"overlap_seconds": {"type": "number"}, "keys": {"type": "array", "items": _KEY}}, "overlap_seconds", "keys"
        ),
        "RotateKey": _object(
            {"purpose": _PURPOSE, "kid": {"type": "string", "description": "the key that signs now"}}, "purpose", "kid"
        ),
        "RotatedKey": _object({"current": _KEY, "former": _KEY}, "current", "former"),
    }


def _json(summary: str, schema: Json) -> Json:
    return {"description": summary, "content": {"application/json": {"schema": schema}}}


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}
