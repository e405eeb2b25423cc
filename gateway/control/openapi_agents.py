"""What openapi.py says of agents, tools, approvals and blocks; the routes are agents.py's."""

from __future__ import annotations

from gateway.core.canonical import Json

_TEXT: Json = {"type": "string"}
_STANDING: Json = {"enum": ["verified", "unverified", "quarantined", "blocked"]}
_KIND: Json = {"enum": ["tool", "prompt", "resource", "resource_template"]}


def paths() -> dict[str, Json]:
    upstream, kind, name = _query("upstream", _TEXT), _query("kind", _KIND), _query("name", _TEXT)
    return {
        "/api/v1/agents": {"get": _read("Upstream agents with their standing, and callers that are blocked", "Agents")},
        "/api/v1/agents/item": {"get": _read("One agent with all it describes", "Agent", name)},
        "/api/v1/agents/block": {"post": _change("Block an agent or a caller; its open streams end", "BlockAgent")},
        "/api/v1/agents/unblock": {"post": _change("Lift the block of an agent or a caller", "BlockAgent")},
        "/api/v1/tools": {
            "get": _read(
                "Tools, prompts, resources and templates", "Tools", upstream, kind, _query("standing", _STANDING)
            )
        },
        "/api/v1/tools/item": {"get": _read("One of them whole, with what changed", "Tool", upstream, kind, name)},
        "/api/v1/tools/approve": {"post": _change("Approve what was seen, by its digest, all or none", "Approve")},
        "/api/v1/tools/block": {"post": _change("Block a tool, prompt, resource or template", "BlockTool")},
        "/api/v1/tools/unblock": {"post": _change("Lift its block", "BlockTool")},
    }


def schemas() -> dict[str, Json]:
    item: dict[str, Json] = {
        "kind": _KIND, "upstream": _TEXT, "name": _TEXT, "standing": _STANDING,
        "digest": {"type": "string", "description": "of what was seen last, without _meta"},
        "approved": {"type": "string", "description": "the pin"},
        "by": {"type": "string", "description": "who approved it: admin, first_use or signer:<name>"},
        "why": _TEXT, "seen": {"type": "string", "format": "date-time"},
        "changed": {"type": "string", "format": "date-time"}, "etag": {"type": "string", "description": "for If-Match"},
    }  # fmt: skip
    agent: dict[str, Json] = {
        "name": _TEXT, "configured": {"type": "boolean"}, "protocol": _TEXT, "url": _TEXT, "standing": _STANDING,
        "pin": {"enum": ["required", "first_use", "none"]}, "problem": _TEXT,
        "items": {"description": "how many of each standing; in /item all of them"},
    }  # fmt: skip
    named: dict[str, Json] = {"upstream": _TEXT, "kind": _KIND, "name": _TEXT}
    approval: Json = _object({**named, "digest": _TEXT}, "upstream", "kind", "name", "digest")
    shown: dict[str, Json] = {
        **item, "document": {}, "approved_document": {}, "pin": _TEXT, "text": _TEXT,
        "differences": {"type": "array", "items": _TEXT, "description": "paths of the members that differ"},
        "diff": {"type": "string", "description": "unified, approved against seen, invisible characters escaped"},
    }  # fmt: skip
    return {
        "Described": _object(item, "kind", "name", "standing"),
        "Tool": _object(shown, "kind", "name", "standing", "differences", "diff"),
        "Tools": _object({"tools": _list("Described")}, "tools"),
        "Agent": _object(agent, "name", "configured", "standing", "items"),
        "Agents": _object({"agents": _list("Agent"), "callers": _list("Described")}, "agents", "callers"),
        "Approve": {"oneOf": [approval, _object({"items": {"type": "array", "items": approval}}, "items")]},
        "BlockTool": _object({**named, "why": _TEXT}, "upstream", "kind", "name"),
        "BlockAgent": _object(
            {"agent": {"type": "string", "description": "an upstream's name, or a caller's subject.id"}, "why": _TEXT},
            "agent",
        ),
    }


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(schema: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _responses(summary: str, schema: Json, *codes: str) -> dict[str, Json]:
    refused: Json = {"$ref": "#/components/responses/Problem"}
    found: dict[str, Json] = {"200": {"description": summary, "content": {"application/json": {"schema": schema}}}}
    return found | dict.fromkeys(("400", "401", "403", "404", "503", *codes), refused)


def _read(summary: str, schema: str, *parameters: Json) -> Json:
    found: dict[str, Json] = {
        "summary": summary,
        "responses": {
            **_responses(summary, {"$ref": f"#/components/schemas/{schema}"}),
            "304": {"description": "The ETag in If-None-Match is still right"},
        },
    }
    if parameters:
        found["parameters"] = list(parameters)
    return found


def _change(summary: str, body: str) -> Json:
    return {
        "summary": summary,
        "parameters": [
            {
                "name": "If-Match",
                "in": "header",
                "schema": _TEXT,
                "description": "the item's etag; 412 where it moved on",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}},
        },
        "responses": _responses(summary, {"type": "object"}, "412"),
    }
