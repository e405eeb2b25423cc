"""Who counts limits and budgets: memory or Redis, filled from the book of usage before anybody is let through.

The rule: what a log says of a budget's running periods is counted once, at the start or when a reload brings
the budget. Redis's client is imported only where it is configured.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from random import SystemRandom
from typing import TYPE_CHECKING

from gateway import config
from gateway.assembly_ledger import budget_gauges
from gateway.core.accounts import Budget, CountersUnavailable, Standing, Tally, handed_over
from gateway.core.ledger import Counters, Totals
from gateway.core.ports import Clock
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.periods import before, running
from gateway.stores.redis_durably import Durably
from gateway.telemetry import Gauge

if TYPE_CHECKING:
    from gateway.stores.redis_counters import RedisCounters
    from gateway.stores.redis_leases import LeasedCounters
    from gateway.stores.redis_reconciling import Reconciling
    from gateway.stores.redis_wire import Server

_NO_CLIENT = "stores.counters is in Redis: install tollgate[redis]"

FIRST_SECONDS = 2.0  # a start waits so long for Redis; it goes on without, and lets nobody through until it is there


class Counting:
    """Whoever counts for this gateway. `log`: how many records are durable, how many were submitted, and whether it
    takes more. Raises RuntimeError, OSError and SSLError for what cannot be had."""

    def __init__(
        self, settings: config.Settings, node: str, clock: Clock, log: Callable[[], tuple[int, int, bool]]
    ) -> None:
        self._clock = clock
        self._book: Totals | None = None
        self._known: set[str] = set()
        self._memory: MemoryCounters | None = None
        self._redis: RedisCounters | None = None
        self._durably: Durably | None = None
        self.leases: LeasedCounters | None = None
        self._keeping: Reconciling | None = None
        self._budgets: Callable[[], Sequence[Budget]] = lambda: ()
        found = settings.stores.counters
        if found == "memory":
            self._memory = MemoryCounters(clock)
            self.counters: Counters = self._memory
        else:
            self._redis, self.leases, self._keeping = _redis(found, node, clock, self._first)
            self.counters = self._durably = Durably(self.leases or self._redis, self._redis, log)

    async def start(self, budgets: Callable[[], Sequence[Budget]], book: Totals) -> None:
        """Before anything is served. Raises StoreFailed."""
        self._book, self._budgets = book, budgets
        if self._keeping is None:
            await self.adopt(budgets())
            return
        self._keeping.start()
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self._keeping.reconciled.wait()
        except TimeoutError:
            return  # /readyz says what is wrong

    async def adopt(self, budgets: Sequence[Budget]) -> None:
        """Before a snapshot with these is in force: those that were not counted yet. Raises StoreFailed."""
        new = [budget for budget in budgets if budget.name not in self._known]
        if not new or self._book is None:
            return
        wanted = self._wanted(new)
        standing = await self._book.standing([(budget, period) for budget, period, _ in wanted])
        if self._memory is not None:
            for budget, period, ends in wanted:
                tallies = [
                    tally
                    for tally in standing.tallies
                    if (tally.account.budget, tally.account.period) == (budget.name, period)
                ]
                if budget.carry and ends == running(budget, self._clock.time()).ends:
                    tallies = _handed(budget, tallies, standing.tallies)
                self._memory.fill(budget, ends, tallies, standing.adjusted)
        elif self._redis is not None and self._keeping is not None and self._keeping.begun:
            await self._redis.adopt(new, standing)
        self._known.update(budget.name for budget in new)

    async def aclose(self) -> None:
        """Behind the log: what it has is told."""
        if self._durably is not None:
            self._durably.finish()
        if self.leases is not None:
            self.leases.release()
        if self._keeping is not None:
            await self._keeping.aclose()

    def gauges(self) -> list[Gauge]:
        redis, leases = self._redis, self.leases
        if redis is None:
            return budget_gauges(self._memory) if self._memory is not None else []
        of_leases: list[Gauge] = []
        if leases is not None:
            of_leases += [
                Gauge("tollgate_counters_leases", "Accounts with a lease.", (), lambda: _one(leases.leased)),
                Gauge(
                    "tollgate_counters_without", "Passed without Redis.", (), lambda: _one(leases.without), counts=True
                ),
            ]
        return [
            *of_leases,
            Gauge("tollgate_counters_up", "1 while Redis is reconciled with.", (), lambda: _one(redis.connected)),
            Gauge("tollgate_counters_open", "Exchanges that hold something.", (), lambda: _one(len(redis.truth.open))),
            Gauge("tollgate_counters_dirty", "Accounts to tell Redis of.", (), lambda: _one(len(redis.truth.dirty))),
            Gauge(
                "tollgate_counters_unavailable", "Asks nobody could answer.", (), lambda: _one(redis.waits), counts=True
            ),
        ]

    async def _first(self) -> tuple[Sequence[Budget], Standing]:
        """What Redis is told at the first connection."""
        budgets = list(self._budgets())
        if self._book is None:
            raise RuntimeError("the counters were not started")
        found = await self._book.standing([(budget, period) for budget, period, _ in self._wanted(budgets)])
        self._known.update(budget.name for budget in budgets)
        return budgets, found

    def _wanted(self, budgets: Iterable[Budget]) -> list[tuple[Budget, str, int]]:
        """The running period of each, and the one before where something is handed over."""
        found = []
        now = self._clock.time()
        for budget in budgets:
            span = running(budget, now)
            found.append((budget, span.period, span.ends))
            previous = before(budget, span) if budget.carry else None
            if previous is not None:
                found.append((budget, previous.period, previous.ends))
        return found


def _handed(budget: Budget, tallies: Sequence[Tally], known: Sequence[Tally]) -> list[Tally]:
    """Accounts that were begun in the running period, with what the one before has handed over to them: no log says
    that. An account that is not begun yet gets it with its first charge."""
    left: dict[str, int] = {}
    period = tallies[0].account.period if tallies else ""
    for one in known:
        account = one.account
        if account.budget == budget.name and account.period != period and one.begun:
            most = budget.amount if one.then is None else one.then
            left[account.key] = handed_over(budget, most, one.settled)
    return [replace(one, granted=one.granted + left.get(one.account.key, 0)) for one in tallies]


def _one(value: float) -> list[tuple[tuple[str, ...], float]]:
    return [((), float(value))]


def _redis(
    settings: config.Counters,
    node: str,
    clock: Clock,
    first: Callable[[], Awaitable[tuple[Sequence[Budget], Standing]]],
) -> tuple[RedisCounters, LeasedCounters | None, Reconciling]:
    try:
        from gateway.stores.redis_counters import RedisCounters
        from gateway.stores.redis_leases import LeasedCounters
        from gateway.stores.redis_reconciling import Reconciling
        from gateway.stores.redis_words import Names
    except ImportError:
        raise RuntimeError(_NO_CLIENT) from None
    servers = _servers(settings)
    counters = RedisCounters(Names(settings.prefix, node), clock, settings.wait)
    chance = SystemRandom().random
    if settings.mode == "strict":
        return counters, None, Reconciling(counters, servers, chance, first)
    lease = settings.lease
    leases = LeasedCounters(counters, clock, lambda: len(keeping.peers), lease.share, lease.lasts)
    keeping = Reconciling(counters, servers, chance, first, leases.tend)
    return counters, leases, keeping


def _servers(settings: config.Counters) -> list[Server]:
    from gateway.stores.redis_wire import Server

    url, pem = settings.url, settings.tls or config.EngineTls()
    context = None
    if url.tls:
        context = ssl.create_default_context(cafile=str(pem.ca) if pem.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if pem.cert is not None:
            context.load_cert_chain(pem.cert, pem.key)
    password = settings.password.reveal() if settings.password is not None else ""
    return [
        Server(host, port, context, pem.server_name, url.username, password, url.database) for host, port in url.hosts
    ]


async def looked_at(settings: config.Counters) -> tuple[float, str]:
    """How many milliseconds Redis takes to answer, and what it does when its memory is full ("" where it does not say).
    Raises CountersUnavailable, RuntimeError, OSError."""
    try:
        from gateway.stores.redis_session import Session
    except ImportError:
        raise RuntimeError(_NO_CLIENT) from None

    async def opened(link: object, run_id: str) -> None:
        return None

    chance = SystemRandom().random
    session = Session(_servers(settings), (), f"{{{settings.prefix}}}state", opened, lambda why, failed: None, chance)
    link, _ = await session.find()
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            started = time.perf_counter()
            await link.ask("PING")
            took = (time.perf_counter() - started) * 1000
            try:
                said = await link.ask("CONFIG", "GET", "maxmemory-policy")
            except CountersUnavailable:
                said = []  # a service that does not let its clients ask
            return took, said[1].decode() if isinstance(said, list) and len(said) == 2 else ""
    finally:
        link.end("looked at")
