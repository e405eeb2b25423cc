"""Host and Origin rules of the data plane, and CORS for the origins the operator listed.

A browser's page may call only from the gateway's own origin or a listed one; a Host that is not ours is DNS rebinding
and is refused before a route is looked up. An absent Origin passes: it is not a browser.
"""

from __future__ import annotations

from gateway.core.exchange import Exchange, Head, Header
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Snapshot

# What a page needs to read beyond the CORS-safelisted headers: sessions, ids, limits, challenges.
_EXPOSED = b"mcp-session-id, x-request-id, ratelimit, ratelimit-policy, retry-after, www-authenticate, location, link"
_PREFLIGHT_SECONDS = b"600"


def foreign(snapshot: Snapshot, head: Head) -> Refusal | None:
    """`origin_refused` for a Host that is not ours or an Origin that is not allowed; None otherwise."""
    if not snapshot.admits_host(head):
        return Refusal(Reason.ORIGIN_REFUSED, "This gateway does not answer to that Host name", rule="host")
    origins = head.values(b"origin")
    if not origins:
        return None
    if len(origins) == 1:
        origin = origins[0].decode("latin-1").lower()
        if origin in snapshot.origins or origin in (snapshot.own_origin, f"{head.scheme}://{head.authority}"):
            return None
    return Refusal(
        Reason.ORIGIN_REFUSED, "This origin is not allowed; `origins` in the configuration lists them", "origin"
    )


def is_preflight(head: Head) -> bool:
    return (
        head.method == "OPTIONS"
        and head.first(b"origin") is not None
        and head.first(b"access-control-request-method") is not None
    )


def preflight(exchange: Exchange) -> list[Header]:
    """The answer to a CORS preflight whose Origin has passed `foreign`."""
    head = exchange.head
    method = head.first(b"access-control-request-method") or b""
    headers = [*shared(exchange), (b"access-control-allow-methods", method)]
    asked = head.first(b"access-control-request-headers")
    if asked is not None:
        headers.append((b"access-control-allow-headers", asked))
    headers.append((b"access-control-max-age", _PREFLIGHT_SECONDS))
    headers.append((b"x-request-id", exchange.id.encode()))
    return headers


def shared(exchange: Exchange) -> tuple[Header, ...]:
    """The CORS headers of an answer to a listed origin; nothing for everybody else."""
    origin = exchange.head.first(b"origin")
    if origin is None or origin.decode("latin-1").lower() not in exchange.snapshot.origins:
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
    )
