"""What is counted of every finished exchange and every commit of the log, in plain numbers.

The rule: a few additions each time and nothing that grows with traffic; whoever scrapes makes text of it
(telemetry.py). The names of the metrics are not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.exchange import Exchange
from gateway.core.ports import Clock, Observer
from gateway.core.reasons import Reason

DURATION_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
OVERHEAD_BOUNDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
DECISION_BOUNDS = (
    0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25,
)  # fmt: skip
APPEND_BOUNDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Histogram:
    """Counts below upper bounds (seconds). `observe` costs a binary search, of native numbers once it is compiled."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds: Final = list(bounds)
        self.counts: Final = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        bounds = self.bounds
        low, high = 0, len(bounds)
        while low < high:
            middle = (low + high) >> 1
            if bounds[middle] < seconds:
                low = middle + 1
            else:
                high = middle
        self.counts[low] += 1
        self.total += seconds

    def said(self) -> list[float]:
        return [self.total, *self.counts]

    def add(self, said: list[float]) -> None:
        """What another process observed."""
        self.total += said[0]
        for place, count in enumerate(said[1:]):
            self.counts[place] += int(count)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else f"{bound:g}", below))
        return found


class Series:
    """What one route and protocol count; `outcomes` by (outcome, reason)."""

    __slots__ = ("duration", "outcomes", "overhead")

    def __init__(self) -> None:
        self.duration: Final = Histogram(DURATION_BOUNDS)
        self.overhead: Final = Histogram(OVERHEAD_BOUNDS)
        self.outcomes: Final[dict[tuple[str, str], int]] = {}


class Counts:
    """An Observer. `series` by (route, protocol), `decisions` by engine; by route `fail_open`, what passed because the
    policy engine failed, `would_deny`, what policy denied and report mode let through, and `unpriced`, what a budget in
    usd let through without a price; by budget `overdrawn`, what came to more than was reserved; by limit in shadow
    `shadowed`, what it would have refused."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.series: dict[tuple[str, str], Series] = {}
        self.decisions: dict[str, Histogram] = {}
        self.append = Histogram(APPEND_BOUNDS)
        self.fail_open: dict[str, int] = {}
        self.would_deny: dict[str, int] = {}
        self.unpriced: dict[str, int] = {}
        self.overdrawn: dict[str, int] = {}
        self.shadowed: dict[str, int] = {}

    def finished(self, exchange: Exchange) -> None:
        key = (exchange.route.name, exchange.protocol.name)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
            self.fail_open.setdefault(key[0], 0)  # an alert needs to see the first one as a change
        seconds = self._clock.monotonic() - exchange.started
        series.duration.observe(seconds)
        refusal, decision = exchange.refusal, exchange.decision
        result = "refused" if exchange.intent_seq is None else exchange.result
        outcome = (result, refusal.reason if refusal is not None else "")
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        if refusal is None or refusal.reason not in (Reason.UPSTREAM_FAILED, Reason.UPSTREAM_TIMEOUT):
            first = seconds if exchange.first_byte_ms is None else exchange.first_byte_ms / 1000
            waited = exchange.upstream_ms
            series.overhead.observe(first if waited is None else max(0.0, first - waited / 1000))
        if exchange.charges or exchange.shadowed:
            self._ledger(exchange)
        if decision is not None:
            engine = self.decisions.get(decision.engine)
            if engine is None:
                engine = self.decisions[decision.engine] = Histogram(DECISION_BOUNDS)
            engine.observe(decision.ms / 1000)
            route = exchange.route.name
            if decision.mode == "report":
                denied = exchange.would_deny + int(decision.would_deny)
                self.would_deny[route] = self.would_deny.get(route, 0) + denied
            opened = exchange.failed_open + int(decision.fault and decision.allow)
            if opened:
                self.fail_open[route] = self.fail_open.get(route, 0) + opened

    def _ledger(self, exchange: Exchange) -> None:
        if exchange.usage.unpriced:
            route = exchange.route.name
            self.unpriced[route] = self.unpriced.get(route, 0) + 1
        for charge in exchange.charges:
            if charge.settled is not None and charge.settled > charge.reserved:
                name = charge.budget.name
                self.overdrawn[name] = self.overdrawn.get(name, 0) + 1
        for limit in exchange.shadowed:
            self.shadowed[limit] = self.shadowed.get(limit, 0) + 1

    def _by_name(self) -> tuple[tuple[str, dict[str, int]], ...]:
        return (
            ("fail_open", self.fail_open), ("would_deny", self.would_deny), ("unpriced", self.unpriced),
            ("overdrawn", self.overdrawn), ("shadowed", self.shadowed),
        )  # fmt: skip

    def said(self) -> dict[str, Any]:
        """All of it as JSON, for `add`."""
        series = [
            [*key, one.duration.said(), one.overhead.said(), [[*name, count] for name, count in one.outcomes.items()]]
            for key, one in self.series.items()
        ]
        decisions = {engine: one.said() for engine, one in self.decisions.items()}
        return {
            "series": series, "decisions": decisions, "append": self.append.said(), **dict(self._by_name()),
        }  # fmt: skip

    def add(self, said: Mapping[str, Any]) -> None:
        """What another process counted."""
        for route, protocol, duration, overhead, outcomes in said["series"]:
            one = self.series.setdefault((route, protocol), Series())
            one.duration.add(duration)
            one.overhead.add(overhead)
            for outcome, reason, count in outcomes:
                one.outcomes[outcome, reason] = one.outcomes.get((outcome, reason), 0) + count
        for engine, found in said["decisions"].items():
            self.decisions.setdefault(engine, Histogram(DECISION_BOUNDS)).add(found)
        for name, mine in self._by_name():
            for route, count in said[name].items():
                mine[route] = mine.get(route, 0) + count
        self.append.add(said["append"])

    def appended(self, seconds: float) -> None:
        """How long a group commit of the log took. Any thread."""
        self.append.observe(seconds)


class Observers:
    """Tells several observers about each finished exchange."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def finished(self, exchange: Exchange) -> None:
        for observer in self._observers:
            observer.finished(exchange)
