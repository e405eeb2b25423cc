"""What openapi.py says of upstreams and their breakers; the routes are upstreams.py's."""

from __future__ import annotations

from gateway.control.openapi_words import TEXT, UNCHANGED, body, members, ref, refused, said
from gateway.core.canonical import Json

_HOLD: Json = {"enum": ["open", "close", "auto"]}
_WAIT: Json = {"type": "integer", "description": "milliseconds until a call may be let through"}


def paths() -> dict[str, Json]:
    summary = "The upstreams of the active snapshot, without their credentials, and how they do"
    change = "Open or close an upstream's breakers until that is undone, or let them go"
    name: Json = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    one: Json = {"type": "object", "properties": {"upstream": ref("Upstream")}}
    return {
        "/api/v1/upstreams": {"get": {"summary": summary, "responses": _responses("Upstreams", "304")}},
        "/api/v1/upstreams/{name}/breaker": {
            "post": {
                "summary": change,
                "parameters": [name],
                "requestBody": body(ref("HoldBreaker")),
                "responses": {
                    **refused("400", "401", "403", "404", "409", "503"),
                    "200": said(change, one),
                },
            }
        },
    }


def schemas() -> dict[str, Json]:
    breaker: dict[str, Json] = {
        "state": {"enum": ["closed", "half_open", "open"]}, "hold": _HOLD, "why": TEXT, "wait_ms": _WAIT,
    }  # fmt: skip
    address: dict[str, Json] = {
        "address": TEXT, "state": {"enum": ["in", "ejected", "unhealthy"]},
        "in_flight": {"type": "integer"}, "why": TEXT, "wait_ms": _WAIT,
    }  # fmt: skip
    upstream: dict[str, Json] = {
        "name": TEXT, "url": TEXT, "protocol": TEXT, "http": TEXT, "timeouts": {"type": "object"},
        "credentials": {"type": "boolean"}, "breaker": members(breaker, "state", "hold"),
        "tools": {
            "type": "array", "description": "of tools with breakers of their own that are not at rest",
            "items": members({"tool": TEXT, **breaker}, "tool", "state", "hold"),
        },
        "addresses": {"type": "array", "items": members(address, "address", "state", "in_flight")},
    }  # fmt: skip
    several: Json = {"type": "array", "items": ref("Upstream")}
    return {
        "Upstream": members(upstream, "name", "url", "protocol"),
        "Upstreams": members({"upstreams": several}, "upstreams"),
        "HoldBreaker": members({"state": _HOLD, "why": TEXT}, "state"),
    }


def _responses(schema: str, *codes: str) -> dict[str, Json]:
    same = dict.fromkeys(codes, UNCHANGED)
    return {"200": said(schema, ref(schema)), **same, **refused("400", "401", "403", "503")}
