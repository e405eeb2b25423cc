"""What openapi.py says of replays; the routes are replay.py's."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, UNCHANGED, query, ref, refused, said
from gateway.core.canonical import Json

_LIST: Json = {"type": "array", "items": {"type": "object"}}
_COUNT: Json = {"type": "integer", "minimum": 0}
_REPLAY: Json = ref("Replay")
_PARAMETERS: dict[str, str] = {
    "bundle": "the name of a pushed bundle, in place of one in the body",
    "since": "RFC 3339 or how long ago (24h), inclusive",
    "until": "RFC 3339 or how long ago, exclusive",
    "sample": "a share of the decisions, like 10%, chosen by the exchange's id",
    "examples": "how many examples are kept of each kind of change",
}


def paths() -> dict[str, Json]:
    always = refused("400", "401", "403", "404", "503")
    ident: Json = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    begin = "Begin to decide what the log recorded by a candidate policy; one replay at a time"
    asked: list[Json] = [query(name, TEXT, text) for name, text in _PARAMETERS.items()]
    return {
        "/api/v1/replay": {
            "post": {
                "summary": begin,
                "parameters": asked,
                "requestBody": {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}},
                "responses": {"202": _json(begin), **refused("409", "413"), **always},
            }
        },
        "/api/v1/replay/{id}": {
            "get": {
                "summary": "How far a replay is, and what it found",
                "parameters": [ident],
                "responses": {
                    "200": _json("The replay"),
                    "304": UNCHANGED,
                    **always,
                },
            },
            "delete": {
                "summary": "End a replay",
                "parameters": [ident],
                "responses": {"200": _json("The replay"), **always},
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
                "id": TEXT,
                "state": {"enum": ["running", "done", "failed", "stopped"]},
                "began": DATE,
                "progress": {"type": "object", "properties": dict.fromkeys(("entries", "done", "decisions"), _COUNT)},
                "result": {"type": "object", "properties": found},
                "error": TEXT,
            },
        }
    }


def _json(summary: str) -> Json:
    return said(summary, _REPLAY)
