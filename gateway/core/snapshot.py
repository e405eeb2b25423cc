"""Routes, upstreams and the Snapshot: one verified revision of everything, swapped in one assignment.

An exchange pins the Snapshot it began with and never looks at another. Routing is by longest path prefix on segment
borders, host-specific routes first; nothing here decodes, merges or normalises a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.core.attempts import BalanceSettings, RetrySettings

if TYPE_CHECKING:
    from gateway.core.breaking import BreakerSettings
    from gateway.core.descriptors import AgentCards, DescriptorCheck
    from gateway.core.exchange import Head, Header
    from gateway.core.ledger import Ledger, Pricing
    from gateway.core.ports import Authenticator, DecisionPoint, UpstreamCredentials


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect` per attempt, `response` until the response head, `idle` between body bytes, `stream_idle` the
    same for SSE, MCP GET and WebSocket (None: no limit)."""

    connect: float = 2.0
    response: float = 30.0
    idle: float = 300.0
    stream_idle: float | None = None


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where calls go. `path` is the URL's path without a trailing change; `authority` is what Host says upstream.

    `credentials` are headers set on every forwarded request; their values are secrets (never printed: repr is off).
    `source` gives them where they are not fixed; two upstreams that differ in it alone share their connections.
    `transparent`: it asks its callers itself, so their Authorization is for it; `resource` is what it calls itself.
    `on_client_gone`: what becomes of an answer whose caller has left: `cancel` ends it; `drain` reads it on for what it
    says of its usage, at most `drain_bytes` and `drain_for` seconds more.
    `members`: where it has several addresses, the same upstream at each of them, the first of which it is itself.
    """

    name: str
    protocol: str
    scheme: str
    host: str
    port: int
    authority: str
    path: str
    http: str = "1.1"
    timeouts: Timeouts = Timeouts()
    tls: UpstreamTls = UpstreamTls()
    credentials: tuple[Header, ...] = field(default=(), repr=False)
    source: UpstreamCredentials | None = field(default=None, compare=False, repr=False)
    transparent: bool = False
    resource: str = ""
    socket: str = ""  # the path of a socket file to connect to, instead of host and port
    on_client_gone: str = field(default="cancel", compare=False)  # as the next two, nothing of the connections
    drain_bytes: int = field(default=1024 * 1024, compare=False)
    drain_for: float = field(default=30.0, compare=False)
    breaker: BreakerSettings | None = field(default=None, compare=False)
    retries: RetrySettings | None = field(default=None, compare=False)
    balance: BalanceSettings = field(default=BalanceSettings(), compare=False)
    members: tuple[Upstream, ...] = field(default=(), compare=False, repr=False)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def means(self, other: Upstream) -> bool:
        """Whether that is this one, or this one at another of its addresses."""
        return self == other or other in self.members


@dataclass(frozen=True, slots=True)
class Route:
    """One way in. `path` is "" for a route matched by host alone (the transparent form, the path is kept).

    `resource` is the address that callers use, which a token's audience may name (RFC 8707), `metadata` that of its
    RFC 9728 document. `scopes` are needed for every call, `action_scopes` for that action besides. `transparent` is
    the upstream's: `Authorization` is no credential for the gateway.
    """

    name: str
    path: str
    host: str
    upstream: str
    auth: str  # "required" | "anonymous"
    body: str  # "json" | "opaque"
    cookies: str = "strip"
    deny_as: str = "error"
    audit: str = "strict"
    resource: str = ""
    metadata: str = ""
    scopes: tuple[str, ...] = ()
    action_scopes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    transparent: bool = False
    descriptor: str = "optional"  # | "required": of the caller's own
    on_error: str = "deny"  # | "allow": what happens while the policy engine fails
    capture: str = "none"  # | "shape" | "full": what records keep of a decision's input
    include_usage: str = "as_asked"  # | "inject": of chat streams, whose callers do not see it
    priority: str = "normal"  # | "critical" | "sheddable"
    places: int = 0  # open exchanges of the gateway at which this class is turned away; 0: never
    lateness: float = 0.0  # seconds that the loop is late, likewise

    def needs(self, action: str) -> tuple[str, ...]:
        """All scopes of one operation, so that one challenge can name them."""
        more = [scope for name, scopes in self.action_scopes if name == action for scope in scopes]
        return tuple(dict.fromkeys((*self.scopes, *more)))

    def rest(self, path: str) -> str:
        """What of the caller's path goes behind the upstream's: `/weather/x` gives `/x`, `/weather` nothing."""
        return path[len(self.path) :]


# What an exchange stands on before a route is found, so that its refusal has a record like any other.
NO_ROUTE = Route(name="", path="", host="", upstream="", auth="required", body="opaque")
NO_UPSTREAM = Upstream(name="", protocol="http", scheme="http", host="", port=0, authority="", path="")


class RouteTable:
    """Longest path wins, on segment borders; among equal paths the one that names the host."""

    __slots__ = ("_by_host", "_by_name", "_routes")

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = routes
        self._by_name = {route.name: route for route in routes}
        self._by_host: dict[str, list[Route]] = {}
        for route in routes:
            self._by_host.setdefault(route.host.lower(), []).append(route)
        for found in self._by_host.values():
            found.sort(key=lambda route: len(route.path), reverse=True)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def named(self, name: str) -> Route | None:
        return self._by_name.get(name)

    def names(self, host: str) -> bool:
        """Whether a route is bound to this host."""
        return host in self._by_host and host != ""

    def match(self, authority: str, path: str) -> Route | None:
        host = _hostname(authority)
        best = self._longest(self._by_host.get(host), path)
        if host:
            other = self._longest(self._by_host.get(""), path)
            if best is None or (other is not None and len(other.path) > len(best.path)):
                best = other
        return best

    @staticmethod
    def _longest(routes: list[Route] | None, path: str) -> Route | None:
        for route in routes or ():
            prefix = route.path
            if path.startswith(prefix) and (len(path) == len(prefix) or not prefix or path[len(prefix)] == "/"):
                return route
        return None


def _hostname(authority: str) -> str:
    """The host of `host[:port]`, IPv6 in brackets kept."""
    if authority.startswith("["):
        return authority[: authority.find("]") + 1]
    return authority.partition(":")[0]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Snapshot:
    """One revision of routes, upstreams, trust, policy, limits and prices. `revision` names it in activation records.

    Weakly referable, so that its engine can be closed when the last exchange that pinned it is over."""

    revision: str
    routes: RouteTable
    upstreams: Mapping[str, Upstream]
    authenticator: Authenticator
    engine: DecisionPoint
    ledger: Ledger
    prices: Pricing
    public_url: str
    hosts: frozenset[str]  # accepted Host names, lower case, without port
    origins: frozenset[str]  # accepted browser origins besides the gateway's own
    policy_headers: tuple[bytes, ...]  # request headers that policy may see, lower case
    judged_body_bytes: int
    body_bytes: int
    documents: Mapping[tuple[str, str], bytes | Route] = field(
        default_factory=dict
    )  # what the gateway serves, by host and path
    own_origin: str = ""  # of `public_url`, as a browser writes it
    callers: DescriptorCheck | None = None  # of what callers present as their own descriptors
    cards: Mapping[str, AgentCards] = field(default_factory=dict)  # of every a2a upstream, by its name

    def document(self, head: Head) -> bytes | Route | None:
        """The gateway's own JSON at this address, or the route whose upstream has it. A host with routes of its own
        shows only what is its own."""
        if not head.path.startswith("/.well-known/"):
            return None
        host = _hostname(head.authority)
        return self.documents.get((host if self.routes.names(host) else "", head.path))

    def admits_host(self, head: Head) -> bool:
        return _hostname(head.authority) in self.hosts
