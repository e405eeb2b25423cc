"""Telling others, put together: the sink of usage events, and alerts with their channels.

The rule: what is not configured does not exist: no file, no task, no key. Both begin with what is published after the
first start that has them, and go on from there over restarts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway import config
from gateway.core.fetching import Fetcher
from gateway.core.ids import Ids
from gateway.core.notices import Channel
from gateway.core.ports import Clock
from gateway.log.entries import EntryReader
from gateway.notices.alerting import Alerting, AlertSettings
from gateway.notices.alerts import Rules
from gateway.notices.cloudevents import EventForm
from gateway.notices.digest import Daily
from gateway.notices.signing import Sign, own_key, shared_secret
from gateway.notices.usage_events import EventSettings, UsageEvents
from gateway.notices.webhook import Webhook
from gateway.stores.notices import SqliteAlertBook, SqlitePlaces
from gateway.telemetry import Gauge
from gateway.trust.keys import KeyRing


class CannotTell(Exception):
    """A channel cannot be used as it is configured; `args[0]` says which and why."""


class Notices:
    """`published`: how many records the log's files show now. Raises CannotTell, StoreFailed, KeyRingError."""

    def __init__(
        self,
        settings: config.Settings,
        *,
        fetcher: Fetcher,
        ring: KeyRing,
        node: str,
        published: int,
        ids: Ids,
        clock: Clock,
    ) -> None:
        entries = EntryReader(settings.data_dir / "log")
        self.events: UsageEvents | None = None
        self.alerting: Alerting | None = None
        self._close: list[Callable[[], None]] = []
        found = settings.usage.events
        if found is not None:
            places = SqlitePlaces(settings.data_dir / "events.sqlite")
            self._close.append(places.close)
            self.events = UsageEvents(_events(found, node), entries, places, fetcher, published, random.random)
        alerts = settings.alerts
        if alerts is not None:
            channels = self._channels(alerts, fetcher, ring, node, clock)
            book = SqliteAlertBook(settings.data_dir / "alerts.sqlite", ids.new)
            daily = Daily(alerts.digest.at, alerts.digest.zone) if alerts.digest is not None else None
            told = AlertSettings(Rules(frozenset(alerts.on), alerts.repeat), daily)
            self.alerting = Alerting(told, channels, entries, book, published, clock, random.random)
            self._close += [self.alerting.close, book.close]

    def jobs(self) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs in the background."""
        if self.events is not None:
            yield "usage events", self.events.run()
        if self.alerting is not None:
            yield "alerts", self.alerting.run()

    def close(self) -> None:
        """Once its jobs have ended."""
        for close in self._close:
            close()

    def _channels(
        self, alerts: config.Alerts, fetcher: Fetcher, ring: KeyRing, node: str, clock: Clock
    ) -> list[Channel]:
        found: list[Channel] = []
        for item in alerts.webhooks:
            try:
                sign = shared_secret(item.secret.reveal()) if item.secret is not None else _own(ring)
            except ValueError as error:
                raise CannotTell(f"alerts.webhooks {item.name}: {error}") from None
            found.append(Webhook(item.name, item.url, sign, node, fetcher, clock.time))
        if alerts.apprise:
            try:
                from gateway.notices.by_apprise import ByApprise, Unusable
            except ImportError:
                raise CannotTell("alerts.apprise needs the extra: install tollgate[alerts]") from None
            for mail in alerts.apprise:
                try:
                    channel = ByApprise(mail.name, mail.url.reveal(), node)
                except Unusable as error:
                    raise CannotTell(str(error)) from None
                self._close.append(channel.close)
                found.append(channel)
        return found


def notice_gauges(notices: Callable[[], Notices]) -> list[Gauge]:
    """What is told, for metrics; nothing is shown of what is not configured."""

    def sent() -> Iterable[tuple[tuple[str, ...], float]]:
        events = notices().events
        return [] if events is None else [((), float(events.sent))]

    def refused() -> Iterable[tuple[tuple[str, ...], float]]:
        events = notices().events
        return [] if events is None else [((), float(events.refused))]

    def told() -> Iterable[tuple[tuple[str, ...], float]]:
        alerting = notices().alerting
        return [] if alerting is None else [((name,), float(n)) for name, n in alerting.sent.items()]

    def failed() -> Iterable[tuple[tuple[str, ...], float]]:
        alerting = notices().alerting
        return [] if alerting is None else [((name,), float(n)) for name, n in alerting.failed.items()]

    return [
        Gauge("tollgate_usage_events", "Usage events that the sink took.", (), sent, counts=True),
        Gauge("tollgate_usage_events_refused", "Usage events that it called wrong.", (), refused, counts=True),
        Gauge("tollgate_alerts", "Alerts that were taken.", ("channel",), told, counts=True),
        Gauge("tollgate_alerts_failed", "Messages that were not taken.", ("channel",), failed, counts=True),
    ]


def _events(found: config.UsageEvents, node: str) -> EventSettings:
    return EventSettings(
        url=found.url,
        token=found.token.reveal() if found.token is not None else "",
        form=EventForm(node, found.type, found.subject),
        batch=found.batch,
        every=found.every,
    )


def _own(ring: KeyRing) -> Sign:
    """Signs with the key that is current then; the first one is made now."""
    first = ring.ensure("webhooks")
    return own_key(lambda content: (ring.current("webhooks") or first).sign(content))
