"""Sends what the gateway fetches on its own (the `Carry` of core/fetching.py): one request on one connection, to the
very address it is given, under the name it is given, bounded in size and time.

Who may be asked was judged before (trust/fetcher.py). It must never resolve a name, and never use a proxy.
"""

from __future__ import annotations

import asyncio
import ssl

from gateway.core.exchange import Header
from gateway.core.fetching import Errand, Fetched
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Timeouts, Upstream, UpstreamTls
from gateway.wire.dial import tls_context
from gateway.wire.http1 import Http1Client

_CONNECT_SECONDS = 3.0  # per address
_PORTS = {"https": 443, "http": 80}


class Carrier:
    """`ca` is a PEM file to believe instead of the system's; it is read here. Raises OSError, SSLError."""

    __slots__ = ("_ca", "_tls")

    def __init__(self, ca: str | None = None) -> None:
        self._ca = ca
        self._tls: ssl.SSLContext | None = None
        if ca is not None:
            self._tls = self._context()

    async def __call__(self, errand: Errand) -> Fetched:
        upstream = _upstream(errand, self._ca)
        if errand.scheme == "https" and self._tls is None:
            self._tls = await asyncio.to_thread(self._context)
        client = Http1Client(upstream, self._tls if errand.scheme == "https" else None)
        try:
            answer = await client.send(
                errand.method, errand.target, _headers(upstream, errand), errand.body, idempotent=False
            )
            try:
                body = bytearray()
                while chunk := await answer.chunk():
                    body += chunk
                    if len(body) > errand.max_bytes:
                        text = f"its answer is larger than {errand.max_bytes} bytes"
                        raise UpstreamFailed(text, error="http_response_body_size", sent=True)
                return Fetched(answer.status, _read(answer.headers), bytes(body))
            finally:
                await answer.aclose()
        finally:
            await client.aclose()

    def _context(self) -> ssl.SSLContext | None:
        """The system's authorities are read when first needed: most gateways never fetch over https."""
        any_https = Upstream("fetch", "http", "https", "fetch", 443, "fetch", "", tls=UpstreamTls(ca=self._ca))
        return tls_context(any_https, ["http/1.1"])


def _upstream(errand: Errand, ca: str | None) -> Upstream:
    host = f"[{errand.host}]" if ":" in errand.host else errand.host
    authority = host if errand.port == _PORTS[errand.scheme] else f"{host}:{errand.port}"
    seconds = errand.deadline_s
    return Upstream(
        name="fetch",
        protocol="http",
        scheme=errand.scheme,
        host=errand.address,
        port=errand.port,
        authority=authority,
        path="",
        timeouts=Timeouts(connect=min(_CONNECT_SECONDS, seconds), response=seconds, idle=seconds),
        tls=UpstreamTls(ca=ca, server_name=errand.host),
    )


def _headers(upstream: Upstream, errand: Errand) -> list[Header]:
    given = [(name.encode("ascii"), value.encode("latin-1")) for name, value in errand.headers]
    own = [(b"host", upstream.authority.encode()), (b"user-agent", b"tollgate"), (b"accept-encoding", b"identity")]
    return own + given


def _read(headers: list[Header]) -> tuple[tuple[str, str], ...]:
    read = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return tuple(pair for pair in read if pair[0] != "set-cookie")
