"""The sections of the configuration file: every key with its type, its default and why it is there.

A section is a frozen dataclass; from its fields come the strict reader, the JSON Schema and config/gateway.yaml, so a
key that is written here is read, described and shown. The rule: a default is the strict choice, and a key of a later
version stands in LATER, where it is refused by name.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import ClassVar, Literal

from gateway import config_values as values
from gateway.config_audit import AUDIT, CAPTURES, Audit
from gateway.config_breakers import BALANCE, BREAKER, RETRIES, Balance, Breaker, Retries
from gateway.config_budgets import BUDGETS, LIMITS, Budget, Limit
from gateway.config_callers import DESCRIPTORS, DPOP, SIGNATURES, CallerDescriptor, Dpop, Signature
from gateway.config_cards import CARD, Card
from gateway.config_counters import COUNTERS, Counters
from gateway.config_credentials import Credentials, credentials_wrong
from gateway.config_descriptors import Tools
from gateway.config_keys import Keys, Vault
from gateway.config_keysets import JWKS, SIGNERS, Jwks, Signer
from gateway.config_policy import POLICY, Policy
from gateway.config_schema import Choice, Either, Flag, ListOf, MapOf, Of, OrNone, Text, Whole, option
from gateway.config_secrets import SecretRef
from gateway.config_usage import ALERTS, USAGE, Alerts, Usage
from gateway.config_values import Address, Secret

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_SIZE = Text("a size like 64KiB or 4MiB", values.SIZE, values.parse_size)
_PERCENT = Text("a share like 1% or 0.5%", values.PERCENT, values.parse_percent)
_NAME = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)
_ADDRESS = Text("an address like 127.0.0.1:8080 or [::1]:8080", parse=values.parse_address)
_HOST = Text("a host name without port", parse=values.parse_host)
_URL = Text("an http or https URL", parse=values.parse_url)
_BASE_URL = Text("an http or https URL that does not end with a slash", parse=values.parse_base_url)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)
_CLAIM = Text("a claim like roles or a path like realm_access.roles", values.CLAIM, values.parse_claim)
_WORD = Text("a text", r"[^\x00-\x1f]{1,1024}")
_SCOPES = ListOf(Text("a scope: visible characters, no quote, no backslash", r"[\x21\x23-\x5b\x5d-\x7e]{1,256}"))


def _one_of(*names: str) -> str:
    return f"exactly one of {', '.join(names)} is needed here"


@dataclass(frozen=True, slots=True)
class Shed:
    """Only where a route's priority is not normal: whom overload turns away first."""

    sheddable: float = option(_PERCENT, 0.5, "of front.exchanges, open: then sheddable calls are 503", shown="50%")
    normal: float = option(_PERCENT, 0.9, "likewise normal ones: the rest is for critical ones", shown="90%")
    late: float = option(_DURATION, 0.1, "the loop is so late: sheddable are 503; four times it: normal", shown="100ms")


@dataclass(frozen=True, slots=True)
class Front:
    """Caps of the data plane's listener; sizes in bytes, times in seconds."""

    header_bytes: int = option(_SIZE, 32 * 1024, "a request head above it is 431", shown="32KiB")
    headers: int = option(Whole(1, 10_000), 100, "more header lines are 431", shown="100")
    body_bytes: int = option(_SIZE, 64 * 1024**2, "a larger request body is 413", shown="64MiB")
    judged_body_bytes: int = option(_SIZE, 4 * 1024**2, "the same where policy reads the body", shown="4MiB")
    head_timeout: float = option(_DURATION, 10.0, "a head must be complete by then: slowloris", shown="10s")
    body_timeout: float = option(_DURATION, 60.0, "longest silence within a request body", shown="60s")
    keepalive: float = option(_DURATION, 75.0, "an idle connection is closed after it", shown="75s")
    half_open_per_peer: int = option(Whole(1, 100_000), 64, "connections of one peer without a whole head", shown="64")
    connections: int = option(Whole(1, 1_000_000), 4096, "open connections; more are refused", shown="4096")
    exchanges: int = option(Whole(1, 1_000_000), 1024, "exchanges at the same time; more are 503", shown="1024")
    shed: Shed = option(Of(Shed), Shed(), "before that, by the priority of routes")


@dataclass(frozen=True, slots=True)
class Otlp:
    endpoint: str = option(_URL, why="an OTLP/HTTP collector's base URL", shown="http://127.0.0.1:4318")
    sample: float = option(_PERCENT, 0.01, "share of traces kept, chosen by their trace id", shown="1%")


@dataclass(frozen=True, slots=True)
class Telemetry:
    level: str = option(Choice(("debug", "info", "warning", "error")), "info", "least level of log lines", shown="info")
    otlp: Otlp | None = option(Of(Otlp), None, "traces go there; without it none are made")


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address = option(_ADDRESS, Address("127.0.0.1", 8081), "the admin plane", shown="127.0.0.1:8081")
    token: Secret = option(
        SecretRef(may_lack=True),
        Secret("file var/admin.token", Path("var/admin.token")),
        "the bearer token; the file is made, 0600, when it is not there",
        shown="{file: var/admin.token}",
    )
    public_url: str = option(
        _BASE_URL, "", "what browsers use; default http://<listen>", example="https://admin.gw.example"
    )
    fleet_token: Secret | None = option(
        SecretRef(may_lack=True),
        None,
        "OPAs fetch bundles and report with it, nothing else; made as token is",
        example="{file: var/fleet.token}",
    )
    metrics: str = option(Choice(("token", "open")), "token", "open: /metrics needs no token", shown="token")


@dataclass(frozen=True, slots=True)
class Tls:
    cert: Path = option(_PATH, why="PEM chain of the listeners", shown="/etc/tollgate/tls.crt")
    key: Path = option(_PATH, why="its PEM private key", shown="/etc/tollgate/tls.key")
    client_ca: Path | None = option(
        _PATH, None, "callers must show a certificate of this CA", example="/etc/tollgate/clients.pem"
    )


@dataclass(frozen=True, slots=True)
class Stores:
    counters: Counters | Literal["memory"] = option(
        COUNTERS, "memory", "where limits and budgets are counted; or redis://host", shown="memory"
    )
    records: str = option(Choice(("sqlite",), ("postgresql",)), "sqlite", "index of records; sessions", shown="sqlite")


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a value comes from: the claim of that name or path, limited to `of`; or `const`, fixed for the issuer."""

    claim: str | None = option(_CLAIM, None)
    const: str | None = option(_WORD, None)
    of: tuple[str, ...] | None = option(ListOf(_WORD, 1), None)


def _claim_wrong(found: Claim) -> str:
    if (found.claim is None) == (found.const is None):
        return _one_of("claim", "const")
    return "of belongs to claim" if found.of is not None and found.claim is None else ""


def _from_claim(text: str) -> Claim:
    return Claim(claim=values.parse_claim(text))


_MAPPED = Either(Text(_CLAIM.says, _CLAIM.pattern, _from_claim), Of(Claim, _claim_wrong))
ALGORITHMS = ("EdDSA", "Ed25519", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may say who a caller is. `org`, `team` and `roles` count only as mapped here."""

    name: str = option(_NAME, why="its part of subject.id", shown="idp")
    issuer: str = option(_WORD, why="the iss of its tokens, compared exactly", shown="https://idp.example")
    audience: tuple[str, ...] = option(
        Either(Text("an audience", _WORD.pattern, lambda text: (text,)), ListOf(_WORD, 1)),  # type: ignore[arg-type]
        why="the aud that means this gateway, one or a list",
        shown="tollgate",
    )
    jwks: Jwks = option(JWKS, why="its keys: exactly one of url and file")
    algorithms: tuple[str, ...] = option(
        ListOf(Choice(ALGORITHMS), 1), ("EdDSA", "ES256", "RS256"), "accepted ones", shown="[EdDSA, ES256, RS256]"
    )
    subject: str = option(_CLAIM, "sub", "the claim that names the caller", shown="sub")
    org: Claim | None = option(
        _MAPPED, Claim(claim="org"), "a claim, {const: acme} or {claim: org, of: [acme]}", shown="org"
    )
    team: Claim | None = option(_MAPPED, None, "the same, for the team within the org", example="team")
    roles: Claim | None = option(
        _MAPPED, Claim(claim="roles"), "the same; realm_access.roles descends, a dot in a name is \\.", shown="roles"
    )
    agent: str = option(_CLAIM, "client_id", "the claim that names the agent's software", shown="client_id")


@dataclass(frozen=True, slots=True)
class ApiKeys:
    file: Path = option(
        _PATH, why="YAML list of {id, sha256, subject, ...}, read again on reload", shown="config/keys.yaml"
    )


@dataclass(frozen=True, slots=True)
class Fetch:
    """What the gateway may fetch on its own, beyond https on port 443 of public addresses."""

    allow: tuple[str, ...] = option(
        ListOf(Text("an origin, a host, an address or a block", parse=values.parse_fetchable)),
        (),
        "origins, hosts, addresses, blocks; this file's own URLs need none",
        shown="[]",
    )
    ca: Path | None = option(_PATH, None, "PEM to believe instead of the system's", example="/etc/tollgate/ca.pem")


@dataclass(frozen=True, slots=True)
class Trust:
    issuers: tuple[Issuer, ...] = option(ListOf(Of(Issuer)), (), "who may say who a caller is", example="idp")
    api_keys: ApiKeys | None = option(Of(ApiKeys), None, "hashed keys; gone from the file is revoked")
    signatures: tuple[Signature, ...] = option(SIGNATURES, (), "callers who sign their requests", example="partners")
    dpop: Dpop = option(DPOP, Dpop(), "proofs for tokens that are bound to a key")
    signers: tuple[Signer, ...] = option(SIGNERS, (), "who may sign cards, manifests, descriptors", example="acme")
    descriptors: tuple[CallerDescriptor, ...] = option(
        DESCRIPTORS, (), "what callers may name as their descriptor", example="planner"
    )
    fetch: Fetch = option(Of(Fetch), Fetch(), "what may be fetched: keys, cards, metadata, webhooks")


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    ca: Path | None = option(_PATH, None, "PEM of its CA; default the system's", example="/etc/tollgate/ca.pem")
    cert: Path | None = option(_PATH, None, "our client certificate", example="/etc/tollgate/client.crt")
    key: Path | None = option(_PATH, None, "its private key", example="/etc/tollgate/client.key")
    server_name: str | None = option(_HOST, None, "name its certificate must carry", example="weather.internal")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None is no limit."""

    connect: float = option(_DURATION, 2.0, "per attempt", shown="2s")
    response: float = option(_DURATION, 30.0, "until the head of the answer", shown="30s")
    idle: float = option(_DURATION, 300.0, "between two pieces of a body", shown="5m")
    stream_idle: float | None = option(OrNone(_DURATION), None, "the same for SSE and WebSocket", shown="none")


PROTOCOLS = ("mcp", "a2a", "openai", "anthropic", "http")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Exactly one of `url` and `urls`; with `urls`, `url` is the first of them once the file was read."""

    url: str = option(
        _BASE_URL, "", "where calls go; the rest of the caller's path is appended", shown="http://127.0.0.1:9001/mcp"
    )
    urls: tuple[str, ...] = option(
        ListOf(_BASE_URL, 1),
        (),
        "instead: several addresses of one service; they differ in host and port",
        example="[http://10.0.0.1:9001/mcp, http://10.0.0.2:9001/mcp]",
    )
    protocol: str = option(
        Choice(PROTOCOLS), why="mcp, a2a, openai, anthropic or http (plain, SSE, WebSocket)", shown="mcp"
    )
    http: str = option(Choice(("1.1", "2")), "1.1", "HTTP version spoken to it, in quotes", shown='"1.1"')
    tls: UpstreamTls | None = option(Of(UpstreamTls), None, "for https upstreams")
    timeouts: Timeouts = option(Of(Timeouts), Timeouts(), "each ends in 502 or 504 and a record")
    retries: Retries | None = option(RETRIES, None, "what is sent again before a caller hears of it")
    breaker: Breaker | None = option(BREAKER, None, "while it fails nobody waits for it: 503 at once")
    balance: Balance | None = option(BALANCE, None, "how calls are spread over urls")
    credentials: Credentials | None = option(
        Of(Credentials, credentials_wrong), None, "ours to it, exactly one way; the caller's never reaches it"
    )
    auth: str = option(
        Choice(("gateway", "transparent")),
        "gateway",
        "transparent: it asks callers itself, their Authorization goes on to it",
        shown="gateway",
    )
    resource: str = option(
        _URL, "", "transparent: what it calls itself, where that is not url", example="https://weather.example/mcp"
    )
    on_client_gone: str = option(
        Choice(("cancel", "drain")),
        "cancel",
        "drain: an answer whose caller left is read on for its usage",
        shown="cancel",
    )
    drain_bytes: int = option(_SIZE, 1024**2, "drain: at most so much of it", shown="1MiB")
    drain_for: float = option(_DURATION, 30.0, "drain: at most so long", shown="30s")
    card: Card | None = option(CARD, None, "a2a: its agent card is fetched, verified and kept")
    tools: Tools = option(Of(Tools), Tools(), "mcp: which of its tools are shown and reached")


@dataclass(frozen=True, slots=True)
class Match:
    path: str = option(
        Text("a path like /weather", values.PATH, values.parse_path), "", "longest wins", shown="/weather"
    )
    host: str = option(_HOST, "", "only for this Host; without a path the path is kept", example="tools.example")


@dataclass(frozen=True, slots=True)
class Route:
    name: str = option(_NAME, why="what records, limits and metrics call it", shown="weather")
    match: Match = option(Of(Match), why="path, host, or both")
    upstream: str = option(_NAME, why="a name under upstreams", shown="weather")
    auth: str = option(
        Choice(("required", "anonymous")), "required", "anonymous: callers need no credential", shown="required"
    )
    body: str = option(Choice(("json", "opaque")), "", "json: read by policy; opaque: streamed unseen", example="json")
    cookies: str = option(Choice(("strip", "pass")), "strip", "whether the upstream sees them", shown="strip")
    on_error: str = option(
        Choice(("deny", "allow")), "deny", "allow: passes while the engine fails; counted and recorded", shown="deny"
    )
    deny_as: str = option(
        Choice(("error", "hidden", "tool_error")), "error", "hidden: mcp, a2a; tool_error: mcp", shown="error"
    )
    audit: str = option(
        Choice(("strict", "standard")), "strict", "strict: the intent is on disk before forwarding", shown="strict"
    )
    priority: str = option(
        Choice(("critical", "normal", "sheddable")), "normal", "who goes first when there is too much", shown="normal"
    )
    capture: str | None = option(
        CAPTURES, None, "none, shape or full on this route; default audit.capture", example="shape"
    )
    include_usage: str = option(
        Choice(("as_asked", "inject")),
        "as_asked",
        "inject: openai: chat streams are asked for their usage",
        shown="as_asked",
    )
    scopes: tuple[str, ...] = option(_SCOPES, (), "scopes that every caller's credential must have", shown="[]")
    descriptor: str = option(
        Choice(("optional", "required")), "optional", "required: callers must present their own", shown="optional"
    )
    action_scopes: Mapping[str, tuple[str, ...]] = option(
        MapOf(_SCOPES, r"[a-z0-9]+\.[A-Za-z0-9/._-]{1,128}", "an action as records name it, like mcp.tools/call"),
        {},
        "what an action needs besides",
        example="{mcp.tools/call: [weather.call]}",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of it. `node` None: the name in `<data_dir>/log/origin`, at the first start the host's."""

    LATER: ClassVar[Mapping[str, str]] = {
        "sso": "single sign-on is",
    }

    node: str | None = option(
        _NAME, None, "log origin and metrics label; default the host's name, fixed at the first start", example="gw-1"
    )
    listen: Address = option(_ADDRESS, Address("127.0.0.1", 8080), "the data plane", shown="127.0.0.1:8080")
    public_url: str = option(
        _BASE_URL,
        "",
        "what callers use; default http://<listen>, required beyond loopback",
        example="https://gw.example",
    )
    hosts: tuple[str, ...] = option(ListOf(_HOST), (), "further names accepted in Host", shown="[]")
    origins: tuple[str, ...] = option(
        ListOf(Text("an origin like https://app.example", parse=values.parse_origin)),
        (),
        "browser origins allowed",
        shown="[]",
    )
    data_dir: Path = option(_PATH, Path("var"), "log, keys, index; a local disk", shown="var")
    drain: float = option(_DURATION, 30.0, "how long open exchanges may finish on SIGTERM", shown="30s")
    front: Front = option(Of(Front), Front(), "caps against floods and slow callers")
    telemetry: Telemetry = option(Of(Telemetry), Telemetry(), "log lines and traces")
    admin: Admin = option(Of(Admin), Admin(), "status, records, metrics, the log's files")
    tls: Tls | None = option(Of(Tls), None, "required (or behind_tls_proxy) to listen beyond loopback")
    behind_tls_proxy: bool = option(Flag(), False, "something in front ends TLS", shown="false")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = option(
        ListOf(Text("an address or a block like 10.0.0.0/8", parse=values.parse_network)),
        (),
        "whose Forwarded is believed",
        shown="[]",
    )
    keys: Keys = option(Of(Keys), Keys(), "what the log, cards, manifests and bundles are signed with")
    vault: Vault | None = option(Of(Vault), None, "where {vault: path#field} secrets are, read at each (re)load")
    stores: Stores = option(Of(Stores), Stores(), "where state is kept")
    events: str = option(Choice(("none",), ("nats",)), "none", "no event stream in this version", shown="none")
    trust: Trust = option(Of(Trust), Trust(), "whose word counts")
    policy: Policy = option(POLICY, Policy(), "what is allowed")
    upstreams: Mapping[str, Upstream] = option(
        MapOf(Of(Upstream), values.UPSTREAM_NAME, "lower-case letters, digits and dashes, at most 63"),
        {},
        "where calls go",
    )
    routes: tuple[Route, ...] = option(ListOf(Of(Route)), (), "the ways in")
    limits: tuple[Limit, ...] = option(LIMITS, (), "how often and how many at once")
    budgets: tuple[Budget, ...] = option(BUDGETS, (), "how much, in dollars, tokens, calls, bytes", example="org-month")
    prices: Path | None = option(
        _PATH, None, "the price list, a file of its own, read again when it changes", example="config/prices.yaml"
    )
    audit: Audit = option(AUDIT, Audit(), "the log")
    usage: Usage = option(USAGE, Usage(), "who is told what was used")
    alerts: Alerts | None = option(ALERTS, None, "who is told what went wrong, at once and daily")
