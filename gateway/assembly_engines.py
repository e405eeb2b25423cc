"""Engines that are asked over a network, put together: an asker for each protocol, a client, a breaker, a deadline.

Called from assembly_policy.py. The rule it keeps: each engine has connections of its own, to the one configured
address, with the credential configured for it; what is heavy is imported only where it is configured.
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from gateway import config
from gateway.assembly_candidates import inner_engines
from gateway.core.breaking import BreakerSettings, State
from gateway.core.exchange import Header
from gateway.core.ports import DecisionPoint
from gateway.core.snapshot import Timeouts, Upstream, UpstreamTls
from gateway.pdp.authzen import AuthzenAsker, AuthzenSettings
from gateway.pdp.opa import OpaAsker
from gateway.pdp.over_http import Site
from gateway.pdp.remote import Asker, RemoteEngine, RemoteSettings
from gateway.wire.dial import tls_context
from gateway.wire.http1 import Http1Client, PoolLimits

# As many as decisions can wait for at once; more only queue in the engine.
_POOL = PoolLimits(connections=256, idle=64, waiters=1024)
_LEAST_SECONDS = 1.0  # the engine's deadline comes first: the client's own need not be looked at often


def remote_engine(settings: config.Policy, obligations: frozenset[str]) -> RemoteEngine:
    """Asks nothing yet; may run in a thread. Raises OSError, SSLError for TLS files, RuntimeError where an extra is not
    installed."""
    return RemoteEngine(
        _asker(settings),
        RemoteSettings(
            revision=_revision(settings),
            deadline_s=settings.timeout,
            obligations=obligations,
            breaker=BreakerSettings(settings.breaker.failures, settings.breaker.open),
        ),
    )


_STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}


def breakers(engine: DecisionPoint) -> dict[str, float]:
    """The state of each breaker before an engine in force or beside it, by the engine's name; the worse of two."""
    found: dict[str, float] = {}
    for inner in inner_engines(engine):
        for name, number in breakers(inner).items():
            found[name] = max(number, found.get(name, 0.0))
    if isinstance(engine, RemoteEngine):
        found[f"policy {engine.name}"] = _STATES[engine.breaker()]
    return found


def _asker(settings: config.Policy) -> Asker:
    if settings.engine == "opa":
        return OpaAsker(_site(settings), settings.query)
    if settings.engine == "authzen":
        found = settings.authzen or config.AuthzenKeys()
        own = AuthzenSettings(settings.url, discovery=found.discovery, cerbos=found.dialect == "cerbos")
        return AuthzenAsker(_site(settings), own, time.monotonic)
    return _cerbos(settings)


def _site(settings: config.Policy) -> Site:
    parts = urlsplit(settings.url)
    local = parts.scheme == "unix"
    seconds = max(_LEAST_SECONDS, settings.timeout)
    tls = settings.tls or config.EngineTls()
    upstream = Upstream(
        name="policy",
        protocol="http",
        scheme="http" if local else parts.scheme,
        host="localhost" if local else parts.hostname or "",
        port=80 if local else parts.port or (443 if parts.scheme == "https" else 80),
        authority="localhost" if local else parts.netloc,
        path="" if local else parts.path,
        timeouts=Timeouts(connect=seconds, response=seconds, idle=seconds),
        tls=UpstreamTls(
            ca=str(tls.ca) if tls.ca else None,
            cert=str(tls.cert) if tls.cert else None,
            key=str(tls.key) if tls.key else None,
            server_name=tls.server_name,
        ),
        socket=parts.path if local else "",
    )
    headers: tuple[Header, ...] = ()
    if settings.token is not None:
        headers = ((b"authorization", f"Bearer {settings.token.reveal()}".encode()),)
    client = Http1Client(upstream, tls_context(upstream, ["http/1.1"]), _POOL)
    return Site(client, upstream.authority, upstream.path, headers)


def _cerbos(settings: config.Policy) -> Asker:
    try:
        from gateway.pdp.cerbos import CerbosAsker, CerbosSettings, CerbosTls
    except ImportError:
        raise RuntimeError("policy.engine is cerbos: install tollgate[cerbos]") from None
    parts = urlsplit(settings.url)
    found = settings.cerbos or config.CerbosKeys()
    pem = settings.tls or config.EngineTls()
    tls = None
    if parts.scheme == "https":
        tls = CerbosTls(_bytes(pem.ca), _bytes(pem.cert), _bytes(pem.key), pem.server_name)
    return CerbosAsker(
        CerbosSettings(
            target=settings.url if parts.scheme == "unix" else _host_and_port(settings.url),
            policy_version=found.policy_version,
            scope=found.scope,
            jwt=found.jwt is not None,
            key_set=found.jwt.key_set if found.jwt is not None else "",
            tls=tls,
        )
    )


def _host_and_port(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _bytes(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


def _revision(settings: config.Policy) -> str:
    """What is asked, where an answer names no revision of its own."""
    if settings.engine == "opa":
        return f"{settings.url} {settings.query}"
    found = settings.cerbos
    if settings.engine == "cerbos" and found is not None and (found.policy_version or found.scope):
        return f"{settings.url} {found.policy_version or 'default'} {found.scope}".rstrip()
    return settings.url
