"""A worker: the data plane of a gateway in a process of its own, beside others that serve the same port.

1. It owns nothing: log, counters, handles, descriptors and what counts once are its owner's (assembly_crew.py), asked
   over one pair of sockets. 2. Its snapshot is built from what the owner read, and is in force when the owner says so;
   of a change that it cannot build it says why, and nothing changes. 3. It is told when to drain; signals are not for
   it. 4. Without its owner it refuses what comes, for want of a log, and ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from functools import partial
from random import SystemRandom
from typing import Final

import orjson

from gateway import config
from gateway.app import make_front
from gateway.assembly import Assembly, Candidate, Materials
from gateway.assembly_candidates import Arranging
from gateway.assembly_cards import make_cards
from gateway.assembly_data import close_parts, data_jobs, data_parts, poll_files
from gateway.assembly_keys import make_ring
from gateway.assembly_ledger import Ledgers
from gateway.assembly_life import SystemClock, begun, ended, in_thread
from gateway.assembly_meters import meters
from gateway.assembly_planes import Gauges, traces
from gateway.assembly_policy import Engines, make_engine
from gateway.assembly_trust import Descriptors, configured_key_sets, fetch_rules, make_fetcher
from gateway.assembly_upstreams import Upkeep
from gateway.assembly_wallet import Wallet, read_yaml
from gateway.assembly_why import PolicyWhys
from gateway.assembly_workers import Begin, Change, RemotePins, ToldSources, unpacked
from gateway.core import posting
from gateway.core.breaking import Hold
from gateway.core.counts import Observers
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.posting import Post
from gateway.core.snapshot import Snapshot
from gateway.identity.replays import RemoteReplays
from gateway.ledger.remote import RemoteCounters
from gateway.log.remote import RemoteLog
from gateway.pdp.shadow import Comparisons
from gateway.stores import remote
from gateway.stores.held import HeldBreakers
from gateway.stores.remote import MirroredRegistry, RemoteHandles
from gateway.telemetry import Metrics
from gateway.trust.jwks import KeySources
from gateway.wire.upstream import Clients, Targets

ORPHAN_SECONDS: Final = 1.0  # what open exchanges have to end when the owner is gone

_log = logging.getLogger("tollgate.worker")


class WorkerApp:
    """Built from what the owner says first. Raises what its parts raise."""

    def __init__(
        self, begin: Begin, post: Post, sockets: Sequence[socket.socket], *, clock: Clock | None = None
    ) -> None:
        settings = begin.settings
        self.settings, self._port, self._post = settings, begin.port, post
        self.clock: Clock = clock or SystemClock()
        self.ids = Ids(self.clock.time)
        self.ring = make_ring(settings, self.clock.time)
        self.comparisons = Comparisons(self.clock.time)
        self.upkeep = Upkeep(lambda: self.log, lambda: self.clients, self.ids, self.clock, SystemRandom().random)
        gauges = Gauges(lambda: self.log, lambda: self.snapshot, lambda: self.clients, self.upkeep, self.comparisons)
        self.metrics = Metrics(self.clock, gauges.all())
        self.traces = traces(settings, begin.node, self.clock)
        self.log = RemoteLog(post)
        self.handles = RemoteHandles(post)
        self.fetcher = make_fetcher(settings)
        self.sources = KeySources(configured_key_sets(self.fetcher), self.clock)
        self.wallet = Wallet(self.fetcher, read_yaml, self.clock)
        self.cards = make_cards(
            self.ring, self.fetcher, lambda: self.clients, lambda: self.descriptors.registry, self.clock
        )
        self.policies = ToldSources(begin.sources)
        self.assembly = Assembly(
            clock=self.clock,
            sources=self.sources,
            engine=Arranging(partial(make_engine, source=self.policies), self.comparisons),
            load_yaml=read_yaml,
            published=self.ring.jwks,
            source=self.wallet.source,
            cards=self.cards,
            ledgers=Ledgers(RemoteCounters(post), self.clock),
            share=begin.count,
            memory=RemoteReplays(post),
            nonce_key=begin.nonce_key,
        )
        self.whys = PolicyWhys(lambda: self.snapshot)
        self.engines = Engines(self.whys.note)
        self.snapshot: Snapshot = self.assembly.keep(self.assembly.build(settings, begin.port))
        self.clients = Clients()
        self.clients.adopt(self.snapshot.upstreams.values())
        self.upkeep.adopt(self.snapshot.upstreams.values(), HeldBreakers(settings.data_dir / "breakers.json").read())
        self.descriptors = Descriptors(
            settings, self.fetcher, self.clients, self.log, self.ids, self.clock,
            MirroredRegistry(post, remote.unpacked(begin.known)), RemotePins(post),
        )  # fmt: skip
        self.descriptors.adopt(settings, self.snapshot, self.assembly.signers)
        traced = [self.traces] if self.traces is not None else []
        self._parts = data_parts(
            settings, lambda: self.snapshot, log=self.log, handles=self.handles, descriptors=self.descriptors,
            clients=self.clients, upkeep=self.upkeep, comparisons=self.comparisons,
            observer=Observers(self.metrics.counts, *traced), ids=self.ids, clock=self.clock,
            share=begin.count, sockets=sockets,
        )  # fmt: skip
        self.streams, self.noise = self._parts.streams, self._parts.noise
        self._front = make_front(self._parts)
        self._background: list[asyncio.Task[None]] = []
        self._candidate: tuple[Change, Candidate, Targets | None] | None = None
        self.ended = asyncio.Event()
        post.told(posting.HOLD, self._hold)  # in one step with the reading of what was held before
        self._ending = False

    async def start(self) -> bytes:
        """Serves. The answer to BEGIN: the revision in force."""
        post = self._post
        post.asked(posting.PREPARE, self._prepare)
        post.asked(posting.COMMIT, self._commit)
        post.asked(posting.ABORT, self._abort)
        post.asked(posting.DRAIN, self._drain)
        post.asked(posting.LOOK, lambda said: self._meters())
        await self.engines.start(self.snapshot)
        await self._front.start()
        files = partial(poll_files, self.assembly, self.wallet)
        self._background = begun(data_jobs(self._parts, self.sources, self.cards, files))
        return self.snapshot.revision.encode()

    async def _prepare(self, said: bytes) -> bytes:
        """2. What it raises is what the owner is told."""
        change: Change = unpacked(said)
        self.policies.told = change.sources
        targets: Targets | None = None
        materials: Materials | None = None
        if change.kind == "keys":
            await asyncio.to_thread(self.ring.refresh)
        elif change.kind == "prices":
            materials = await in_thread(self.assembly.with_prices, change.settings)
        elif change.kind == "policy":
            materials = await in_thread(self.assembly.with_policy, change.settings)
        else:
            materials, targets = await in_thread(self._read, change.settings)
        candidate = self.assembly.build(change.settings, self._port, materials)
        await self.engines.start(candidate.snapshot)
        if change.revision and candidate.snapshot.revision != change.revision:
            raise RuntimeError(f"this makes revision {candidate.snapshot.revision} here, not {change.revision}")
        self._candidate = change, candidate, targets
        return candidate.snapshot.revision.encode()

    def _read(self, settings: config.Settings) -> tuple[Materials, Targets]:
        materials = self.assembly.read(settings)
        return materials, self.clients.make(materials.upstreams.values())

    def _commit(self, said: bytes) -> bytes:
        if self._candidate is None:
            raise RuntimeError("nothing was prepared")
        (change, candidate, targets), self._candidate = self._candidate, None
        if targets is not None:
            self.clients.adopt(candidate.snapshot.upstreams.values(), targets)
        self.snapshot = self.assembly.keep(candidate)
        if change.kind == "reload":
            self.wallet.keep(self.snapshot.upstreams.values())
            self.upkeep.adopt(self.snapshot.upstreams.values())
            self.fetcher.adopt(*fetch_rules(change.settings))
            self.descriptors.adopt(change.settings, self.snapshot, self.assembly.signers)
        self.settings = change.settings
        self.streams.sweep()
        return self.snapshot.revision.encode()

    def _abort(self, said: bytes) -> bytes:
        self._candidate = None
        self.assembly.drop()
        self.wallet.keep(self.snapshot.upstreams.values())
        return b""

    def _hold(self, number: int, said: bytes) -> None:
        upstream, wanted = orjson.loads(said)
        self.upkeep.breakers.hold(upstream, Hold(wanted))

    async def _drain(self, said: bytes) -> bytes:
        """3: the last thing that the owner asks."""
        await self._end(float(said))
        meters = self._meters()
        self.ended.set()
        return meters

    def orphaned(self) -> None:
        """4."""
        self.log.lost()
        if not self._ending:
            _log.error("the owner of this worker is gone: it ends")
            self._orphan = asyncio.get_running_loop().create_task(self._alone(), name="orphaned")

    async def _alone(self) -> None:
        try:
            await self._end(ORPHAN_SECONDS)
        finally:
            self.ended.set()

    async def _end(self, grace_seconds: float) -> None:
        self._ending = True
        await self._front.drain(grace_seconds)
        await ended(self._background)
        self.noise.flush()
        self.log.flush()
        self.wallet.close()
        await close_parts(self._parts)
        await self.engines.aclose()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)

    def _meters(self) -> bytes:
        """What the owner adds up; counted since the worker began."""
        said = meters(
            self._front.exchanges, len(self.streams), self.noise.total, self.metrics.counts, self.metrics.readings(),
            self.metrics.totals(), self.upkeep.breakers.standing(), self.upkeep.addresses.standing(),
        )  # fmt: skip
        return orjson.dumps(said)
