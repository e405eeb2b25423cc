"""Upstreams from the configuration, and what keeps callers from waiting for those that fail: breakers, retries, several
addresses. Every change of a breaker's state, and every address that is left out or asked again, is a record.

The rule: what is kept of an upstream outlives snapshots and is told when one is in force. An upstream that has none of
it is forwarded to as if nothing of this were there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol as Port
from urllib.parse import urlsplit

from gateway import config
from gateway.assembly_meters import Sums
from gateway.core.attempts import AddressStanding, BalanceSettings, HealthSettings, RetrySettings, Shift
from gateway.core.breaking import BreakerSettings, Hold, Standing, State, Turn
from gateway.core.canonical import Json
from gateway.core.exchange import Header
from gateway.core.ids import Ids
from gateway.core.ports import Clock, Handles, RecordLog, UpstreamCredentials, UpstreamTargets
from gateway.core.reasons import LogUnavailable
from gateway.core.records import timestamp
from gateway.core.snapshot import Timeouts, Upstream, UpstreamTls
from gateway.ledger.addresses import AddressBook
from gateway.ledger.breakers import Breakers
from gateway.ledger.retrying import Retrying
from gateway.stages.attempts import Attempts
from gateway.stores.held import HeldBreakers
from gateway.telemetry import Gauge
from gateway.wire.health import HealthChecks

JITTER = 0.2  # of the time that an upstream is left alone, so that many gateways do not come back at once

_STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
_ACTIONS = {State.CLOSED: "breaker.close", State.HALF_OPEN: "breaker.half-open", State.OPEN: "breaker.open"}
_log = logging.getLogger("tollgate.upstreams")


class Upkeep:
    """What is kept of upstreams in this process. `log` is where changes are recorded, `targets` the clients."""

    def __init__(
        self,
        log: Callable[[], RecordLog],
        targets: Callable[[], UpstreamTargets],
        ids: Ids,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._log = log
        self._ids = ids
        self._clock = clock
        self.breakers = Breakers(clock.monotonic, random, self._turned)
        self.retrying = Retrying(clock.monotonic, random)
        self.addresses = AddressBook(clock.monotonic, self._shifted)
        self.health = HealthChecks(self.addresses.pools, targets, clock.monotonic, random)

    def adopt(self, upstreams: Iterable[Upstream], held: dict[str, Hold] | None = None) -> None:
        """Those of the snapshot that is in force now."""
        found = list(upstreams)
        self.breakers.adopt(found, held)
        self.retrying.adopt(found)
        self.addresses.adopt(found)

    def attempts(self, handles: Handles) -> Attempts:
        return Attempts(self.addresses, self.retrying, handles, self._clock)

    def gauges(self) -> list[Gauge]:
        """`tollgate_breaker_state` is breakers' own (assembly_planes.py), beside those of policy engines."""
        addresses, retrying = self.addresses, self.retrying
        return [
            Gauge(
                "tollgate_retries", "Calls that were sent again.", ("upstream",),
                lambda: [((name,), float(done)) for name, (done, _) in retrying.counts().items()], counts=True,
            ),
            Gauge(
                "tollgate_retries_refused", "Calls that were not sent again: the share was used up.", ("upstream",),
                lambda: [((name,), float(not_done)) for name, (_, not_done) in retrying.counts().items()], counts=True,
            ),
            Gauge(
                "tollgate_upstream_ejections", "An address was left out from then on.", ("upstream", "address"),
                lambda: [(key, float(count)) for key, count in list(addresses.ejections.items())], counts=True,
            ),
            Gauge(
                "tollgate_upstream_address_in", "1 where calls go to it, 0 where it is left out.",
                ("upstream", "address"),
                lambda: [((item.upstream, item.address), float(item.state == "in")) for item in addresses.standing()],
            ),
        ]  # fmt: skip

    def states(self) -> list[tuple[tuple[str, ...], float]]:
        """Of every breaker, as labels and number: its name, its upstream."""
        return [
            ((f"{item.upstream}/{item.tool}" if item.tool else item.upstream, item.upstream), _STATES[item.state])
            for item in self.breakers.standing()
        ]

    def _turned(self, turn: Turn) -> None:
        about: dict[str, Json] = {"upstream": turn.upstream, "from": str(turn.before), "to": str(turn.after)}
        about |= {"why": turn.why}
        if turn.tool:
            about["tool"] = turn.tool
        self._record(_ACTIONS[turn.after], {"breaker": about})

    def _shifted(self, shift: Shift) -> None:
        about: dict[str, Json] = {"upstream": shift.upstream, "address": shift.address, "why": shift.why}
        self._record("address.eject" if shift.out else "address.readmit", {"address": about})

    def _record(self, action: str, about: dict[str, Json]) -> None:
        record: dict[str, Json] = {
            "kind": "admin",
            "id": self._ids.new(),
            "time": timestamp(self._clock.time()),
            "action": action,
            "subject": {"id": "gateway", "type": "gateway"},
            **about,
        }
        _log.warning("%s: %s", action, about)
        try:
            self._log().submit(record)
        except LogUnavailable as error:
            _log.error("no record of %s: %s", action, error)


class Elsewhere(Port):
    """The workers, where there are some: they have breakers and addresses of their own."""

    @property
    def sums(self) -> Sums: ...

    async def hold(self, upstream: str, wanted: Hold) -> None: ...


class RunningUpstreams:
    """The `UpstreamDesk` port over a running gateway."""

    def __init__(
        self,
        upkeep: Upkeep,
        held: HeldBreakers,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._upkeep = upkeep
        self._held = held
        self._elsewhere = elsewhere
        self._one_act = asyncio.Lock()

    def breakers(self) -> list[Standing]:
        own = self._upkeep.breakers.standing()
        return own if self._elsewhere is None else self._elsewhere.sums.breakers(own)

    def addresses(self) -> list[AddressStanding]:
        own = self._upkeep.addresses.standing()
        return own if self._elsewhere is None else self._elsewhere.sums.addresses(own)

    async def hold(self, upstream: str, wanted: Hold) -> None:
        async with self._one_act:
            held = {**self._upkeep.breakers.held(), upstream: wanted}
            await asyncio.to_thread(self._held.write, {name: how for name, how in held.items() if how is not Hold.AUTO})
            self._upkeep.breakers.hold(upstream, wanted)
            if self._elsewhere is not None:
                await self._elsewhere.hold(upstream, wanted)


def make_upstream(name: str, found: config.Upstream, source: UpstreamCredentials | None) -> Upstream:
    """One upstream, with as many members as it has addresses where these are several."""
    first, *others = [_at(name, url, found, source) for url in found.urls or (found.url,)]
    return replace(first, members=(first, *others)) if others else first


def _at(name: str, url: str, found: config.Upstream, source: UpstreamCredentials | None) -> Upstream:
    parts = urlsplit(url)
    times = found.timeouts
    tls = found.tls
    credentials: tuple[Header, ...] = ()
    if found.credentials is not None and found.credentials.value is not None:
        value = found.credentials.value.reveal()
        scheme = found.credentials.scheme
        text = f"{scheme} {value}" if scheme else value
        credentials = ((found.credentials.header.lower().encode(), text.encode()),)
    return Upstream(
        name=name,
        protocol=found.protocol,
        scheme=parts.scheme,
        host=(parts.hostname or ""),
        port=parts.port or (443 if parts.scheme == "https" else 80),
        authority=parts.netloc,
        path=parts.path.removesuffix("/") if parts.path == "/" else parts.path,
        http=found.http,
        timeouts=Timeouts(times.connect, times.response, times.idle, times.stream_idle),
        tls=UpstreamTls(
            ca=str(tls.ca) if tls.ca else None,
            cert=str(tls.cert) if tls.cert else None,
            key=str(tls.key) if tls.key else None,
            server_name=tls.server_name,
        )
        if tls is not None
        else UpstreamTls(),
        credentials=credentials,
        source=source,
        transparent=found.auth == "transparent",
        resource=found.resource or found.url,
        on_client_gone=found.on_client_gone,
        drain_bytes=found.drain_bytes,
        drain_for=found.drain_for,
        breaker=_breaker(found.breaker),
        retries=_retries(found.retries),
        balance=_balance(found.balance or config.Balance()),
    )


def _breaker(found: config.Breaker | None) -> BreakerSettings | None:
    if found is None:
        return None
    return BreakerSettings(
        failures=found.failures,
        open_s=found.open,
        open_most_s=found.open_most,
        jitter=JITTER,
        half_open=found.half_open,
        window_s=found.window,
        calls=found.calls,
        rate=_per_mille(found.rate) if found.rate is not None else 0,
        slow_s=found.slow or 0.0,
        slow_rate=_per_mille(found.slow_rate) if found.slow is not None else 0,
        per_tool=found.per == "tool",
    )


def _retries(found: config.Retries | None) -> RetrySettings | None:
    if found is None:
        return None
    budget = int(found.budget * 1000 + 1e-6)  # never more than it says
    return RetrySettings(found.attempts, budget, found.least, found.window, found.pause)


def _balance(found: config.Balance) -> BalanceSettings:
    asked = found.health
    health = HealthSettings(asked.path, asked.every, asked.timeout, asked.failures) if asked is not None else None
    return BalanceSettings(found.by, found.failures, found.eject, found.eject_most, health)


def _per_mille(share: float) -> int:
    return max(1, round(share * 1000))
