"""The admin API's description (OpenAPI 3.1), written once beside the routes; a test holds the two together."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.control import (
    openapi_agents,
    openapi_asking,
    openapi_budgets,
    openapi_bundles,
    openapi_keys,
    openapi_replay,
    openapi_shadow,
    openapi_upstreams,
)
from gateway.control.openapi_words import TEXT, UNCHANGED, query, ref, refused, said
from gateway.core.canonical import Json
from gateway.core.query import PAGE_MOST

FILTERS: Mapping[str, str] = {
    "exchange": "the exchange's id, as in X-Request-Id",
    "subject": "subject.id, exactly",
    "action": "action name, exactly, as in mcp.tools/call",
    "route": "route name",
    "kind": "intent, outcome, refusal, admin, activation or recovery",
    "effect": "allow or deny: what policy decided",
    "reason": "the refusal's reason, as in rate_limited",
    "since": "RFC 3339, inclusive",
    "until": "RFC 3339, inclusive",
}


def description(version: str, server: str) -> dict[str, Json]:
    """The document at /api/v1/openapi.json."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tollgate admin API", "version": version, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": server}],
        "security": [{"token": []}, {"session": []}],
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "the admin token"},
                "session": {"type": "apiKey", "in": "cookie", "name": "tollgate", "description": "a log-in"},
            },
            "schemas": {
                **_schemas(),
                **openapi_agents.schemas(),
                **openapi_asking.schemas(),
                **openapi_budgets.schemas(),
                **openapi_bundles.schemas(),
                **openapi_keys.schemas(),
                **openapi_shadow.schemas(),
                **openapi_replay.schemas(),
                **openapi_upstreams.schemas(),
            },
            "responses": {
                "Problem": {
                    "description": "RFC 9457: what is wrong and what to do",
                    "content": {"application/problem+json": {"schema": ref("Problem")}},
                }
            },
        },
        "paths": {
            **_paths(),
            **openapi_agents.paths(),
            **openapi_asking.paths(),
            **openapi_budgets.paths(),
            **openapi_bundles.paths(),
            **openapi_keys.paths(),
            **openapi_shadow.paths(),
            **openapi_replay.paths(),
            **openapi_upstreams.paths(),
        },
    }


def _paths() -> dict[str, Json]:
    found: dict[str, Json] = {}
    for path, summary in (
        ("/api/v1/status", "What runs: node, revision, policy, log, index, and whether it is ready"),
        ("/api/v1/routes", "The routes of the active snapshot"),
        ("/api/v1/checkpoint", "The log's newest signed checkpoint"),
        ("/api/v1/openapi.json", "This document"),
    ):
        found[path] = {"get": _operation(summary, {"type": "object"})}
    found["/api/v1/me"] = {"get": _operation("Who asks, and by what means", ref("Me"))}
    found["/api/v1/records"] = {
        "get": _operation(
            "Records, newest first",
            ref("RecordPage"),
            [
                *(query(name, TEXT, text) for name, text in FILTERS.items()),
                query("cursor", {"type": "integer", "minimum": 0}, "`next` of the page before"),
                query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MOST}, "records per page"),
            ],
        )
    }
    found["/api/v1/decisions/{exchange_id}"] = {
        "get": _operation(
            "One exchange explained: its records joined",
            ref("Explanation"),
            [
                {
                    "name": "exchange_id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "format": "uuid"},
                }
            ],
        )
    }
    return found


def _operation(summary: str, schema: Json, parameters: list[Json] | None = None) -> Json:
    found: dict[str, Json] = {
        "summary": summary,
        "responses": {
            "200": said(summary, schema),
            "304": UNCHANGED,
            **refused("400", "401", "403", "404", "503"),
        },
    }
    if parameters:
        found["parameters"] = parameters
    return found


def _schemas() -> dict[str, Json]:
    record: Json = {"type": "object", "description": "A record as the log has it (contract of records, v: 1)"}
    return {
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
        },
        "Me": {
            "type": "object",
            "required": ["subject", "roles", "means"],
            "properties": {
                "subject": {
                    "type": "object",
                    "required": ["id", "type"],
                    "properties": {"id": {"type": "string"}, "type": {"type": "string"}},
                },
                "roles": {"type": "array", "items": {"type": "string"}},
                "means": {"enum": ["token", "session"], "description": "by what it is known"},
            },
        },
        "Record": record,
        "RecordPage": {
            "type": "object",
            "required": ["records", "next"],
            "properties": {
                "records": {"type": "array", "items": ref("Record")},
                "next": {"type": ["integer", "null"], "description": "`cursor` of the next page"},
            },
        },
        "Explanation": {
            "type": "object",
            "required": ["exchange", "state", "summary", "steps", "records"],
            "properties": {
                "exchange": {"type": "string"},
                "state": {"enum": ["open", "ended", "refused"]},
                "summary": {"type": "string"},
                "stages": {"type": "array", "items": ref("Stage")},
                "why": ref("Why"),
                "steps": {"type": "array", "items": {"type": "object"}},
                "records": {"type": "array", "items": ref("Record")},
            },
        },
    }  # fmt: skip
