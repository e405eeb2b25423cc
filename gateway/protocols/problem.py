"""How the gateway says no to a plain HTTP caller: RFC 9457 problem details.

`reason` is the word of the public contract, `exchange_id` the one by which records and `explain` find the exchange.
The caller learns the policy's own reason text, never the rule that said it.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import TABLE, Reason, Refusal
from gateway.protocols.jsonrpc import refusal_data

# RFC 9457 types that a registry defines; everything else is `about:blank`, told apart by `reason`.
_TYPES = {
    Reason.RATE_LIMITED: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    Reason.OVERLOADED: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
}


def problem(exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of a refusal."""
    status = refusal.http_status
    kind = _TYPES.get(refusal.reason)
    body: dict[str, object] = {
        "type": kind or "about:blank",
        "title": TABLE[refusal.reason].title if kind else phrase(status),
        "status": status,
        "detail": refusal.text,
        **refusal_data(exchange, refusal),
    }
    return status, refusal_headers(refusal, b"application/problem+json"), dump(body)


def refusal_headers(refusal: Refusal, content_type: bytes) -> list[Header]:
    """Content type, Retry-After and what the refusal itself brings. A refusal is for one caller and one moment."""
    headers: list[Header] = [(b"content-type", content_type), (b"cache-control", b"no-store"), *refusal.headers]
    if refusal.retry_after is not None and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    return headers


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def dump(value: object) -> bytes:
    """ASCII JSON, so that no text of a refusal can be anything but text wherever it is shown."""
    return json.dumps(value, separators=(",", ":")).encode()
