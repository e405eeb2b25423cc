"""The front's own answers: a refusal made before there is an exchange, as the bytes that go out.

They say the reason and nothing of the request, close the connection, and carry Proxy-Status (RFC 9209), so that an
operator can tell them from an upstream's. Refusals of an exchange are written by its protocol, never here.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus

from gateway.core.reasons import TABLE, Reason, Refusal

PROXY = "tollgate"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase if status in set(HTTPStatus) else ''}\r\n".encode()
    for status in range(200, 600)
}

LATE_HEAD = Refusal(Reason.CLIENT_TIMEOUT, "The request's head did not arrive in time", rule="head.late", close=True)
LATE_BODY = Refusal(Reason.CLIENT_TIMEOUT, "The request's body did not arrive in time", rule="body.late", close=True)
CROWDED = Refusal(
    Reason.OVERLOADED, "The gateway has too many exchanges open", rule="exchanges", retry_after=1, close=True
)
FULL = Refusal(Reason.OVERLOADED, "The gateway has too many connections", rule="connections", retry_after=1, close=True)
LEAVING = Refusal(Reason.OVERLOADED, "The gateway is going down", rule="leaving", retry_after=1, close=True)
FAULT = Refusal(Reason.FAULT, "The gateway failed", rule="application", close=True)


def write_answer(refusal: Refusal, *, now: float, without_body: bool = False) -> bytes:
    """The whole response. `now` is epoch seconds; `without_body` for an answer to HEAD."""
    status = refusal.http_status
    problem: dict[str, object] = {
        "type": "about:blank",
        "title": TABLE[refusal.reason].title,
        "status": status,
        "detail": refusal.text,
        "reason": refusal.reason.value,
    }
    if refusal.retry_after is not None:
        problem["retry_after"] = refusal.retry_after
    body = json.dumps(problem, separators=(",", ":")).encode()
    error = (
        "http_request_error" if status < 500 else "proxy_internal_error" if status == 500 else "proxy_internal_response"
    )
    lines = [
        STATUS_LINES[status],
        b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n",
        b"content-type: application/problem+json\r\n",
        b"content-length: %d\r\n" % len(body),
        f'proxy-status: {PROXY}; error={error}; details="{refusal.rule}"\r\n'.encode(),
        b"cache-control: no-store\r\n",
        b"connection: close\r\n",
    ]
    if refusal.retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % refusal.retry_after)
    lines += [b"%b: %b\r\n" % item for item in refusal.headers]
    lines += [b"\r\n", b"" if without_body else body]
    return b"".join(lines)
