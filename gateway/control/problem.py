"""Errors of the admin plane as RFC 9457 problem documents, and JSON answers with their ETag."""

from __future__ import annotations

import hashlib
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.canonical import Json


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """`detail` says what is wrong and what to do; it never quotes a credential."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(orjson.dumps(document), status, headers, "application/problem+json")


def answer(request: Request, document: Json) -> Response:
    """A JSON document with a strong ETag; 304 where the caller has it already."""
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    given = request.headers.get("if-none-match", "")
    if etag in (item.strip().removeprefix("W/") for item in given.split(",")) or given.strip() == "*":
        return Response(status_code=304, headers={"etag": etag})
    return Response(body, headers={"etag": etag}, media_type="application/json")
