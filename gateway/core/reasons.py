"""Why the gateway says no: one table, one value type.

A refusal is a value that a stage returns; an exception is a fault. Every reason of the public contract stands in
`TABLE` once, with what plain HTTP and JSON-RPC callers see of it. Nothing else in the program may choose a status
code for a refusal; the protocols only choose the shape of its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.canonical import Json


class Reason(StrEnum):
    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    SCOPE_INSUFFICIENT = "scope_insufficient"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    ORIGIN_REFUSED = "origin_refused"
    SESSION_FOREIGN = "session_foreign"
    SESSION_UNKNOWN = "session_unknown"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA = "unsupported_media"
    CLIENT_TIMEOUT = "client_timeout"
    ROUTE_UNKNOWN = "route_unknown"
    DESCRIPTOR_UNVERIFIED = "descriptor_unverified"
    DESCRIPTOR_CHANGED = "descriptor_changed"
    DENIED = "denied"
    RATE_LIMITED = "rate_limited"
    BUDGET_EXHAUSTED = "budget_exhausted"
    TOO_LARGE = "too_large"
    POLICY_UNAVAILABLE = "policy_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    BREAKER_OPEN = "breaker_open"
    OVERLOADED = "overloaded"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a caller sees of a reason: `status` on plain HTTP; on MCP and A2A JSON-RPC `rpc_status` with `rpc_code`."""

    status: int
    rpc_status: int
    rpc_code: int
    title: str


# Message-level decisions are HTTP 200 on JSON-RPC: a 403, 429 or 503 on one call ends the session of real clients.
TABLE: Mapping[Reason, Shown] = {
    Reason.MALFORMED: Shown(400, 400, -32600, "The request is malformed"),
    Reason.UNAUTHENTICATED: Shown(401, 401, -31401, "The caller is not authenticated"),
    Reason.SCOPE_INSUFFICIENT: Shown(403, 403, -31403, "The credential does not cover this"),
    Reason.IDENTITY_UNAVAILABLE: Shown(503, 503, -31503, "The issuer's keys cannot be had"),
    Reason.ORIGIN_REFUSED: Shown(403, 403, -31403, "This origin may not call"),
    Reason.SESSION_FOREIGN: Shown(403, 403, -31403, "This session or task belongs to another caller"),
    Reason.SESSION_UNKNOWN: Shown(404, 404, -31404, "This session or task is not known"),
    Reason.METHOD_NOT_ALLOWED: Shown(405, 405, -32600, "This method is not allowed here"),
    Reason.UNSUPPORTED_MEDIA: Shown(415, 415, -32600, "This content type cannot be judged"),
    Reason.CLIENT_TIMEOUT: Shown(408, 408, -32600, "The request did not arrive in time"),
    Reason.ROUTE_UNKNOWN: Shown(404, 404, -32600, "No route leads there"),
    Reason.DESCRIPTOR_UNVERIFIED: Shown(403, 200, -31403, "Nobody trusted vouches for this description"),
    Reason.DESCRIPTOR_CHANGED: Shown(403, 200, -31403, "The description is not the one that was approved"),
    Reason.DENIED: Shown(403, 200, -31403, "Denied by policy"),
    Reason.RATE_LIMITED: Shown(429, 200, -31429, "Too many requests"),
    Reason.BUDGET_EXHAUSTED: Shown(402, 200, -31402, "The budget does not allow for this"),
    Reason.TOO_LARGE: Shown(413, 413, -32600, "The request is too large"),
    Reason.POLICY_UNAVAILABLE: Shown(503, 200, -31503, "The policy engine cannot answer"),
    Reason.AUDIT_UNAVAILABLE: Shown(503, 200, -31503, "The audit log cannot be written"),
    Reason.BREAKER_OPEN: Shown(503, 200, -31503, "The upstream fails and is left alone for now"),
    Reason.OVERLOADED: Shown(503, 200, -31503, "The gateway is at its capacity"),
    Reason.UPSTREAM_FAILED: Shown(502, 502, -31502, "The upstream failed"),
    Reason.UPSTREAM_TIMEOUT: Shown(504, 504, -31504, "The upstream did not answer in time"),
    Reason.FAULT: Shown(500, 500, -32603, "The gateway failed"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A no, with what the caller may learn (`text`) and what only the record keeps (`rule`).

    `status` and `rpc_code` narrow the table where one reason has several (413/431/414; -32700, -32020, -32022, -32602,
    -32601). `headers` are added to the answer as they stand. `retry_after` is in whole seconds, rounded up. `data` are
    more facts for the caller, `noted` for the record's `refusal` only.
    """

    reason: Reason
    text: str
    rule: str = ""
    status: int | None = None
    rpc_code: int | None = None
    retry_after: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False
    data: Mapping[str, object] = field(default_factory=dict)
    noted: Mapping[str, Json] = field(default_factory=dict)

    @property
    def http_status(self) -> int:
        return self.status or TABLE[self.reason].status

    @property
    def rpc_status(self) -> int:
        return self.status or TABLE[self.reason].rpc_status

    @property
    def code(self) -> int:
        return self.rpc_code if self.rpc_code is not None else TABLE[self.reason].rpc_code


class Malformed(ValueError):
    """A document that is not strict JSON, or not what its protocol asks for; `args[0]` says what is wrong and where."""


class Unverified(Malformed):
    """A descriptor that nobody trusted vouches for; `args[0]` says what is wrong with each signature."""


class Spoiled(Exception):
    """A streamed body is not what was promised of it, found where only an exception gets out; `refusal` says what.
    `used`: what of it went to the upstream counts, as it does where a budget ends it."""

    def __init__(self, refusal: Refusal, *, used: bool = False) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal
        self.used = used


class Withheld(Malformed):
    """An answer that was judged and may not be shown: `refusal` is what the caller is told instead."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class LogUnavailable(Exception):
    """Nothing can be sequenced: the caller must be refused with `audit_unavailable`."""


class StoreFailed(Exception):
    """A store cannot be read or written; `args[0]` says which, why, and what to do: for the operator only."""


class EngineFault(Exception):
    """The policy engine failed, answered nonsense, or was late; `args[0]` says which. Always a deny."""


class UpstreamFailed(Exception):
    """The upstream could not be reached, broke, or spoke garbage. `sent` tells whether a request byte may have left.

    `error` is the Proxy-Status error type of RFC 9209, e.g. `connection_refused`.
    """

    def __init__(self, text: str, *, error: str, sent: bool, timeout: bool = False) -> None:
        super().__init__(text)
        self.error = error
        self.sent = sent
        self.timeout = timeout


def store_refusal(error: StoreFailed) -> Refusal:
    """Who a session or task belongs to could not be read or written down: nothing is shown that nobody would own."""
    text = "What belongs to whom cannot be recorded now; try again"
    return Refusal(Reason.AUDIT_UNAVAILABLE, text, rule=type(error).__name__, retry_after=1)


def upstream_refusal(upstream: str, error: UpstreamFailed, pseudonym: str) -> Refusal:
    """What the caller is told of it, with the Proxy-Status that tells one failure from another (RFC 9209)."""
    status = f"{pseudonym}; error={error.error}; next-hop={upstream}"
    reason = Reason.UPSTREAM_TIMEOUT if error.timeout else Reason.UPSTREAM_FAILED
    headers = ((b"proxy-status", status.encode("ascii", "replace")),)
    return Refusal(reason, f"Upstream {upstream}: {error}", rule=error.error, headers=headers)
