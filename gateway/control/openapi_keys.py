"""What openapi.py says of the gateway's own keys; the routes are keys.py's."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, UNCHANGED, body, members, query, ref, refused, said
from gateway.core.canonical import Json

_PURPOSE: Json = {"enum": ["log", "cards", "manifests", "bundles", "tokens", "webhooks"]}
_KEY: Json = ref("Key")


def paths() -> dict[str, Json]:
    always = refused("400", "401", "403", "503")
    read = "The gateway's own signing keys: public halves, states and dates"
    change = "The next key of a purpose signs in place of the one that is named, and is made where there is none"
    return {
        "/api/v1/keys": {
            "get": {
                "summary": read,
                "parameters": [query("purpose", _PURPOSE)],
                "responses": {
                    "200": said(read, ref("Keys")),
                    "304": UNCHANGED,
                    **always,
                },
            }
        },
        "/api/v1/keys/rotate": {
            "post": {
                "summary": change,
                "requestBody": body(ref("RotateKey")),
                "responses": {
                    "200": said(change, ref("RotatedKey")),
                    **refused("409", "412"),
                    **always,
                },
            }
        },
    }


def schemas() -> dict[str, Json]:
    key: dict[str, Json] = {
        "purpose": _PURPOSE, "kid": TEXT,
        "state": {
            "enum": ["next", "current", "retired", "kept", "revoked"],
            "description": "next: published; current: signs; retired: signs no more, published; kept: verifies here",
        },
        "created": DATE, "signs_from": DATE, "retired": DATE, "revoked": DATE,
        "published_until": {**DATE, "description": "end of the overlap"},
        "kept_in": {"enum": ["file", "vault"]},
        "jwk": {"type": "object", "description": "the public half (RFC 8037)"},
        "vkey": {"type": "string", "description": "of a log key: what `audit verify --key` takes"},
    }  # fmt: skip
    return {
        "Key": members(key, "purpose", "kid", "state", "created", "kept_in", "jwk"),
        "Keys": members(
            {"overlap_seconds": {"type": "number"}, "keys": {"type": "array", "items": _KEY}}, "overlap_seconds", "keys"
        ),
        "RotateKey": members(
            {"purpose": _PURPOSE, "kid": {"type": "string", "description": "the key that signs now"}}, "purpose", "kid"
        ),
        "RotatedKey": members({"current": _KEY, "former": _KEY}, "current", "former"),
    }
