"""What openapi.py says of replays; the routes are replay.py's."""

from __future__ import annotations

from gateway.core.canonical import Json

_TEXT: Json = {"type": "string"}
_LIST: Json = {"type": "array", "items": {"type": "object"}}
_COUNT: Json = {"type": "integer", "minimum": 0}
_REFUSED: Json = {"$ref": "#/components/responses/Problem"}
_REPLAY: Json = {"$ref": "#/components/schemas/Replay"}
_PARAMETERS: dict[str, str] = {
    "bundle": "the name of a pushed bundle, in place of one in the body",
    "since": "RFC 3339 or how long ago (24h), inclusive",
    "until": "RFC 3339 or how long ago, exclusive",
    "sample": "a share of the decisions, like 10%, chosen by the exchange's id",
    "examples": "how many examples are kept of each kind of change",
}


def paths() -> dict[str, Json]:
    refused: dict[str, Json] = dict.fromkeys(("400", "401", "403", "404", "503"), _REFUSED)
    ident: Json = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
    begin = "Begin to decide what the log recorded by a candidate policy; one replay at a time"
    asked: list[Json] = [
        {"name": name, "in": "query", "description": text, "schema": _TEXT} for name, text in _PARAMETERS.items()
    ]
    return {
        "/api/v1/replay": {
            "post": {
                "summary": begin,
                "parameters": asked,
                "requestBody": {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}},
                "responses": {"202": _json(begin), "409": _REFUSED, "413": _REFUSED, **refused},
            }
        },
        "/api/v1/replay/{id}": {
            "get": {
                "summary": "How far a replay is, and what it found",
                "parameters": [ident],
                "responses": {
                    "200": _json("The replay"),
                    "304": {"description": "The ETag in If-None-Match is still right"},
                    **refused,
                },
            },
            "delete": {
                "summary": "End a replay",
                "parameters": [ident],
                "responses": {"200": _json("The replay"), **refused},
            },
        },
    }


def schemas() -> dict[str, Json]:
    kinds = ("decisions", "replayed", "unchanged", "allow_to_deny", "deny_to_allow", "obligations", "reworded")
    found: dict[str, Json] = {
        **dict.fromkeys((*kinds, "not_replayable", "list_items"), _COUNT),
        "candidate": {"type": "string", "description": "the revision of the candidate's content"},
        "log": {"type": "object", "description": "whether it was verified, its origin and size"},
        "not_replayable_because": {"type": "object", "additionalProperties": _COUNT},
        **dict.fromkeys(("by_rule", "by_subject", "by_resource", "examples"), _LIST),
    }
    return {
        "Replay": {
            "type": "object",
            "required": ["id", "state", "began"],
            "properties": {
                "id": _TEXT,
                "state": {"enum": ["running", "done", "failed", "stopped"]},
                "began": {"type": "string", "format": "date-time"},
                "progress": {"type": "object", "properties": dict.fromkeys(("entries", "done", "decisions"), _COUNT)},
                "result": {"type": "object", "properties": found},
                "error": _TEXT,
            },
        }
    }


def _json(summary: str) -> Json:
    return {"description": summary, "content": {"application/json": {"schema": _REPLAY}}}
