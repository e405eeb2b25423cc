"""The upstreams' clients: one for each address of an upstream, shared by all snapshots that mean the same one
(`UpstreamTargets`).

The rule it keeps: a pool survives a reload exactly when nothing about its upstream changed. Any other is retired: what
is under way on it ends as it may, nothing new is kept open. Contexts and certificates are read in `make`, so that a bad
file refuses the new configuration and touches nothing of the running one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol as Port
from typing import TypeAlias

from gateway.core.ports import HttpClient
from gateway.core.snapshot import Upstream
from gateway.wire.dial import tls_context
from gateway.wire.http1 import Http1Client, PoolLimits


class Pooled(HttpClient, Port):
    """What this file needs of a client besides the port."""

    @property
    def in_flight(self) -> int: ...

    def retire(self) -> None: ...


@dataclass(slots=True)
class _Target:
    """`upstream` is replaced by its equal at a reload: comparing by identity is what the hot path can afford."""

    upstream: Upstream
    client: Pooled
    tls: ssl.SSLContext | None  # for WebSockets: these speak HTTP/1.1 whatever the route's `http` says


_Key: TypeAlias = tuple[str, str]  # the upstream's name, and the authority of one of its addresses
Targets: TypeAlias = Mapping[_Key, _Target]


class Clients:
    def __init__(self, limits: PoolLimits | None = None) -> None:
        self._limits = limits or PoolLimits()
        self._targets: dict[_Key, _Target] = {}
        self._retired: list[_Target] = []

    def make(self, upstreams: Iterable[Upstream]) -> Targets:
        """Clients for these, the running ones where nothing changed. May run in a thread. Raises OSError or SSLError
        for a TLS file, RuntimeError where an upstream asks for HTTP/2 and the extra is not installed, ValueError for a
        host that is none; nothing has changed, then or otherwise."""
        targets: dict[_Key, _Target] = {}
        for upstream in _addresses(upstreams):
            key = (upstream.name, upstream.authority)
            old = self._targets.get(key)
            targets[key] = old if old is not None and old.upstream == upstream else self._made(upstream)
        return targets

    def adopt(self, upstreams: Iterable[Upstream], targets: Targets | None = None) -> None:
        """Makes these the current ones, with what `make` gave for them. Raises what `make` does where it was not."""
        upstreams = tuple(upstreams)
        made = dict(targets if targets is not None else self.make(upstreams))
        self._retired = [target for target in self._retired if target.client.in_flight]
        for name, target in self._targets.items():
            if made.get(name) is not target:
                target.client.retire()
                self._retired.append(target)
        for upstream in _addresses(upstreams):
            made[upstream.name, upstream.authority].upstream = upstream
        self._targets = made

    def client(self, upstream: Upstream) -> HttpClient:
        return self._target(upstream).client

    def tls(self, upstream: Upstream) -> ssl.SSLContext | None:
        return self._target(upstream).tls

    def in_flight(self) -> dict[str, int]:
        """Connections in use by upstream, for metrics."""
        found: dict[str, int] = {}
        for (name, _), target in self._targets.items():
            found[name] = found.get(name, 0) + target.client.in_flight
        return found

    async def aclose(self) -> None:
        for target in (*self._targets.values(), *self._retired):
            await target.client.aclose()

    def _target(self, upstream: Upstream) -> _Target:
        target = self._targets.get((upstream.name, upstream.authority))
        if target is not None and (target.upstream is upstream or target.upstream == upstream):
            return target
        for target in self._retired:  # an exchange that pinned an older snapshot
            if target.upstream == upstream:
                return target
        target = self._made(upstream)
        target.client.retire()
        self._retired.append(target)
        return target

    def _made(self, upstream: Upstream) -> _Target:
        tls = tls_context(upstream, ["http/1.1"])
        if upstream.http != "2":
            return _Target(upstream, Http1Client(upstream, tls, self._limits), tls)
        try:
            from gateway.wire.http2 import Http2Client
        except ImportError:
            raise RuntimeError(f"upstream {upstream.name} asks for HTTP/2: install tollgate[http2]") from None
        return _Target(upstream, Http2Client(upstream, tls_context(upstream, ["h2"]), self._limits), tls)


def _addresses(upstreams: Iterable[Upstream]) -> Iterator[Upstream]:
    """Each at each of its addresses; an upstream that has several is the first of them itself."""
    for upstream in upstreams:
        yield from upstream.members or (upstream,)
