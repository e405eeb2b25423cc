"""The backends of the Counters port, each as an async context that gives fresh counters; asks to try them with.

A backend may be elsewhere and have a clock of its own: nothing of the contract suite moves time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from gateway.core.accounts import (
    Account,
    Ask,
    Budget,
    Charge,
    ChargeAsk,
    Given,
    PlaceAsk,
    RateAsk,
    key_text,
)
from gateway.core.ledger import Counters
from gateway.ledger.counters import MemoryCounters
from gateway.ledger.remote import CountersClerk, RemoteCounters
from tests.stores.redis_server import node as redis_node
from tests.stores.redis_server import server as redis_server
from tests.wire.posts import posts

SECOND = 1_000_000_000
Backend: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Counters]]


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Counters]:
    yield MemoryCounters(RealClock())


@asynccontextmanager
async def strict_redis(folder: Path) -> AsyncIterator[Counters]:
    with redis_server() as found:
        async with redis_node(found.at()) as gateway:
            yield gateway.counters


@asynccontextmanager
async def owner(folder: Path) -> AsyncIterator[Counters]:
    """A worker's, whose owner counts in memory."""
    async with posts() as (worker, at_owner):
        clerk = CountersClerk(MemoryCounters(RealClock()), at_owner, lambda exchange: False)
        yield RemoteCounters(worker)
        worker.close()
        clerk.lost(lambda exchange: None)


@asynccontextmanager
async def leased_redis(folder: Path) -> AsyncIterator[Counters]:
    with redis_server() as found:
        async with redis_node(found.at()) as gateway:
            yield gateway.leases


BACKENDS: dict[str, Backend] = {"memory": memory, "redis": strict_redis, "redis-lease": leased_redis, "owner": owner}


async def taken(counters: Counters, ask: Ask) -> Given:
    found = counters.take(ask)
    return await found if isinstance(found, Awaitable) else found


async def grown(counters: Counters, ident: str, charges: Sequence[ChargeAsk]) -> Given:
    found = counters.grow(ident, charges)
    return await found if isinstance(found, Awaitable) else found


def rate(name: str = "rate", key: str = "k", count: int = 3, shadow: bool = False) -> RateAsk:
    """`count` calls an hour, all of them at once."""
    interval = 3600 * SECOND // count
    return RateAsk(name, key, interval, count * interval, 0, 0, shadow)


def sliding(name: str = "window", key: str = "k", most: int = 3) -> RateAsk:
    return RateAsk(name, key, 0, 0, 3600 * SECOND, most, False)


def place(name: str = "place", key: str = "k", most: int = 2, shadow: bool = False, held: bool = False) -> PlaceAsk:
    return PlaceAsk(name, key, most, shadow, held)


def budget(name: str = "org-month", amount: int = 100, **more: object) -> Budget:
    settings: dict[str, object] = {"key": ("subject.org",), "unit": "tokens", "period": "month"} | more
    return Budget(name=name, amount=amount, **settings)  # type: ignore[arg-type]


def account(of: Budget, *values: str | None, period: str = "2026-11-01T00:00:00Z") -> Account:
    return Account(of.name, key_text(values or ("acme",)), period if of.period in ("hour", "day", "month") else "")


def charge(of: Budget, amount: int, *values: str | None, period: str = "2026-11-01T00:00:00Z") -> ChargeAsk:
    ends = int(time.time()) + 86400 if of.period in ("hour", "day", "month") else 0
    return ChargeAsk(of, account(of, *values, period=period), amount, of.amount, ends)


def closed(ask: ChargeAsk, settled: int) -> Charge:
    found = Charge(ask.budget, ask.account, ask.amount)
    found.settled = settled
    return found
