"""Log lines and metrics: their names and set-up. (Traces are in telemetry_traces.py.)

The rule: on the hot path there is only counting, in plain dictionaries and lists; text is made when somebody scrapes.
A log line is one line of ASCII JSON whatever a caller put into its values, and what looks like a credential is taken
out. No body, no header value, no secret is ever given to anything here.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO, TypeAlias

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.core.counts import Counts
from gateway.core.ports import Clock

LINE_CHARACTERS = 16_384  # a longer line is cut: a stack trace fits, a body does not
_SECRETS = re.compile(
    r"(?P<scheme>(?i:bearer|basic))\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|tg_[A-Za-z0-9-]{1,64}_[A-Za-z0-9_-]{43}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)


def log_to(stream: TextIO, level: str, secrets: Callable[[], Iterable[str]] = tuple) -> None:
    """Sends every logger's records to `stream` as JSON lines. `secrets` are values that are taken out wherever they
    would stand; other libraries speak from `warning` on."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _Line(secrets)],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("tollgate").setLevel(level.upper())
    logging.captureWarnings(True)


class _Line:
    """The last processor: one line of ASCII JSON without anything that looks like a credential."""

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        first = {name: event.pop(name) for name in ("time", "level", "logger", "event") if name in event}
        line = json.dumps({**first, **event}, ensure_ascii=True, default=str, separators=(",", ":"))
        line = _SECRETS.sub(_hidden, line)
        for secret in self._secrets():
            if len(secret) >= 8:  # a shorter one would take out half of every line
                line = line.replace(json.dumps(secret)[1:-1], "[secret]")
        if len(line) > LINE_CHARACTERS:
            cut = json.dumps(line[: LINE_CHARACTERS // 2])
            line = f'{{"time":"{first.get("time", "")}","event":"cut","line":{cut}}}'
        return line


def _hidden(found: re.Match[str]) -> str:
    scheme = found.group("scheme")
    return f"{scheme} [secret]" if scheme else "[secret]"


Reading: TypeAlias = "tuple[tuple[str, ...], float]"


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read at the scrape: `read` gives (label values, value) pairs and must not block. `name` is the
    whole one, as in tollgate_upstream_inflight."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    counts: bool = False  # it never goes down: a counter, whose name gets `_total`


class Elsewhere(Protocol):
    """What other processes of this gateway count."""

    def counts(self, own: Counts) -> Counts:
        """All of it, ours with theirs."""
        ...

    def gauge(self, name: str, own: list[Reading]) -> list[Reading]: ...


class Metrics:
    """The exposition of what is counted; `counts` is the Observer. `gauges` belong to others: log, clients, snapshot,
    stores. `elsewhere` is asked at each scrape, where there are other processes."""

    def __init__(self, clock: Clock, gauges: Sequence[Gauge] = ()) -> None:
        self.elsewhere: Elsewhere | None = None
        self.counts = Counts(clock)
        self._gauges = tuple(gauges)
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(self))
        ProcessCollector(namespace="tollgate", registry=self._registry)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, as the scraper accepts it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def readings(self) -> dict[str, list[Reading]]:
        """Every gauge of this process."""
        return {gauge.name: list(gauge.read()) for gauge in self._gauges}

    def totals(self) -> list[str]:
        """The names of those that never go down."""
        return [gauge.name for gauge in self._gauges if gauge.counts]

    def _families(self) -> Iterator[Metric]:
        counts = self.counts if self.elsewhere is None else self.elsewhere.counts(self.counts)
        requests = CounterMetricFamily(
            "tollgate_requests",
            "Exchanges that ended. outcome: refused before anything was forwarded, or the record's result",
            labels=("route", "protocol", "outcome", "reason"),
        )
        labels = ("route", "protocol")
        duration = HistogramMetricFamily(
            "tollgate_request_duration_seconds", "From the whole head to the last byte of the answer", labels=labels
        )
        overhead = HistogramMetricFamily(
            "tollgate_overhead_seconds",
            "Until the answer's first byte, less the upstream's time to its head",
            labels=labels,
        )
        for (route, protocol), series in list(counts.series.items()):
            for (outcome, reason), count in list(series.outcomes.items()):
                requests.add_metric((route, protocol, outcome, str(reason)), count)
            duration.add_metric((route, protocol), series.duration.buckets(), series.duration.total)
            overhead.add_metric((route, protocol), series.overhead.buckets(), series.overhead.total)
        decisions = HistogramMetricFamily("tollgate_decision_duration_seconds", "One decision", labels=("engine",))
        for engine, histogram in list(counts.decisions.items()):
            decisions.add_metric((engine,), histogram.buckets(), histogram.total)
        append = HistogramMetricFamily("tollgate_log_append_seconds", "A group commit of the log: write and fsync")
        append.add_metric((), counts.append.buckets(), counts.append.total)
        fail_open = CounterMetricFamily(
            "tollgate_fail_open",
            "Calls, list items and upstreams' requests that passed because the policy engine failed",
            labels=("route",),
        )
        for name, count in list(counts.fail_open.items()):
            fail_open.add_metric((name,), count)
        would_deny = CounterMetricFamily(
            "tollgate_would_deny",
            "Calls, list items and upstreams' requests that policy denied and report mode let through",
            labels=("route",),
        )
        for name, count in list(counts.would_deny.items()):
            would_deny.add_metric((name,), count)
        yield from (requests, duration, overhead, decisions, append, fail_open, would_deny)
        for found, name, label, text in (
            (counts.unpriced, "tollgate_budget_unpriced", "route", "Exchanges a budget in usd let pass unpriced."),
            (counts.overdrawn, "tollgate_budget_overdrawn", "budget", "Settlements above what was reserved."),
            (counts.shadowed, "tollgate_limit_shadow_exceeded", "limit", "Calls that a limit in shadow would refuse."),
        ):
            of = CounterMetricFamily(name, text, labels=[label])
            for value, count in list(found.items()):
                of.add_metric((value,), count)
            yield of
        for gauge in self._gauges:
            kind = CounterMetricFamily if gauge.counts else GaugeMetricFamily
            family = kind(gauge.name, gauge.help, labels=gauge.labels)
            read = list(gauge.read())
            for values, number in read if self.elsewhere is None else self.elsewhere.gauge(gauge.name, read):
                family.add_metric(values, number)
            yield family


class _Collected(Collector):
    """What prometheus_client asks at a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics._families()
