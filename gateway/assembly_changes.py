"""How a running gateway changes: another configuration, another policy, other keys, other prices; whole, or not at all.

1. One change at a time. The new snapshot is built beside the one in force; whatever raises before it is complete leaves
all as it was. 2. Where workers serve, every one of them has built the same before any of it counts, and has it in force
before it is recorded. 3. What was accepted and what was refused is an activation record (ruling 26); a bundle's is
written by who activates it, keys have their own.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Protocol

from gateway import config
from gateway.assembly import Assembly, Candidate, Materials, refuse_cold
from gateway.assembly_bundles import Commit, Policies
from gateway.assembly_candidates import warn_of_report
from gateway.assembly_counters import Counting
from gateway.assembly_crew import Alone, Crew
from gateway.assembly_life import in_thread, note_activation
from gateway.assembly_policy import Engines
from gateway.assembly_trust import Descriptors, fetch_rules
from gateway.assembly_upstreams import Upkeep
from gateway.assembly_wallet import Wallet
from gateway.assembly_workers import Change, SourceBook
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.snapshot import Snapshot
from gateway.log.writer import Sequencer
from gateway.pdp.sources import PolicySource
from gateway.trust.fetcher import GuardedFetcher
from gateway.wire.streams import Streams
from gateway.wire.upstream import Clients, Targets


class Running(Protocol):
    """What of a gateway is changed (`settings`, `snapshot`), and what it takes."""

    settings: config.Settings
    snapshot: Snapshot
    crew: Crew | None
    assembly: Assembly
    clients: Clients
    clock: Clock
    counting: Counting
    descriptors: Descriptors
    engines: Engines
    fetcher: GuardedFetcher
    ids: Ids
    log: Sequencer
    policies: Policies
    policies_read: SourceBook
    streams: Streams
    upkeep: Upkeep
    wallet: Wallet

    @property
    def port(self) -> int: ...


class Changes:
    """Of one gateway. `closed`: nothing is changed any more, and nothing is under way."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._workers = running.crew or Alone()
        self._one = asyncio.Lock()  # 1
        self._stopped = False

    async def keys(self) -> None:
        """The same configuration over a changed ring."""
        async with self._one:
            if not self._stopped:
                await self._swap("keys", await self._candidate(self._running.settings, None))

    async def policy(self, source: PolicySource | None, commit: Commit) -> None:
        """The same configuration over another policy. What raises before the end leaves the running snapshot."""
        running = self._running
        async with self._one:
            self._go()
            with running.policies.instead(source):
                materials = await in_thread(running.assembly.with_policy, running.settings)
            await self._swap("policy", await self._candidate(running.settings, materials), commit)
            running.streams.sweep()

    async def prices(self) -> None:
        """The same configuration over a price list that was written anew; one that cannot be used changes nothing."""
        running = self._running
        async with self._one:
            try:
                materials = await in_thread(running.assembly.with_prices, running.settings)
            except (config.ConfigError, OSError) as error:
                self.note("refused", f"prices: {error}")
                return
            if materials is None or self._stopped:
                return
            await self._swap("prices", await self._candidate(running.settings, materials))
            self.note("accepted", "prices")

    async def reload(self, settings: config.Settings) -> None:
        """Swaps in a new snapshot, or leaves the running one and raises."""
        running = self._running
        async with self._one:
            with ExitStack() as attempt:
                attempt.push(self._ended)
                refuse_cold(running.settings, settings)
                rules = fetch_rules(settings)
                running.policies.adopt(settings)
                materials, targets = await in_thread(self._read, settings)
                self._go()
                candidate = await self._candidate(settings, materials)
                await running.counting.adopt(candidate.snapshot.ledger.budgets)
                await self._swap("reload", candidate, None, settings, targets)
            running.fetcher.adopt(*rules)
            running.streams.sweep()
            self.note("accepted", "reload")
            warn_of_report(settings.policy)

    def _ended(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A reload that came to nothing: nothing of it stays."""
        if error is None:
            return
        running = self._running
        running.assembly.drop()
        running.policies.adopt(running.settings)
        running.wallet.keep(running.snapshot.upstreams.values())
        if isinstance(error, Exception):  # else nobody refused it
            self.note("refused", str(error))

    def note(self, effect: str, why: str) -> None:
        """3."""
        running = self._running
        note_activation(running.log, running.snapshot, effect, why, ids=running.ids, clock=running.clock)

    def stop(self) -> None:
        """What comes from now on is refused."""
        self._stopped = True

    async def stopped(self) -> None:
        """Returns when what was under way is over."""
        async with self._one:
            return

    def _go(self) -> None:
        if self._stopped:
            raise RuntimeError("the gateway is going down")

    async def _candidate(self, settings: config.Settings, materials: Materials | None) -> Candidate:
        candidate = self._running.assembly.build(settings, self._running.port, materials)
        await self._running.engines.start(candidate.snapshot)
        return candidate

    async def _swap(
        self,
        kind: str,
        candidate: Candidate,
        commit: Commit | None = None,
        settings: config.Settings | None = None,
        targets: Targets | None = None,
    ) -> None:
        """2. Only the first half can raise. `commit` is awaited once every process could have the snapshot."""
        running, wanted = self._running, settings or self._running.settings
        book = running.policies_read
        sources = book.read if kind in ("reload", "policy") else book.in_force
        await self._workers.prepare(Change(kind, wanted, sources, candidate.snapshot.revision))
        async with AsyncExitStack() as prepared:
            prepared.push_async_callback(self._workers.abort)
            if commit is not None:
                await commit(candidate.snapshot)
            if targets is not None:
                running.clients.adopt(candidate.snapshot.upstreams.values(), targets)
            prepared.pop_all()
        running.snapshot = running.assembly.keep(candidate)  # nothing can fail any more
        if settings is not None:
            running.settings = settings
            running.wallet.keep(running.snapshot.upstreams.values())
            running.upkeep.adopt(running.snapshot.upstreams.values())
            running.descriptors.adopt(settings, running.snapshot, running.assembly.signers)
        if kind in ("reload", "policy"):
            book.keep()
        await self._workers.commit()

    def _read(self, settings: config.Settings) -> tuple[Materials, Targets]:
        """What a reload reads and compiles, in a thread: open exchanges go on meanwhile."""
        materials = self._running.assembly.read(settings)
        return materials, self._running.clients.make(materials.upstreams.values())
