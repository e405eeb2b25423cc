"""The sections about telling others: where usage events go, and who is alerted to what.

The rule: whoever is told is named here by the operator; tokens, secrets and Apprise's URLs (which hold passwords) are
secrets like any other. Without these sections nobody is told anything.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway import config_values as values
from gateway.config_schema import Choice, ListOf, Of, Text, Whole, option
from gateway.config_secrets import SecretRef
from gateway.config_values import Secret

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_NAME = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)
_URL = Text("an http or https URL", parse=values.parse_url)
_TYPE = Text("a type like tollgate.usage", r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def parse_zone(text: str) -> str:
    """An IANA time zone that this machine knows."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a time zone like UTC or Europe/Oslo") from None
    return text


def _parse_time(text: str) -> time:
    return time.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class UsageEvents:
    """CloudEvents in batches, at least once."""

    url: str = option(_URL, why="of the sink, as OpenMeter's", shown="https://meter.example/api/v1/events")
    token: Secret | None = option(SecretRef(), None, "its bearer token", example="{file: /run/secrets/meter}")
    type: str = option(_TYPE, "tollgate.usage", "the events' type", shown="tollgate.usage")
    subject: str = option(
        Choice(("subject.org", "team", "agent", "subject.id")),
        "subject.org",
        "whose usage it is; who has none is named by subject.id",
        shown="subject.org",
    )
    batch: int = option(Whole(1, 1000), 100, "the most events in one request", shown="100")
    every: float = option(_DURATION, 1.0, "how often the log is looked at", shown="1s")


@dataclass(frozen=True, slots=True)
class Usage:
    events: UsageEvents | None = option(Of(UsageEvents), None, "each outcome goes there as a CloudEvent")


@dataclass(frozen=True, slots=True)
class AlertWebhook:
    name: str = option(_NAME, why="what metrics and log lines call it", shown="ops")
    url: str = option(_URL, why="gets each alert as a signed POST", shown="https://ops.example/tollgate")
    secret: Secret | None = option(
        SecretRef(), None, "whsec_...; without it the gateway's own key signs", example="{file: /run/secrets/ops}"
    )


@dataclass(frozen=True, slots=True)
class AlertApprise:
    name: str = option(_NAME, why="what metrics and log lines call it", shown="mail")
    url: Secret = option(SecretRef(), why="Apprise's URL, like mailtos://...", shown="{file: /run/secrets/mail}")


@dataclass(frozen=True, slots=True)
class AlertDigest:
    at: time = option(
        Text("a time of day like 08:00", r"([01]\d|2[0-3]):[0-5]\d", _parse_time), why="every day", shown='"08:00"'
    )
    zone: str = option(Text("an IANA time zone", parse=parse_zone), "UTC", "of that time", shown="UTC")


_ON = ListOf(Choice(("mark", "stop", "breaker", "fail_open")))


@dataclass(frozen=True, slots=True)
class Alerts:
    on: tuple[str, ...] = option(
        _ON,
        ("mark", "stop", "breaker", "fail_open"),
        "soft marks, budget stops, breakers that open, calls that pass while policy fails",
        shown="[mark, stop, breaker, fail_open]",
    )
    repeat: float = option(_DURATION, 3600.0, "breaker, fail_open: the same once in each stretch of this", shown="1h")
    webhooks: tuple[AlertWebhook, ...] = option(ListOf(Of(AlertWebhook)), (), "who is told", example="ops")
    apprise: tuple[AlertApprise, ...] = option(
        ListOf(Of(AlertApprise)), (), "mail and chat (extra alerts)", example="mail"
    )
    digest: AlertDigest | None = option(Of(AlertDigest), None, "a daily summary to all of them")


def _alerts_wrong(found: Alerts) -> str:
    names = [*(item.name for item in found.webhooks), *(item.name for item in found.apprise)]
    return "two channels have one name" if len(set(names)) < len(names) else ""


USAGE = Of(Usage)
ALERTS = Of(Alerts, _alerts_wrong)
