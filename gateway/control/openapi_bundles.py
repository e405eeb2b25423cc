"""What openapi.py says of bundles and of a fleet of OPAs; the routes are bundles.py's and fleet.py's."""

from __future__ import annotations

from gateway.core.canonical import Json

_TEXT: Json = {"type": "string"}
_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
_PARTITION: Json = {"name": "partition", "in": "path", "required": True, "schema": _TEXT}
_DATE: Json = {"type": "string", "format": "date-time"}
_REFUSED: Json = {"$ref": "#/components/responses/Problem"}
_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "schema": _TEXT,
    "description": "the bundle's etag as it was looked at, or *; 428 without, 412 where another one is active by now",
}
_TARBALL: Json = {"schema": {"type": "string", "format": "binary"}}


def paths() -> dict[str, Json]:
    pushed = "Verify a bundle and keep it; with activate=true put it in force as well (needs If-Match)"
    query: Json = {"name": "name", "in": "query", "required": True, "schema": _TEXT}
    activate: Json = {"name": "activate", "in": "query", "schema": {"enum": ["true", "false"], "default": "false"}}
    push: dict[str, Json] = {
        "summary": pushed,
        "parameters": [query, activate],
        "requestBody": {"required": True, "content": {"application/gzip": _TARBALL}},
        "responses": _responses(pushed, "PushedBundle", "409", "412", "415", "422", "428"),
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
        "digest": _TEXT, "revision": _TEXT, "number": {"type": "integer"}, "signer": _TEXT,
        "bytes": {"type": "integer"}, "pushed": _DATE, "by": _TEXT, "not_before": _DATE, "expires": _DATE,
    }  # fmt: skip
    state: dict[str, Json] = {
        "active": {"type": "string", "description": "a digest, or `configured`"},
        "previous": {"type": ["string", "null"], "description": "what `rollback` goes back to"},
        "highest": {"type": ["integer", "null"], "description": "the highest number that was ever accepted"},
        "since": _DATE,
    }  # fmt: skip
    bundle: Json = {"$ref": "#/components/schemas/KeptBundle"}
    held: Json = {"$ref": "#/components/schemas/BundleState"}
    named: dict[str, Json] = {
        "name": _TEXT, "own": {"type": "boolean", "description": "whether it is this gateway's policy"},
        "state": held, "active": {"anyOf": [bundle, {"type": "null"}]}, "etag": _TEXT,
    }  # fmt: skip
    whole: dict[str, Json] = {
        **named, "kept": {"type": "array", "items": bundle}, "history": {"type": "array", "items": {"type": "object"}},
    }  # fmt: skip
    return {
        "KeptBundle": _object(kept, "digest", "revision", "number"),
        "BundleState": _object(state, "active", "previous", "highest"),
        "Bundles": _object({"bundles": {"type": "array", "items": _object(named, "name", "state")}}, "bundles"),
        "BundleName": _object(whole, "name", "state", "kept", "history"),
        "PushedBundle": _object({"name": _TEXT, "pushed": bundle, "state": held}, "name", "state"),
        "BundleMoved": _object({"name": _TEXT, "state": held}, "name", "state"),
        "BundleDigest": _object({"digest": _TEXT}, "digest"),
        "BundleBack": _object({"digest": {"type": "string", "description": "or `configured`"}}),
        "Fleet": _object({"opas": {"type": "array", "items": {"type": "object"}}}, "opas"),
        "FleetDecisions": _object({"decisions": {"type": "array", "items": {"type": "object"}}}, "decisions"),
    }


def _service() -> Json:
    summary = "OPA's bundle service: the active bundle of a name; `Prefer: modes=snapshot;wait=N` waits for the next"
    return {
        "summary": summary,
        "parameters": [_NAME, {"name": "Prefer", "in": "header", "schema": _TEXT}],
        "responses": {
            "200": {"description": summary, "content": {"application/gzip": _TARBALL}},
            "304": {"description": "The ETag in If-None-Match is still right"},
            **dict.fromkeys(("401", "403", "404", "503"), _REFUSED),
        },
    }


def _intake(summary: str, *parameters: Json) -> Json:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
        "responses": {"204": {"description": "taken"}, **dict.fromkeys(("400", "401", "403", "503"), _REFUSED)},
    }


def _responses(summary: str, schema: str, *codes: str) -> dict[str, Json]:
    body: Json = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    found: dict[str, Json] = {"200": {"description": summary, "content": body}}
    return found | dict.fromkeys(("400", "401", "403", "404", "503", *codes), _REFUSED)


def _read(summary: str, schema: str, *parameters: Json) -> Json:
    unchanged: Json = {"description": "The ETag in If-None-Match is still right"}
    found: dict[str, Json] = {"summary": summary, "responses": {**_responses(summary, schema), "304": unchanged}}
    if parameters:
        found["parameters"] = list(parameters)
    return found


def _change(summary: str, body: str) -> Json:
    content: Json = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}
    return {
        "summary": summary,
        "parameters": [_NAME, _MATCH],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(summary, "BundleMoved", "409", "412", "422", "428"),
    }


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}
