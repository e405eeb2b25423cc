"""What openapi.py says of questions to the policy (decide.py, authzen.py) and of explanations (explain.py)."""

from __future__ import annotations

from gateway.control.authzen import EVALUATIONS
from gateway.control.openapi_words import DATE, REFUSED, TEXT, UNCHANGED, body, ref, refused, said
from gateway.control.passed import STAGES
from gateway.core.canonical import Json

_OBJECT: Json = {"type": "object"}
_SAID: dict[str, Json] = {"description": "What is wrong, as a text", "content": {"text/plain": {"schema": TEXT}}}


def paths() -> dict[str, Json]:
    ident: Json = {"name": "X-Request-ID", "in": "header", "schema": TEXT, "description": "comes back as it was sent"}
    explain: Json = {"name": "explain", "in": "query", "schema": {"type": "boolean"}, "description": "why as well"}
    metadata = "AuthZEN: where this policy decision point is asked"
    return {
        "/api/v1/decide": {
            "post": _asked("One access request, decided by the policy in force", "Question", "Decided", explain)
        },
        "/access/v1/evaluation": {
            "post": _asked("AuthZEN 1.0: one evaluation", "Question", "Evaluation", ident, authzen=True)
        },
        "/access/v1/evaluations": {
            "post": _asked("AuthZEN 1.0: several, in order", "Questions", "Evaluations", ident, authzen=True)
        },
        "/.well-known/authzen-configuration": {
            "get": {
                "summary": metadata,
                "responses": {
                    "200": said(metadata, ref("AuthZenConfiguration")),
                    "304": UNCHANGED,
                    **refused("401", "403"),
                },
            }
        },
    }


def schemas() -> dict[str, Json]:
    entity: Json = _object({"type": TEXT, "id": TEXT, "properties": _OBJECT}, "type", "id")
    action: Json = _object({"name": TEXT, "properties": _OBJECT}, "name")
    parts: dict[str, Json] = {"subject": entity, "action": action, "resource": entity, "context": _OBJECT}
    context: Json = _object({"reason": TEXT, "rule": TEXT, "obligations": {"type": "array", "items": _OBJECT}})
    decided: dict[str, Json] = {
        "decision": {"type": "boolean"}, "context": context, "engine": TEXT, "revision": TEXT,
        "mode": {"enum": ["enforce", "report"]}, "fault": {"type": "boolean", "description": "the engine failed"},
        "ms": {"type": "number"}, "input": {"type": "string", "description": "digest of what the policy was given"},
        "why": ref("Why"),
    }  # fmt: skip
    several: dict[str, Json] = {
        "evaluations": {"type": "array", "maxItems": EVALUATIONS, "items": _OBJECT},
        "options": _object(
            {"evaluations_semantic": {"enum": ["execute_all", "deny_on_first_deny", "permit_on_first_permit"]}}
        ),
    }
    url: Json = {"type": "string", "format": "uri"}
    names = ("policy_decision_point", "access_evaluation_endpoint", "access_evaluations_endpoint")
    return {
        "Question": _object(parts, "subject", "action", "resource"),
        "Questions": _object({**parts, **several}),
        "Decided": _object(decided, "decision", "context", "engine", "revision", "mode", "fault", "ms"),
        "Evaluation": _object({"decision": {"type": "boolean"}, "context": _OBJECT}, "decision"),
        "Evaluations": _object({"evaluations": {"type": "array", "items": ref("Evaluation")}}),
        "AuthZenConfiguration": _object(dict.fromkeys(names, url), *names),
        "Stage": _stage(),
        "Why": _why(),
    }


def _stage() -> Json:
    return _object(
        {
            "stage": {"type": "string", "examples": list(STAGES)},
            "verdict": {"enum": ["passed", "refused", "fault", "not reached", "not known yet"]},
            "time": DATE, "text": TEXT,
            "ms": {"type": "number"}, "first_byte_ms": {"type": "number"},
            "kept": {"type": "boolean", "description": "decided before, for a request with the same input"},
        },
        "stage", "verdict",
    )  # fmt: skip


def _why() -> Json:
    made: dict[str, Json] = {
        "name": TEXT, "file": TEXT, "line": {"type": "integer"}, "text": TEXT, "default": {"type": "boolean"},
    }  # fmt: skip
    change: Json = _object(
        {"place": TEXT, "change": {"enum": ["set", "add", "remove"]}, "to": {}, "from": {}, "text": TEXT},
        "place", "change", "to", "text",
    )  # fmt: skip
    read: Json = _object({"place": TEXT, "value": {}, "type": TEXT}, "place")
    return _object(
        {
            "engine": TEXT, "revision": TEXT, "input": TEXT,
            "input_from": {"enum": ["memory", "records"], "description": "where what the policy was given was found"},
            "note": {"type": "string", "description": "why no more can be told"},
            "matched": {"type": "boolean", "description": "false: no rule matched, the default answered"},
            "error": {"type": "string", "description": "how the policy failed"},
            "undefined": {"type": "boolean", "description": "true: not even a default"},
            "rule": _object({**made, "label": TEXT}), "made_by": {"type": "array", "items": _object(made)},
            "reads": {"type": "array", "items": read},
            "missing": {"type": "array", "items": TEXT, "description": "what the policy looked for and did not find"},
            "nearest": {"type": "array", "items": change, "description": "each was evaluated and allowed"},
            "nearest_tried": {"type": "integer"}, "nearest_note": TEXT,
        }
    )  # fmt: skip


def _asked(summary: str, sent: str, found: str, parameter: Json, *, authzen: bool = False) -> Json:
    wrong: Json = _SAID if authzen else REFUSED
    responses: dict[str, Json] = {"200": said(summary, ref(found)), "400": wrong}
    responses |= refused("401", "403", "503")
    if authzen:
        responses["500"] = {**_SAID, "description": "The policy engine cannot answer: take it for a no"}
    return {
        "summary": summary,
        "parameters": [parameter],
        "requestBody": body(ref(sent)),
        "responses": responses,
    }


def _object(properties: dict[str, Json], *required: str) -> Json:
    found: dict[str, Json] = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found
