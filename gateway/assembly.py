"""From the configuration to a Snapshot: one verified revision of routes, upstreams, trust, policy and limits.

Called at the start and at each reload; whatever is wrong raises here, before anything is swapped. What outlives a
snapshot (key sources, API keys, whoever counts) is in `Assembly`, so that a reload forgets no count and no key. What
takes long, compiling the policy and reading files, is `read`, in a thread while the running snapshot serves; `build`
follows in the event loop and touches no state; `keep` once nothing can refuse the new snapshot any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from gateway import config
from gateway.assembly_callers import CallerMaterials, Callers
from gateway.assembly_candidates import revisions
from gateway.assembly_cards import Cards, trusted_signers
from gateway.assembly_ledger import Ledgers
from gateway.assembly_prices import PriceFile
from gateway.assembly_upstreams import make_upstream
from gateway.core.canonical import Json, digest
from gateway.core.ports import Clock, DecisionPoint, UpstreamCredentials
from gateway.core.snapshot import Route, RouteTable, Snapshot, Upstream
from gateway.identity.apikey import ApiKeys
from gateway.identity.bearer import Bearer, IssuerSettings, Mapped
from gateway.identity.caller import Caller
from gateway.identity.challenge import PROOF_ALGS, WELL_KNOWN, Challenges
from gateway.identity.replays import Memory
from gateway.ledger.prices import PriceTable
from gateway.trust.jose import read_token
from gateway.trust.jwks import FileKeys, KeySources, UrlKeys
from gateway.trust.signers import TrustedSigner

# The request headers that any policy may see; `policy.headers` adds to them (ruling 16).
POLICY_HEADERS = (b"user-agent", b"accept", b"content-type")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Materials:
    """What was read and compiled for a snapshot."""

    engine: DecisionPoint
    upstreams: dict[str, Upstream]
    sources: list[FileKeys | UrlKeys]
    api_keys: ApiKeys | None
    callers: CallerMaterials
    signers: tuple[TrustedSigner, ...]
    prices: PriceFile

    @property
    def watched(self) -> list[FileKeys | UrlKeys]:
        """All key sets that are looked after."""
        used = self.callers.sources
        return [*self.sources, *used, *(signer.source for signer in self.signers if signer.source is not None)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot that is not in force yet, and what it stands on."""

    snapshot: Snapshot
    materials: Materials


class Assembly:
    """Builds snapshots. `engine` makes a decision point from the policy settings; `load_yaml` reads keys strictly;
    `published` is the key set of `/.well-known/jwks.json`; `source` is where an upstream's credentials come from when
    they are not fixed. A worker, one of `share`, has its owner's `memory` of what counts once, and `nonce_key`."""

    def __init__(
        self,
        *,
        clock: Clock,
        sources: KeySources,
        engine: Callable[[config.Policy], DecisionPoint],
        load_yaml: Callable[[bytes], object],
        published: Callable[[], dict[str, Json]],
        source: Callable[[str, config.Credentials | None, config.Vault | None], UpstreamCredentials | None],
        cards: Cards,
        ledgers: Ledgers,
        memory: Memory | None = None,
        nonce_key: bytes = b"",
        share: int = 1,
    ) -> None:
        self._share = share
        self._clock = clock
        self._sources = sources
        self._engine = engine
        self._load_yaml = load_yaml
        self._published = published
        self._source_for = source
        self._cards = cards
        self._ledgers = ledgers
        self.callers = Callers(cards.named, cards.registry, clock, memory=memory, nonce_key=nonce_key)
        self._kept: Materials | None = None

    @property
    def api_keys(self) -> ApiKeys | None:
        """Those of the snapshot in force."""
        return self._kept.api_keys if self._kept is not None else None

    def read(self, settings: config.Settings) -> Materials:
        """May run in a thread: what is in force is looked at only, but for the registry of key sources and the API
        keys, which bear it. One at a time: `build` and `keep`, or `drop`. Raises ApiKeyError, PolicyRefused, OSError:
        each names what is wrong."""
        return Materials(
            engine=self._engine(settings.policy),
            upstreams={
                name: make_upstream(name, found, self._source_for(name, found.credentials, settings.vault))
                for name, found in settings.upstreams.items()
            },
            sources=[self._source(found.jwks) for found in settings.trust.issuers],
            api_keys=self._keys(settings.trust.api_keys),
            callers=self.callers.read(settings, self._source),
            signers=trusted_signers(settings, self._source),
            prices=PriceFile(settings.prices),
        )

    def with_policy(self, settings: config.Settings) -> Materials:
        """Those in force over another policy. As `read`."""
        kept = self._kept or self.read(settings)
        return replace(kept, engine=self._engine(settings.policy))

    def with_prices(self, settings: config.Settings) -> Materials | None:
        """Those in force over the price list as it is now, None where that has not changed. As `read`."""
        kept = self._kept
        if kept is None or not kept.prices.changed():
            return None
        return replace(kept, prices=PriceFile(settings.prices))

    def build(self, settings: config.Settings, port: int, materials: Materials | None = None) -> Candidate:
        """`port` is the data plane's real one (it may have been asked for as 0). Without materials, from those in
        force."""
        materials = materials or self._kept or self.read(settings)
        public_url = settings.public_url or f"http://{config.Address(settings.listen.host, port)}"
        challenges = Challenges(public_url)
        routes = tuple(_route(found, settings, challenges, self._share) for found in settings.routes)
        issuers = list(zip(map(_issuer, settings.trust.issuers), materials.sources, strict=True))
        keys, engine = materials.api_keys, materials.engine
        bearer = Bearer(issuers, read_token, self._clock, [route.resource for route in routes])
        possession = self.callers.possession(settings, materials.callers, challenges, public_url)
        authenticator = Caller(bearer, keys, challenges, self._clock, possession)
        snapshot = Snapshot(
            revision=revision(settings, engine, materials.prices.table),
            routes=RouteTable(routes),
            upstreams=materials.upstreams,
            cards=self._cards.build(settings, materials.upstreams, materials.signers),
            authenticator=authenticator,
            engine=engine,
            ledger=self._ledgers.build(settings),
            prices=materials.prices.table,
            public_url=public_url,
            hosts=_hosts(settings, public_url),
            origins=frozenset(origin(item) for item in settings.origins),
            policy_headers=(*POLICY_HEADERS, *(item.encode() for item in settings.policy.headers)),
            judged_body_bytes=settings.front.judged_body_bytes,
            body_bytes=settings.front.body_bytes,
            documents=self._documents(settings, routes),
            own_origin=origin(public_url),
            callers=self.callers.descriptors(settings, materials.callers, materials.signers),
        )
        return Candidate(snapshot, materials)

    @property
    def signers(self) -> tuple[TrustedSigner, ...]:
        """Those of the snapshot in force."""
        return self._kept.signers if self._kept is not None else ()

    def keep(self, found: Candidate) -> Snapshot:
        """The candidate is in force: what the former one stood on alone is let go."""
        self._kept = found.materials
        self._sources.keep(found.materials.watched)
        self._cards.keep()
        return found.snapshot

    def drop(self) -> None:
        """Nothing came of the last candidate: the running snapshot's keys are the only ones that are looked after."""
        self._sources.keep(self._kept.watched if self._kept is not None else ())

    def _source(self, found: config.Jwks) -> FileKeys | UrlKeys:
        if found.file is not None:
            return self._sources.file(str(found.file))
        return self._sources.url(found.url or "")

    def _keys(self, found: config.ApiKeys | None) -> ApiKeys | None:
        """The running file's keys go on, so that a reload looks at the file once more and forgets nothing."""
        if found is None:
            return None
        if self.api_keys is not None and self.api_keys.path == found.file:
            self.api_keys.poll()
            return self.api_keys
        return ApiKeys(found.file, self._load_yaml, self._clock)

    def _documents(self, settings: config.Settings, routes: tuple[Route, ...]) -> dict[tuple[str, str], bytes | Route]:
        """What the gateway itself serves: its keys, and RFC 9728 metadata for each route that asks for a credential.
        Where the upstream asks for one, the metadata is its own."""
        found: dict[tuple[str, str], bytes | Route] = {}
        found["", "/.well-known/jwks.json"] = json.dumps(self._published()).encode()
        servers = [item.issuer for item in settings.trust.issuers]
        for route in routes:
            if route.auth == "required" and servers:
                found[route.host.lower(), WELL_KNOWN + route.path] = json.dumps(_metadata(route, servers)).encode()
            elif route.transparent:
                found[route.host.lower(), WELL_KNOWN + route.path] = route
        return found


def origin(url: str) -> str:
    """Scheme, host and port of a URL as browsers write them (RFC 6454 section 6.2): the default port is left out."""
    parts = urlsplit(url)
    standard = {"http": 80, "https": 443}
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, standard.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def revision(settings: config.Settings, engine: DecisionPoint, prices: PriceTable) -> str:
    """Names what is in force: the configuration without its secrets, the policy, the price list."""
    listed = [prices.revision] if prices.listed else []
    return digest("\n".join([repr(settings), *revisions(engine), *listed]).encode())


def _route(found: config.Route, settings: config.Settings, challenges: Challenges, share: int) -> Route:
    judged = settings.upstreams[found.upstream].protocol != "http"
    path = "" if found.match.path == "/" else found.match.path
    return Route(
        name=found.name,
        path=path,
        host=found.match.host,
        upstream=found.upstream,
        auth=found.auth,
        body=found.body or ("json" if judged else "opaque"),
        cookies=found.cookies,
        deny_as=found.deny_as,
        audit=found.audit,
        resource=challenges.resource_url(path, found.match.host),
        metadata=challenges.metadata_url(path, found.match.host),
        scopes=found.scopes,
        descriptor=found.descriptor,
        on_error=found.on_error,
        action_scopes=tuple(found.action_scopes.items()),
        transparent=settings.upstreams[found.upstream].auth == "transparent",
        capture=found.capture or settings.audit.capture,
        include_usage=found.include_usage,
        priority=found.priority,
        places=_places(found.priority, settings, share),
        lateness=_lateness(found.priority, settings),
    )


def _places(priority: str, settings: config.Settings, share: int) -> int:
    """What of a front's places a class may fill: the others' are kept for those before it, if there are any."""
    front, every = settings.front, -(-settings.front.exchanges // share)
    if priority == "sheddable":
        return max(1, int(every * front.shed.sheddable))
    critical = any(route.priority == "critical" for route in settings.routes)
    return max(1, int(every * front.shed.normal)) if priority == "normal" and critical else 0


def _lateness(priority: str, settings: config.Settings) -> float:
    late = settings.front.shed.late
    if priority == "sheddable":
        return late
    critical = any(route.priority == "critical" for route in settings.routes)
    return 4 * late if priority == "normal" and critical else 0.0


def _metadata(route: Route, issuers: list[str]) -> dict[str, Json]:
    """RFC 9728 section 2. An issuer that is no URL has no metadata of its own to be found, so it is not named."""
    found: dict[str, Json] = {
        "resource": route.resource,
        "authorization_servers": [name for name in issuers if name.startswith(("https://", "http://"))],
        "bearer_methods_supported": ["header"],
        "resource_name": route.name,
        "dpop_signing_alg_values_supported": [*PROOF_ALGS.split()],
    }
    scopes = dict.fromkeys((*route.scopes, *(scope for _, scopes in route.action_scopes for scope in scopes)))
    if scopes:
        found["scopes_supported"] = list(scopes)
    return found


def _issuer(found: config.Issuer) -> IssuerSettings:
    return IssuerSettings(
        name=found.name,
        issuer=found.issuer,
        audiences=frozenset(found.audience),
        algorithms=frozenset(found.algorithms),
        subject=found.subject,
        org=_mapped(found.org),
        team=_mapped(found.team),
        roles=_mapped(found.roles),
        agent=found.agent,
    )


def _mapped(found: config.Claim | None) -> Mapped | None:
    if found is None:
        return None
    return Mapped(claim=found.claim, const=found.const, of=frozenset(found.of) if found.of is not None else None)


def _hosts(settings: config.Settings, public_url: str) -> frozenset[str]:
    """Names accepted in Host: the public one, listed ones, the routes' own, and loopback's on loopback."""
    parts = urlsplit(public_url)
    name = parts.hostname or ""
    found = {f"[{name}]" if ":" in name else name, *settings.hosts, *(item.match.host for item in settings.routes)}
    if settings.listen.loopback:
        found |= LOOPBACK_HOSTS
    return frozenset(item.lower() for item in found if item)


class NeedsRestart(Exception):
    """A reload changed what only a start can change; `args[0]` names the keys."""


def refuse_cold(running: config.Settings, wanted: config.Settings) -> None:
    """Raises NeedsRestart for keys that are read once (ruling 26)."""
    cold = (
        "listen",
        "data_dir",
        "node",
        "stores",
        "tls",
        "admin",
        "front",
        "telemetry",
        "audit",
        "trusted_proxies",
        "keys",
        "usage",
        "alerts",
    )
    changed = [name for name in cold if getattr(running, name) != getattr(wanted, name)]
    if changed:
        raise NeedsRestart(f"{', '.join(changed)} changed: it needs a restart; nothing of the new file is in force")
