"""Exchanges as far as the ledger looks at them, and a clock that is moved by hand in whole nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, cast

from gateway.core.exchange import Call, Exchange, Head, Principal
from gateway.core.ports import Clock
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.ledger.counters import KEYS_LIMIT, MemoryCounters
from gateway.ledger.ledger import Asking, Memory
from gateway.ledger.limits import LimitSettings


class HandClock:
    def __init__(self, nanoseconds: int = 0) -> None:
        self.nanoseconds = nanoseconds

    def time(self) -> float:
        raise AssertionError("limits may not look at the wall clock")

    def monotonic(self) -> float:
        return self.nanoseconds / 1_000_000_000

    def pass_(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1_000_000_000)


class Limits:
    """The ledger of a snapshot that has limits only, and counters in memory."""

    def __init__(self, settings: Sequence[LimitSettings], clock: Clock, keys_limit: int = KEYS_LIMIT) -> None:
        self.settings, self.clock = settings, clock
        self.stand_on(MemoryCounters(clock, keys_limit), Memory())

    def stand_on(self, counters: MemoryCounters, memory: Memory) -> None:
        self.counters, self.memory = counters, memory
        self.ledger = Asking(self.settings, (), counters, self.clock, memory)

    def carry(self, previous: Limits) -> None:
        """What a reload does."""
        self.stand_on(previous.counters, previous.memory)

    def take(self, asked: Exchange) -> Refusal | None:
        found = self.ledger.take(asked)
        assert found is None or isinstance(found, Refusal)
        return found

    def release(self, asked: Exchange) -> None:
        self.ledger.settle(asked)


_idents = count()


def exchange(
    subject: str = "agent:idp/a",
    *,
    org: str | None = "acme",
    agent: str | None = None,
    route: str = "weather",
    upstream: str = "weather",
    resource: str = "weather/get",
    peer: str = "192.0.2.1",
) -> Exchange:
    nothing: Any = None
    return Exchange(
        id=str(next(_idents)),
        time=0.0,
        started=0.0,
        head=Head("POST", "/weather", "/weather", "", "gw.example", "https", (), peer),
        snapshot=nothing,
        route=Route(route, "/weather", "", upstream, "required", "json"),
        upstream=Upstream(upstream, "mcp", "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/mcp"),
        protocol=cast(Any, None),
        asked=Call("mcp.tools/call", "tool", resource),
        principal=Principal(id=subject, type="agent", org=org, agent=agent),
    )
