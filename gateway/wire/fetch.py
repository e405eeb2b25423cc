"""What the gateway fetches on its own (issuers' keys): one GET, bounded in size and time, never a redirect.

The address comes from the configuration alone. The connection is made for the one request and closed after it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Timeouts, Upstream
from gateway.wire.dial import tls_context
from gateway.wire.http1 import Http1Client

LIMIT_BYTES = 1024 * 1024
_TIMEOUTS = Timeouts(connect=3.0, response=5.0, idle=5.0)


async def fetch(url: str) -> bytes:
    """The body of a 200. Raises UpstreamFailed for everything else, redirects and larger bodies included."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    upstream = Upstream(
        name="fetch", protocol="http", scheme=parts.scheme, host=parts.hostname or "", port=port,
        authority=parts.netloc.rpartition("@")[2], path="", timeouts=_TIMEOUTS,
    )  # fmt: skip
    client = Http1Client(upstream, tls_context(upstream, ["http/1.1"]))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [(b"host", upstream.authority.encode()), (b"accept", b"application/json"), (b"user-agent", b"tollgate")]
    try:
        answer = await client.send("GET", target, headers, None, idempotent=True)
        try:
            if answer.status != 200:
                raise UpstreamFailed(f"it answered {answer.status}", error="http_protocol_error", sent=True)
            body = b""
            while chunk := await answer.chunk():
                body += chunk
                if len(body) > LIMIT_BYTES:
                    raise UpstreamFailed(f"more than {LIMIT_BYTES} bytes", error="http_response_body_size", sent=True)
            return body
        finally:
            await answer.aclose()
    finally:
        await client.aclose()
