"""What the configuration says of limits and budgets.

The rule: an amount is read from its very digits, no float is ever made of it, and one that its unit cannot hold is an
error. What belongs to another kind of limit or period is an error too: nothing is silently without effect.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway import config_values as values
from gateway.config_schema import Choice, Flag, ListOf, Of, Reading, Text, Whole, option
from gateway.config_values import Rate
from gateway.config_yaml import Node
from gateway.core import accounts
from gateway.core.canonical import Json

LIMIT_KEYS: Final = (
    "subject.id", "subject.org", "team", "agent", "run", "route", "upstream", "resource.id", "peer",
)  # fmt: skip
LEAST_WINDOW_SECONDS: Final = 60
MOST_WINDOW_SECONDS: Final = 400 * 86400
_DECIMAL: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,18})?")
_NAME: Final = Text("1 to 64 letters, digits, dots, dashes or underscores", r"[A-Za-z0-9._-]{1,64}")
_KEY: Final = ListOf(Choice(LIMIT_KEYS), 1)
_PERIODS: Final = ("hour", "day", "month", "rolling", "total")
_DAYS: Final = 27  # as many days later every month can begin


@dataclass(frozen=True, slots=True)
class Amount:
    """A decimal number, as it is written."""

    def read(self, node: Node, key: str, at: Reading) -> Any:
        plain = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        text = node.raw if plain else node.value
        if not isinstance(text, str) or _DECIMAL.fullmatch(text) is None:
            return at.fail(node, key, "not a decimal number", "write it like 100 or 0.25, without an exponent")
        return Decimal(text)

    def schema(self) -> dict[str, Json]:
        return {"type": ["number", "string"], "minimum": 0, "pattern": f"^{_DECIMAL.pattern}$"}


def parse_mille(text: str) -> int:
    """`12.5%` as 125."""
    found = int(Decimal(text.removesuffix("%")) * 10)
    if not 0 < found <= 1000:
        raise ValueError("not more than 0% and at most 100%")
    return found


def parse_zone(text: str) -> str:
    """A name of the IANA time zone database that this machine knows."""
    try:
        if text != "UTC":
            ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no time zone that is known here") from None
    return text


def parse_window(text: str) -> int:
    found = values.parse_positive_duration(text)
    if found != int(found) or not LEAST_WINDOW_SECONDS <= found <= MOST_WINDOW_SECONDS:
        raise ValueError(f"not from {LEAST_WINDOW_SECONDS}s to {MOST_WINDOW_SECONDS // 86400}d in whole seconds")
    return int(found)


_SHARE: Final = Text("a share like 80%", r"[0-9]{1,3}(\.[0-9])?%", parse_mille)


@dataclass(frozen=True, slots=True)
class Limit:
    name: str = option(_NAME, why="what callers see in RateLimit-Policy", shown="per-agent")
    key: tuple[str, ...] = option(_KEY, why="counted apart for each", shown="[subject.id, route]")
    rate: Rate | None = option(
        Text("a rate like 100/minute", values.RATE, values.parse_rate), None, "over time", shown="100/minute"
    )
    burst: int | None = option(
        Whole(1, 1_000_000_000), None, "how many at once from rest; default the rate's number", shown="20"
    )
    window: str = option(
        Choice(("smooth", "sliding")), "smooth", "sliding: no more in any window, and no burst", shown="smooth"
    )
    concurrent: int | None = option(Whole(1, 1_000_000), None, "instead of rate: at the same time", example="50")
    shadow: bool = option(Flag(), False, "records say what it would refuse; it refuses nobody", shown="false")


@dataclass(frozen=True, slots=True)
class Budget:
    name: str = option(_NAME, why="what callers and records call it", shown="org-month")
    key: tuple[str, ...] = option(_KEY, why="an account for each", shown="[subject.org]")
    unit: str = option(Choice(accounts.UNITS), why="what is counted: usd, tokens, calls, bytes", shown="usd")
    amount: Decimal = option(Amount(), why="of it per account and period; then it stops", shown="100")
    period: str = option(Choice(_PERIODS), why="hour, day, month, rolling or total", shown="month")
    window: int | None = option(
        Text("a duration like 30d", values.DURATION, parse_window), None, "of a rolling period", example="30d"
    )
    zone: str = option(
        Text("a time zone like Europe/Oslo", r"[A-Za-z0-9_+/-]{1,64}", parse_zone),
        "UTC",
        "whose midnight a day or month begins at",
        shown="UTC",
    )
    anchor: int = option(Whole(0, _DAYS), 0, "a day begins so many hours later, a month so many days", shown="0")
    warn_at: tuple[int, ...] = option(ListOf(_SHARE), (), "soft marks: told once per period", shown="[50%, 80%]")
    unpriced: str = option(
        Choice(("deny", "allow")), "deny", "a call without a price; allow: recorded, counted", shown="deny"
    )
    carry: int = option(
        Text("a share like 20%", _SHARE.pattern, parse_mille), 0, "of what is left, for the next period", example="20%"
    )


def limit_wrong(found: Limit) -> str:
    if (found.rate is None) == (found.concurrent is None):
        return "exactly one of rate, concurrent is needed here"
    if found.burst is not None and found.rate is None:
        return "burst belongs to rate"
    if found.window == "sliding" and (found.rate is None or found.burst is not None):
        return "window: sliding belongs to a rate without burst"
    return ""


def budget_wrong(found: Budget) -> str:
    if (found.period == "rolling") != (found.window is not None):
        return "window belongs to period: rolling, which needs one"
    if found.zone != "UTC" and found.period not in ("day", "month"):
        return "zone belongs to a day or a month"
    if found.anchor and found.period not in ("day", "month"):
        return "anchor belongs to a day or a month"
    if found.period == "day" and found.anchor > 23:
        return "anchor of a day is 0 to 23 hours"
    if found.carry and found.period not in ("hour", "day", "month"):
        return "carry belongs to a period that ends"
    if len(set(found.key)) < len(found.key):
        return "key names something twice"
    if list(found.warn_at) != sorted(set(found.warn_at)):
        return "warn_at is not ascending"
    if found.unpriced == "allow" and found.unit != "usd":
        return "unpriced belongs to usd"
    try:
        whole = Decimal(accounts.amount(found.amount, found.unit)) == found.amount * accounts.scale(found.unit)
    except ValueError as error:
        return str(error)
    return "" if whole else f"amount is finer than {found.unit} are counted"


def check_names(limits: Sequence[Limit], budgets: Sequence[Budget], at: Reading) -> None:
    """Both are told in one breath, so their names differ."""
    taken = {found.name for found in limits}
    for found in budgets:
        if found.name in taken:
            at.at(f"budgets.{found.name}", "a limit has this name", "give it a name of its own")


LIMITS: Final = ListOf(Of(Limit, limit_wrong))
BUDGETS: Final = ListOf(Of(Budget, budget_wrong))
