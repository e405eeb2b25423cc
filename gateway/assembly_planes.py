"""The two planes as listeners: whom they admit, with which limits and TLS, and what the admin plane can show.

What happens to a request is app.py's (`build_pipeline`); this file takes the finished application of each plane and
gives it a door. It starts nothing, and knows no policy: it only reads the configuration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from gateway import __version__, config
from gateway.assembly import LOOPBACK_HOSTS
from gateway.assembly_candidates import deciding, shadow_gauges
from gateway.assembly_engines import breakers
from gateway.assembly_replay_jobs import ChildReplays, newest_of
from gateway.assembly_trust import Descriptors
from gateway.assembly_upstreams import Upkeep
from gateway.assembly_usage import RunningAccounts
from gateway.control.access import Access, TokenRefused, checked, token_from
from gateway.control.acts import Acts
from gateway.control.agents import Agents
from gateway.control.app import Admin, make_admin
from gateway.control.asking import Asking
from gateway.control.budgets import Budgets
from gateway.control.bundles import Bundles
from gateway.control.fleet import Fleet
from gateway.control.guard import Door
from gateway.control.keys import Keys
from gateway.control.questions import Questions
from gateway.control.recent import Recent
from gateway.control.replay import Replays
from gateway.control.shadow import Shadows
from gateway.control.upstreams import Upstreams
from gateway.control.usage import Usage
from gateway.core.attempts import UpstreamDesk
from gateway.core.bundles import BundleDesk
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.own_keys import OwnKeys
from gateway.core.ports import Clock
from gateway.core.snapshot import Snapshot
from gateway.core.why import Whys
from gateway.log.entries import EntryReader
from gateway.log.noise import Noise
from gateway.log.remote import RemoteLog
from gateway.log.writer import Sequencer
from gateway.pdp.shadow import Comparisons
from gateway.stores.records import RecordIndex
from gateway.stores.usage import UsageBook
from gateway.telemetry import Gauge, Metrics
from gateway.telemetry_traces import Traces, otlp_exporter
from gateway.wire.asgi import Gateway
from gateway.wire.server import Front, FrontLimits, server_tls
from gateway.wire.upstream import Clients


def data_plane(
    gateway: Gateway,
    settings: config.Settings,
    events: Noise,
    clock: Clock,
    share: int,
    sockets: Sequence[socket.socket],
) -> Front:
    """One of `share` that listen together, on `sockets` where it does not open the port itself. Raises CannotListen for
    TLS files that cannot be used."""
    tls = settings.tls
    return Front(
        gateway,
        host=settings.listen.host,
        port=settings.listen.port,
        limits=_limits(settings, share),
        events=events,
        clock=clock,
        tls=server_tls(str(tls.cert), str(tls.key), str(tls.client_ca) if tls.client_ca else None) if tls else None,
        ws_message_bytes=settings.front.judged_body_bytes,
        sockets=sockets,
    )


def admin_plane(
    settings: config.Settings,
    *,
    access: Access,
    snapshot: Callable[[], Snapshot],
    ready: Callable[[], list[str]],
    status: Callable[[], dict[str, Json]],
    records: RecordIndex,
    descriptors: Descriptors,
    keys: OwnKeys,
    shadows: Shadows,
    replays: ChildReplays,
    desk: BundleDesk,
    accounts: RunningAccounts,
    book: UsageBook,
    upstreams: UpstreamDesk,
    whys: Whys,
    recent: Recent,
    metrics: Metrics,
    log: Sequencer,
    events: Noise,
    ids: Ids,
    clock: Clock,
) -> Front:
    """Raises CannotListen for TLS files that cannot be used."""
    admin = settings.admin
    public_url = admin.public_url or f"http://{admin.listen}"
    hosts = LOOPBACK_HOSTS if admin.listen.loopback else frozenset()
    name = urlsplit(public_url).hostname or ""
    acts = Acts(log, ids, clock)
    plane = Admin(
        door=Door(public_url, hosts | {f"[{name}]" if ":" in name else name}, admin.metrics == "open"),
        access=access,
        snapshot=snapshot,
        ready=ready,
        status=status,
        records=records,
        metrics=metrics.expose,
        log=log,
        log_folder=settings.data_dir / "log",
        agents=Agents(descriptors.registry, descriptors.registry, descriptors.pins, snapshot, acts),
        keys=Keys(keys),
        shadows=shadows,
        replays=Replays(replays, newest_of(desk.store), acts),
        asking=Asking(Questions(snapshot, acts, clock), whys, recent, public_url),
        bundles=Bundles(desk),
        fleet=Fleet(desk, acts.record, clock),
        budgets=Budgets(accounts, book, acts, ids, clock),
        usage=Usage(book),
        upstreams=Upstreams(upstreams, snapshot, acts),
        ids=ids,
        clock=clock,
        version=__version__,
    )
    return _admin_front(settings, plane, events)


def _admin_front(settings: config.Settings, plane: Admin, events: Noise) -> Front:
    listen, tls = settings.admin.listen, settings.tls
    return Front(
        make_admin(plane),
        host=listen.host,
        port=listen.port,
        limits=FrontLimits(),
        events=events,
        clock=plane.clock,
        tls=server_tls(str(tls.cert), str(tls.key)) if tls and not listen.loopback else None,
    )


def record_index(data_dir: Path, committed: Callable[[], int]) -> RecordIndex:
    """The index over the log of this data directory. `committed`: how many records there are by now."""
    return RecordIndex(data_dir / "records.sqlite", EntryReader(data_dir / "log"), committed)


def usage_book(data_dir: Path, clock: Clock, committed: Callable[[], int]) -> UsageBook:
    """The book of usage over the log of this data directory; `committed` as for the index."""
    return UsageBook(data_dir / "usage.sqlite", EntryReader(data_dir / "log"), clock, committed)


def telling(*listeners: Callable[[list[tuple[int, bytes]]], None]) -> Callable[[list[tuple[int, bytes]]], None]:
    """The log's one listener, who tells all of them; each only queues."""

    def told(entries: list[tuple[int, bytes]]) -> None:
        for listener in listeners:
            listener(entries)

    return told


def admin_access(settings: config.Admin, clock: Clock) -> Access:
    """The token from its file (made when it is not there) or from where the configuration says. Raises TokenRefused."""
    fleet = settings.fleet_token
    known = _token(settings.token)
    if fleet is not None and _token(fleet) == known:
        raise TokenRefused("admin.fleet_token is the admin token: every OPA could do what an administrator does")
    return Access(known, clock, fleet_token=_token(fleet) if fleet is not None else None)


def _token(found: config.Secret) -> str:
    return token_from(found.file) if found.file is not None else checked(found.reveal(), found.source)


def traces(settings: config.Settings, node: str, clock: Clock) -> Traces | None:
    otlp = settings.telemetry.otlp
    return Traces(clock, otlp_exporter(otlp.endpoint), node, otlp.sample) if otlp is not None else None


class Gauges:
    """What is read off the running parts when somebody asks for metrics."""

    def __init__(
        self,
        log: Callable[[], Sequencer | RemoteLog],
        snapshot: Callable[[], Snapshot],
        clients: Callable[[], Clients],
        upkeep: Upkeep,
        comparisons: Comparisons,
    ) -> None:
        self._log = log
        self._snapshot = snapshot
        self._clients = clients
        self._upkeep = upkeep
        self._comparisons = comparisons

    def all(self) -> list[Gauge]:
        return [
            Gauge("tollgate_log_unsequenced_records", "Records submitted and not yet durable.", (), self._unsequenced),
            Gauge("tollgate_bundle_info", "The policy in force.", ("revision",), self._bundle),
            Gauge("tollgate_breaker_state", "0 closed, 1 half-open, 2 open.", ("breaker", "upstream"), self._breakers),
            *self._upkeep.gauges(),
            *shadow_gauges(self._comparisons),
            Gauge("tollgate_upstream_inflight", "Connections in use by upstream.", ("upstream",), self._inflight),
        ]

    def _unsequenced(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(self._log().unsequenced))]

    def _breakers(self) -> Iterable[tuple[tuple[str, ...], float]]:
        found = breakers(self._snapshot().engine)
        return [*(((name, ""), number) for name, number in found.items()), *self._upkeep.states()]

    def _bundle(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((engine.revision,), 1.0) for engine in deciding(self._snapshot().engine)]

    def _inflight(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(count)) for name, count in self._clients().in_flight().items()]


def _limits(settings: config.Settings, share: int) -> FrontLimits:
    """What a listener admits of all; connections reach each of several alike."""
    front = settings.front
    return FrontLimits(
        header_bytes=front.header_bytes,
        headers=front.headers,
        body_bytes=front.body_bytes,
        head_timeout=front.head_timeout,
        body_timeout=front.body_timeout,
        keepalive=front.keepalive,
        half_open_per_peer=front.half_open_per_peer,  # the kernel may give one worker most of a peer's connections
        connections=-(-front.connections // share),
        exchanges=-(-front.exchanges // share),
        trusted_proxies=settings.trusted_proxies,
    )
