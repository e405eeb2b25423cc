"""What openapi.py says of upstreams and their breakers; the routes are upstreams.py's."""

from __future__ import annotations

from gateway.core.canonical import Json

_TEXT: Json = {"type": "string"}
_HOLD: Json = {"enum": ["open", "close", "auto"]}
_WAIT: Json = {"type": "integer", "description": "milliseconds until a call may be let through"}


def paths() -> dict[str, Json]:
    summary = "The upstreams of the active snapshot, without their credentials, and how they do"
    change = "Open or close an upstream's breakers until that is undone, or let them go"
    name: Json = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    body: Json = {"application/json": {"schema": {"$ref": "#/components/schemas/HoldBreaker"}}}
    one: Json = {"type": "object", "properties": {"upstream": {"$ref": "#/components/schemas/Upstream"}}}
    return {
        "/api/v1/upstreams": {"get": {"summary": summary, "responses": _responses("Upstreams", "304")}},
        "/api/v1/upstreams/{name}/breaker": {
            "post": {
                "summary": change,
                "parameters": [name],
                "requestBody": {"required": True, "content": body},
                "responses": {
                    **_refused("400", "401", "403", "404", "409", "503"),
                    "200": {"description": change, "content": {"application/json": {"schema": one}}},
                },
            }
        },
    }


def schemas() -> dict[str, Json]:
    breaker: dict[str, Json] = {
        "state": {"enum": ["closed", "half_open", "open"]}, "hold": _HOLD, "why": _TEXT, "wait_ms": _WAIT,
    }  # fmt: skip
    address: dict[str, Json] = {
        "address": _TEXT, "state": {"enum": ["in", "ejected", "unhealthy"]},
        "in_flight": {"type": "integer"}, "why": _TEXT, "wait_ms": _WAIT,
    }  # fmt: skip
    upstream: dict[str, Json] = {
        "name": _TEXT, "url": _TEXT, "protocol": _TEXT, "http": _TEXT, "timeouts": {"type": "object"},
        "credentials": {"type": "boolean"}, "breaker": _object(breaker, "state", "hold"),
        "tools": {
            "type": "array", "description": "of tools with breakers of their own that are not at rest",
            "items": _object({"tool": _TEXT, **breaker}, "tool", "state", "hold"),
        },
        "addresses": {"type": "array", "items": _object(address, "address", "state", "in_flight")},
    }  # fmt: skip
    several: Json = {"type": "array", "items": {"$ref": "#/components/schemas/Upstream"}}
    return {
        "Upstream": _object(upstream, "name", "url", "protocol"),
        "Upstreams": _object({"upstreams": several}, "upstreams"),
        "HoldBreaker": _object({"state": _HOLD, "why": _TEXT}, "state"),
    }


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _responses(schema: str, *codes: str) -> dict[str, Json]:
    found: Json = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    same: dict[str, Json] = {code: {"description": "The ETag in If-None-Match is still right"} for code in codes}
    return {"200": {"description": schema, "content": found}, **same, **_refused("400", "401", "403", "503")}


def _refused(*codes: str) -> dict[str, Json]:
    refused: Json = {"$ref": "#/components/responses/Problem"}
    return dict.fromkeys(codes, refused)
