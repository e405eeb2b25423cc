"""Opens TCP and TLS connections to upstreams, within the connect deadline, and names what went wrong (RFC 9209).

The rule it keeps: one TLS context per upstream, made when the configuration is read, never below TLS 1.2, never without
a verified name. It must never fall back: no plain text for https, no other address than the configured one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

SHUTDOWN_SECONDS = 2.0  # how long a closing TLS connection may wait for the other side's goodbye


def tls_context(upstream: Upstream, protocols: list[str]) -> ssl.SSLContext | None:
    """The context of an https upstream, None for http. Reads files, so not while serving. Raises OSError, SSLError."""
    if upstream.scheme != "https":
        return None
    tls = upstream.tls
    context = ssl.create_default_context(cafile=tls.ca)  # with a CA of its own, the system's are not believed
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


async def dial(
    upstream: Upstream, tls: ssl.SSLContext | None, protocol: Callable[[], _P], loop: asyncio.AbstractEventLoop
) -> _P:
    """A connected protocol. Raises UpstreamFailed; nothing was sent then."""
    name = (upstream.tls.server_name or upstream.host) if tls is not None else None
    connect = upstream.timeouts.connect
    try:
        async with asyncio.timeout(connect):
            if upstream.socket:
                _, made = await loop.create_unix_connection(protocol, upstream.socket)
            elif tls is None:
                _, made = await loop.create_connection(protocol, upstream.host, upstream.port)
            else:
                _, made = await loop.create_connection(
                    protocol, upstream.host, upstream.port, ssl=tls, server_hostname=name,
                    ssl_handshake_timeout=connect, ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )  # fmt: skip
    except (
        OSError,
        UnicodeError,
    ) as error:  # TimeoutError and SSLError are OSErrors; a host that is no name is neither
        raise failed(error) from error
    return made


def failed(error: Exception) -> UpstreamFailed:
    """What a failed connection attempt is called. The text names no address: callers see it."""
    text, name = "the connection failed", "destination_unavailable"
    if isinstance(error, TimeoutError):
        return UpstreamFailed("no connection in time", error="connection_timeout", sent=False, timeout=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        text, name = f"its certificate was not accepted: {error.verify_message}", "tls_certificate_error"
    elif isinstance(error, ssl.SSLError):
        text, name = f"TLS failed: {error.reason or 'unknown reason'}", "tls_protocol_error"
    elif isinstance(error, socket.gaierror | UnicodeError):
        text, name = "its name cannot be resolved", "dns_error"
    elif isinstance(error, ConnectionRefusedError):
        text, name = "the connection was refused", "connection_refused"
    elif isinstance(error, ConnectionResetError | ConnectionAbortedError):
        text, name = "the connection was reset", "connection_terminated"
    return UpstreamFailed(text, error=name, sent=False)
