"""What openapi.py says of agents, tools, approvals and blocks; the routes are agents.py's."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, body, members, query, read, ref, responses
from gateway.core.canonical import Json

_STANDING: Json = {"enum": ["verified", "unverified", "quarantined", "blocked"]}
_KIND: Json = {"enum": ["tool", "prompt", "resource", "resource_template"]}


def paths() -> dict[str, Json]:
    upstream, kind, name = query("upstream", TEXT), query("kind", _KIND), query("name", TEXT)
    return {
        "/api/v1/agents": {"get": _read("Upstream agents with their standing, and callers that are blocked", "Agents")},
        "/api/v1/agents/item": {"get": _read("One agent with all it describes", "Agent", name)},
        "/api/v1/agents/block": {"post": _change("Block an agent or a caller; its open streams end", "BlockAgent")},
        "/api/v1/agents/unblock": {"post": _change("Lift the block of an agent or a caller", "BlockAgent")},
        "/api/v1/tools": {
            "get": _read(
                "Tools, prompts, resources and templates", "Tools", upstream, kind, query("standing", _STANDING)
            )
        },
        "/api/v1/tools/item": {"get": _read("One of them whole, with what changed", "Tool", upstream, kind, name)},
        "/api/v1/tools/approve": {"post": _change("Approve what was seen, by its digest, all or none", "Approve")},
        "/api/v1/tools/block": {"post": _change("Block a tool, prompt, resource or template", "BlockTool")},
        "/api/v1/tools/unblock": {"post": _change("Lift its block", "BlockTool")},
    }


def schemas() -> dict[str, Json]:
    item: dict[str, Json] = {
        "kind": _KIND, "upstream": TEXT, "name": TEXT, "standing": _STANDING,
        "digest": {"type": "string", "description": "of what was seen last, without _meta"},
        "approved": {"type": "string", "description": "the pin"},
        "by": {"type": "string", "description": "who approved it: admin, first_use or signer:<name>"},
        "why": TEXT, "seen": DATE,
        "changed": DATE, "etag": {"type": "string", "description": "for If-Match"},
    }  # fmt: skip
    agent: dict[str, Json] = {
        "name": TEXT, "configured": {"type": "boolean"}, "protocol": TEXT, "url": TEXT, "standing": _STANDING,
        "pin": {"enum": ["required", "first_use", "none"]}, "problem": TEXT,
        "items": {"description": "how many of each standing; in /item all of them"},
    }  # fmt: skip
    named: dict[str, Json] = {"upstream": TEXT, "kind": _KIND, "name": TEXT}
    approval: Json = members({**named, "digest": TEXT}, "upstream", "kind", "name", "digest")
    shown: dict[str, Json] = {
        **item, "document": {}, "approved_document": {}, "pin": TEXT, "text": TEXT,
        "differences": {"type": "array", "items": TEXT, "description": "paths of the members that differ"},
        "diff": {"type": "string", "description": "unified, approved against seen, invisible characters escaped"},
    }  # fmt: skip
    return {
        "Described": members(item, "kind", "name", "standing"),
        "Tool": members(shown, "kind", "name", "standing", "differences", "diff"),
        "Tools": members({"tools": _list("Described")}, "tools"),
        "Agent": members(agent, "name", "configured", "standing", "items"),
        "Agents": members({"agents": _list("Agent"), "callers": _list("Described")}, "agents", "callers"),
        "Approve": {"oneOf": [approval, members({"items": {"type": "array", "items": approval}}, "items")]},
        "BlockTool": members({**named, "why": TEXT}, "upstream", "kind", "name"),
        "BlockAgent": members(
            {"agent": {"type": "string", "description": "an upstream's name, or a caller's subject.id"}, "why": TEXT},
            "agent",
        ),
    }


def _list(schema: str) -> Json:
    return {"type": "array", "items": ref(schema)}


def _read(summary: str, schema: str, *parameters: Json) -> Json:
    return read(summary, ref(schema), *parameters)


def _change(summary: str, sent: str) -> Json:
    return {
        "summary": summary,
        "parameters": [
            {
                "name": "If-Match",
                "in": "header",
                "schema": TEXT,
                "description": "the item's etag; 412 where it moved on",
            }
        ],
        "requestBody": body(ref(sent)),
        "responses": responses(summary, {"type": "object"}, "412"),
    }
