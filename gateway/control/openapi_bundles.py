"""What openapi.py says of bundles and of a fleet of OPAs; the routes are bundles.py's and fleet.py's."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, UNCHANGED, body, members, read, ref, refused, responses
from gateway.core.canonical import Json

_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": TEXT}
_PARTITION: Json = {"name": "partition", "in": "path", "required": True, "schema": TEXT}
_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "schema": TEXT,
    "description": "the bundle's etag as it was looked at, or *; 428 without, 412 where another one is active by now",
}
_TARBALL: Json = {"schema": {"type": "string", "format": "binary"}}


def paths() -> dict[str, Json]:
    pushed = "Verify a bundle and keep it; with activate=true put it in force as well (needs If-Match)"
    query: Json = {"name": "name", "in": "query", "required": True, "schema": TEXT}
    activate: Json = {"name": "activate", "in": "query", "schema": {"enum": ["true", "false"], "default": "false"}}
    push: dict[str, Json] = {
        "summary": pushed,
        "parameters": [query, activate],
        "requestBody": {"required": True, "content": {"application/gzip": _TARBALL}},
        "responses": responses(pushed, ref("PushedBundle"), "409", "412", "415", "422", "428"),
    }
    return {
        "/api/v1/bundles": {"get": _read("Bundles by name, and which is active", "Bundles"), "post": push},
        "/api/v1/bundles/{name}": {"get": _read("One name: what is kept, and its history", "BundleName", _NAME)},
        "/api/v1/bundles/{name}/activate": {"post": _change("Put a bundle that was pushed in force", "BundleDigest")},
        "/api/v1/bundles/{name}/rollback": {
            "post": _change("Back to the bundle before, or to the one that is named", "BundleBack")
        },
        "/api/v1/fleet": {"get": _read("OPAs that fetch bundles here, as they say they are", "Fleet")},
        "/api/v1/fleet/decisions": {"get": _read("The newest decisions that OPAs reported", "FleetDecisions")},
        "/bundles/{name}.tar.gz": {"get": _service()},
        "/status": {"post": _intake("What an OPA says of itself (its status plugin)")},
        "/status/{partition}": {"post": _intake("The same, from a partition", _PARTITION)},
        "/logs": {"post": _intake("What an OPA decided (its decision log plugin)")},
        "/logs/{partition}": {"post": _intake("The same, from a partition", _PARTITION)},
    }


def schemas() -> dict[str, Json]:
    kept: dict[str, Json] = {
        "digest": TEXT, "revision": TEXT, "number": {"type": "integer"}, "signer": TEXT,
        "bytes": {"type": "integer"}, "pushed": DATE, "by": TEXT, "not_before": DATE, "expires": DATE,
    }  # fmt: skip
    state: dict[str, Json] = {
        "active": {"type": "string", "description": "a digest, or `configured`"},
        "previous": {"type": ["string", "null"], "description": "what `rollback` goes back to"},
        "highest": {"type": ["integer", "null"], "description": "the highest number that was ever accepted"},
        "since": DATE,
    }  # fmt: skip
    bundle: Json = ref("KeptBundle")
    held: Json = ref("BundleState")
    named: dict[str, Json] = {
        "name": TEXT, "own": {"type": "boolean", "description": "whether it is this gateway's policy"},
        "state": held, "active": {"anyOf": [bundle, {"type": "null"}]}, "etag": TEXT,
    }  # fmt: skip
    whole: dict[str, Json] = {
        **named, "kept": {"type": "array", "items": bundle}, "history": {"type": "array", "items": {"type": "object"}},
    }  # fmt: skip
    return {
        "KeptBundle": members(kept, "digest", "revision", "number"),
        "BundleState": members(state, "active", "previous", "highest"),
        "Bundles": members({"bundles": {"type": "array", "items": members(named, "name", "state")}}, "bundles"),
        "BundleName": members(whole, "name", "state", "kept", "history"),
        "PushedBundle": members({"name": TEXT, "pushed": bundle, "state": held}, "name", "state"),
        "BundleMoved": members({"name": TEXT, "state": held}, "name", "state"),
        "BundleDigest": members({"digest": TEXT}, "digest"),
        "BundleBack": members({"digest": {"type": "string", "description": "or `configured`"}}),
        "Fleet": members({"opas": {"type": "array", "items": {"type": "object"}}}, "opas"),
        "FleetDecisions": members({"decisions": {"type": "array", "items": {"type": "object"}}}, "decisions"),
    }


def _service() -> Json:
    summary = "OPA's bundle service: the active bundle of a name; `Prefer: modes=snapshot;wait=N` waits for the next"
    return {
        "summary": summary,
        "parameters": [_NAME, {"name": "Prefer", "in": "header", "schema": TEXT}],
        "responses": {
            "200": {"description": summary, "content": {"application/gzip": _TARBALL}},
            "304": UNCHANGED,
            **refused("401", "403", "404", "503"),
        },
    }


def _intake(summary: str, *parameters: Json) -> Json:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "requestBody": body({}),
        "responses": {"204": {"description": "taken"}, **refused("400", "401", "403", "503")},
    }


def _read(summary: str, schema: str, *parameters: Json) -> Json:
    return read(summary, ref(schema), *parameters)


def _change(summary: str, sent: str) -> Json:
    return {
        "summary": summary,
        "parameters": [_NAME, _MATCH],
        "requestBody": body(ref(sent)),
        "responses": responses(summary, ref("BundleMoved"), "409", "412", "422", "428"),
    }
