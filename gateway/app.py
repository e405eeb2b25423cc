"""Where the parts are put together, and the only place. `build_pipeline` is the life of a request, in order.

A stage that is not built yet is not in the list. The rest of this file starts and stops what the list stands on: the
log first (nothing is served before it can be written), the data plane last; on the way down the other way round.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from random import SystemRandom

from gateway import config
from gateway.assembly import Assembly
from gateway.assembly_bundles import Desk, Policies, own_name
from gateway.assembly_candidates import Arranging, policy_status, shadows_of, warn_of_report
from gateway.assembly_cards import make_cards
from gateway.assembly_changes import Changes
from gateway.assembly_counters import Counting
from gateway.assembly_crew import Crew, Office
from gateway.assembly_data import DataParts, close_parts, data_front, data_jobs, data_parts, poll_files
from gateway.assembly_keys import Rotation, RunningKeys, make_ring
from gateway.assembly_ledger import Ledgers
from gateway.assembly_life import (
    Job,
    SystemClock,
    begun,
    ended,
    every,
    log_standing,
    log_status,
    open_log,
    recorded_origin,
)
from gateway.assembly_notices import Notices, notice_gauges
from gateway.assembly_planes import Gauges, admin_access, admin_plane, record_index, telling, traces, usage_book
from gateway.assembly_policy import Engines, make_engine
from gateway.assembly_replay_jobs import ChildReplays
from gateway.assembly_trust import Descriptors, configured_key_sets, make_fetcher
from gateway.assembly_upstreams import RunningUpstreams, Upkeep
from gateway.assembly_usage import RunningAccounts
from gateway.assembly_wallet import Wallet, read_yaml
from gateway.assembly_why import PolicyWhys
from gateway.assembly_workers import Begin, SourceBook
from gateway.control.readiness import Readiness
from gateway.core.canonical import Json
from gateway.core.counts import Observers
from gateway.core.drawing import Drawing
from gateway.core.ids import Ids
from gateway.core.ledger import Counters
from gateway.core.pipeline import Pipeline
from gateway.core.ports import Checked, Clock, Handles, Observer, Protocol, RecordLog
from gateway.core.snapshot import Snapshot
from gateway.pdp.shadow import Comparisons
from gateway.protocols.a2a import A2a
from gateway.protocols.http import Http
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm
from gateway.protocols.mcp import Mcp
from gateway.stages.breaker import Breaker
from gateway.stages.capture import CaptureInput
from gateway.stages.credentials import Credentials
from gateway.stages.decide import Decide
from gateway.stages.forward import Forward
from gateway.stages.fulfil import Fulfil
from gateway.stages.identify import Identify
from gateway.stages.ledger import Ledger
from gateway.stages.meter import Meter
from gateway.stages.record import RecordIntent, RecordTerminal
from gateway.stages.scopes import Scopes
from gateway.stages.verify import Verify
from gateway.stores.bundles import SqliteBundles
from gateway.stores.held import HeldBreakers
from gateway.stores.remote import packed as packed_items
from gateway.stores.sqlite import SqliteHandles
from gateway.telemetry import Metrics
from gateway.trust.jwks import KeySources
from gateway.wire.headers import outgoing
from gateway.wire.server import Front
from gateway.wire.sockets import Sockets
from gateway.wire.upstream import Clients


def build_pipeline(
    log: RecordLog,
    capture: CaptureInput,
    clients: Clients,
    upkeep: Upkeep,
    sockets: Sockets,
    handles: Handles,
    descriptors: Descriptors,
    observer: Observer,
    ids: Ids,
    clock: Clock,
) -> Pipeline:
    """What happens to a request."""
    drawing = Drawing()
    return Pipeline(
        admit=(
            Identify(handles),
            Scopes(),
            Verify(descriptors.checks),
            capture,
            Decide(),
            Fulfil(handles),
            Ledger(),
            Breaker(upkeep.breakers),
            Credentials(),
            RecordIntent(log, drawing, ids, clock),
            Forward(clients, sockets.connect, outgoing, upkeep.attempts(handles), clock, "tollgate"),
        ),
        settle=(
            Meter(observer),
            RecordTerminal(log, drawing, ids, clock),
        ),
    )


def build_message_pipeline(
    log: RecordLog, capture: CaptureInput, verify: Verify, fulfil: Fulfil, observer: Observer, ids: Ids, clock: Clock
) -> Pipeline:
    """What happens to a judged WebSocket message: its caller is known, and the relay forwards it."""
    drawing = Drawing()
    return Pipeline(
        admit=(Scopes(), verify, capture, Decide(), fulfil, Ledger(), RecordIntent(log, drawing, ids, clock)),
        settle=(Meter(observer), RecordTerminal(log, drawing, ids, clock)),
    )


def build_protocols(descriptors: Descriptors) -> dict[str, Protocol]:
    return {
        "mcp": Mcp(descriptors.pins),
        "a2a": A2a(),
        "openai": Llm(OPENAI),
        "anthropic": Llm(ANTHROPIC),
        "http": Http(),
    }


def make_front(parts: DataParts) -> Front:
    """The data plane of this process, the gateway's only one or a worker. Raises CannotListen."""

    def pipeline(capture: CaptureInput, sockets: Sockets) -> Pipeline:
        return build_pipeline(
            parts.log, capture, parts.clients, parts.upkeep, sockets, parts.handles, parts.descriptors, parts.observer,
            parts.ids, parts.clock,
        )  # fmt: skip

    def messages(capture: CaptureInput) -> Pipeline:
        verify, fulfil = Verify(parts.descriptors.checks), Fulfil(parts.handles)
        return build_message_pipeline(parts.log, capture, verify, fulfil, parts.observer, parts.ids, parts.clock)

    return data_front(parts, build_protocols(parts.descriptors), pipeline, messages)


class App:
    """One gateway: a data plane, an admin plane, a log. `start`, then `reload` at will, then `stop`.

    `settings.listen.port` may be 0; `port` and `admin_port` are the real ones. The constructor takes the data directory
    (recovering its log) and builds the first snapshot. It raises what its parts raise: each error says what is wrong.
    """

    def __init__(self, settings: config.Settings, *, clock: Clock | None = None, workers: int = 1) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.ids = Ids(self.clock.time)
        self.ring = make_ring(settings, self.clock.time)
        self.node = settings.node or recorded_origin(settings.data_dir) or socket.gethostname()
        self.access = admin_access(settings.admin, self.clock)
        self.comparisons = Comparisons(self.clock.time)
        self.counting = Counting(settings, self.node, self.clock, lambda: log_standing(self.log))
        self.counters: Counters = self.counting.counters
        self.upkeep = Upkeep(lambda: self.log, lambda: self.clients, self.ids, self.clock, SystemRandom().random)
        gauges = Gauges(lambda: self.log, lambda: self.snapshot, lambda: self.clients, self.upkeep, self.comparisons)
        self.metrics = Metrics(
            self.clock, [*gauges.all(), *notice_gauges(lambda: self.notices), *self.counting.gauges()]
        )
        self.traces = traces(settings, self.node, self.clock)
        self._admin: Front | None = None
        self._background: list[asyncio.Task[None]] = []
        self._stopped = False
        self._believe(settings)
        self._record(settings)
        self._reach(settings, workers)

    def _believe(self, settings: config.Settings) -> None:
        """Keys, cards, policy; and the first snapshot."""
        self.fetcher = make_fetcher(settings)
        self.sources = KeySources(configured_key_sets(self.fetcher), self.clock)
        self.wallet = Wallet(self.fetcher, read_yaml, self.clock)
        self.cards = make_cards(
            self.ring, self.fetcher, lambda: self.clients, lambda: self.descriptors.registry, self.clock
        )
        self.bundles = SqliteBundles(settings.data_dir / "bundles.sqlite")
        self.policies = Policies(settings, self.ring, self.bundles, self.clock)
        self.policies_read = SourceBook(self.policies.source)
        self.assembly = Assembly(
            clock=self.clock,
            sources=self.sources,
            engine=Arranging(partial(make_engine, source=self.policies_read), self.comparisons),
            load_yaml=read_yaml,
            published=self.ring.jwks,
            source=self.wallet.source,
            cards=self.cards,
            ledgers=Ledgers(self.counters, self.clock),
        )
        self.whys = PolicyWhys(lambda: self.snapshot)
        self.engines = Engines(self.whys.note)
        self.snapshot: Snapshot = self.assembly.keep(self.assembly.build(settings, settings.listen.port))
        self.policies_read.keep()

    def _record(self, settings: config.Settings) -> None:
        """The log, what follows it, and what is recorded besides exchanges."""
        self.index = record_index(settings.data_dir, lambda: self.log.size + self.log.unsequenced)
        self.book = usage_book(settings.data_dir, self.clock, lambda: self.log.size + self.log.unsequenced)
        self.log = open_log(
            settings, self.ring, self.node, clock=self.clock, ids=self.ids,
            listener=telling(self.index.committed, self.book.committed), observe_append=self.metrics.counts.appended,
        )  # fmt: skip
        self.notices = Notices(
            settings, fetcher=self.fetcher, ring=self.ring, node=self.node, published=self.log.published.size,
            ids=self.ids, clock=self.clock,
        )  # fmt: skip
        self.replays = ChildReplays(settings.data_dir, lambda: [self.log.vkey], self.ids, self.clock)
        self.rotation = Rotation(
            self.ring, self.log, self.node, settings.data_dir / "keys", self.ids, self.clock,
            lambda: self.changes.keys(),
        )  # fmt: skip
        self.desk = Desk(
            self.policies, self.bundles, self.log, self.ids, self.clock,
            lambda: own_name(self.settings),
            lambda source, commit: self.changes.policy(source, commit),
        )  # fmt: skip
        self.accounts = RunningAccounts(lambda: self.settings, lambda: self.snapshot, self.counters, self.clock)

    def _reach(self, settings: config.Settings, workers: int) -> None:
        """Upstreams, sessions, and the door."""
        self.clients = Clients()
        self.clients.adopt(self.snapshot.upstreams.values())
        self.held = HeldBreakers(settings.data_dir / "breakers.json")
        self.upkeep.adopt(self.snapshot.upstreams.values(), self.held.read())
        self.handles = SqliteHandles(settings.data_dir / "handles.sqlite", self.clock)
        self.descriptors = Descriptors(settings, self.fetcher, self.clients, self.log, self.ids, self.clock)
        self.descriptors.adopt(settings, self.snapshot, self.assembly.signers)
        traced = [self.traces] if self.traces is not None else []
        self._parts = data_parts(
            settings, lambda: self.snapshot, log=self.log, handles=self.handles, descriptors=self.descriptors,
            clients=self.clients, upkeep=self.upkeep, comparisons=self.comparisons,
            observer=Observers(self.metrics.counts, self.whys.recent, *traced), ids=self.ids, clock=self.clock,
        )  # fmt: skip
        self.streams, self.noise = self._parts.streams, self._parts.noise
        self.readiness = Readiness(self._stands_on)
        self.crew = Crew(workers, settings, self._office(), self._begin) if workers > 1 else None
        self.changes = Changes(self)
        self._front = self.crew or make_front(self._parts)
        self.metrics.elsewhere = self.crew.sums if self.crew is not None else None

    @property
    def port(self) -> int:
        return self._front.port

    @property
    def admin_port(self) -> int:
        return self._admin.port if self._admin is not None else self.settings.admin.listen.port

    async def start(self) -> None:
        """Serves. The log is there before the first request can be."""
        self.log.start(asyncio.get_running_loop())
        self.index.start()
        self.book.start()
        await self.counting.start(lambda: self.snapshot.ledger.budgets, self.book)
        await self.engines.start(self.snapshot)
        await self._front.start()
        if self.settings.listen.port == 0 and not self.settings.public_url:
            self.snapshot = self.assembly.keep(self.assembly.build(self.settings, self._front.port))
            await self.engines.start(self.snapshot)
        await self.readiness.look()
        self._admin = self._make_admin()
        await self._admin.start()
        self.changes.note("accepted", "start")
        warn_of_report(self.settings.policy)
        jobs: tuple[Job, ...] = (
            *data_jobs(self._parts, self.sources, self.cards, self._poll_files),
            ("keys", self.rotation.watch()),
            ("descriptors", self.descriptors.pins.watch()),
            ("readiness", self.readiness.watch()),
            ("adjustments", every(1.0, self.accounts.retell)),
            *self.notices.jobs(),
        )
        self._background = begun(jobs)

    async def reload(self, settings: config.Settings) -> None:
        """Swaps in a new snapshot, or leaves the running one and raises. Both leave an activation record."""
        await self.changes.reload(settings)

    def _office(self) -> Office:
        return Office(
            self.log, self.counters, self.handles, self.descriptors, self.assembly.callers.replays, self.ids, self.clock
        )

    def _begin(self, number: int, count: int) -> Begin:
        known, nonce_key = packed_items(self.descriptors.registry.items()), self.assembly.callers.nonce_key
        sources = self.policies_read.in_force
        return Begin(number, count, self.node, self.settings, sources, self.port, known, nonce_key)

    def refuse(self, why: str) -> None:
        """A configuration that could not even be read: the running one stays in force, and a record says why."""
        self.changes.note("refused", why)

    async def stop(self, grace_seconds: float) -> None:
        """Drains, settles, publishes a last checkpoint. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self.changes.stop()
        await self._front.drain(grace_seconds)
        await self.changes.stopped()  # one that is under way finds that all is over
        await self._close()

    async def _close(self) -> None:
        if self._admin is not None:
            await self._admin.drain(1.0)
        await ended(self._background)
        await self.replays.aclose()
        self.notices.close()
        self.noise.flush()
        self.wallet.close()
        await close_parts(self._parts)
        await self.log.close()
        await self.counting.aclose()  # tells what the log has
        self.index.close()
        self.book.close()
        self.bundles.close()
        self.handles.close()
        await self.engines.aclose()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)

    def ready(self) -> list[str]:
        """What is not ready, by name; nothing when all is."""
        wrong = [] if self.log.healthy else ["the audit log cannot be written"]
        wrong += self.readiness.problems()
        if self._stopped:
            wrong.append("the gateway is going down")
        return wrong

    def _stands_on(self) -> dict[str, Checked]:
        return {
            "policy": self.snapshot.engine,
            "sessions and tasks": self.handles,
            "index of records": self.index,
            "book of usage": self.book,
            "counters": self.counters,
            "descriptors": self.descriptors.registry,
            **({"workers": self.crew} if self.crew is not None else {}),
        }

    def status(self) -> dict[str, Json]:
        return {
            "node": self.node,
            "vkey": self.log.vkey,
            "policy": policy_status(self.snapshot.engine, self.comparisons),
            "log": log_status(self.log),
            "streams": len(self.streams),
            "exchanges": self._front.exchanges,
            "malformed": self.noise.total,
            "usage": {"behind": self.book.behind, "unreadable": self.book.unreadable},
            **(self.crew.status(len(self.streams), self.noise.total) if self.crew is not None else {}),
        }

    def _make_admin(self) -> Front:
        return admin_plane(
            self.settings,
            access=self.access,
            snapshot=lambda: self.snapshot,
            ready=self.ready,
            status=self.status,
            records=self.index,
            descriptors=self.descriptors,
            keys=RunningKeys(self.ring, self.rotation, self.node, lambda: self.settings.keys.overlap),
            replays=self.replays,
            desk=self.desk,
            accounts=self.accounts,
            book=self.book,
            upstreams=RunningUpstreams(self.upkeep, self.held, self.crew),
            shadows=shadows_of(lambda: self.snapshot.engine, self.comparisons),
            whys=self.whys,
            recent=self.whys.recent,
            metrics=self.metrics,
            log=self.log,
            events=self.noise,
            ids=self.ids,
            clock=self.clock,
        )

    async def _poll_files(self) -> None:
        await poll_files(self.assembly, self.wallet)
        await self.changes.prices()
