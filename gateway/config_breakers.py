"""What the configuration says of upstreams that fail: breakers, retries, and how calls are spread over addresses.

The rule: nothing is tried twice and nobody is left alone unless the file says so; what it says has the bounds that a
share of all calls, or the time that a caller waits anyway, set.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass

from gateway import config_values as values
from gateway.config_schema import Choice, Of, OrNone, Text, Whole, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PERCENT = Text("a share like 1% or 0.5%", values.PERCENT, values.parse_percent)
_HEALTH_PATH = Text("a path like /healthz", r"/[\x21\x22\x24-\x7e]{0,1024}")  # with a query, without a fragment


@dataclass(frozen=True, slots=True)
class Breaker:
    """Failed: no connection, no answer in time, one that breaks off, a 5xx."""

    failures: int = option(Whole(1, 10_000), 5, "failed calls in a row open it", shown="5")
    window: float = option(_DURATION, 30.0, "what the shares below are of", shown="30s")
    calls: int = option(Whole(1, 1_000_000), 20, "the shares count from so many calls on", shown="20")
    rate: float | None = option(OrNone(_PERCENT), 0.5, "so many of them failed: it opens", shown="50%")
    slow: float | None = option(OrNone(_DURATION), None, "an answer that takes longer is slow", shown="none")
    slow_rate: float = option(_PERCENT, 0.5, "so many of them were slow: it opens", shown="50%")
    open: float = option(_DURATION, 10.0, "for so long nobody asks; doubles while it brings nothing", shown="10s")
    open_most: float = option(_DURATION, 300.0, "up to this", shown="5m")
    half_open: int = option(Whole(1, 1000), 1, "then so many calls try, and no more", shown="1")
    per: str = option(Choice(("upstream", "tool")), "upstream", "tool: one for each tool of an mcp", shown="upstream")


def _breaker_wrong(found: Breaker) -> str:
    if found.rate == 0 or found.slow_rate == 0:
        return "a share of 0% would open it always: write none, or take slow out"
    return "open_most is shorter than open" if found.open_most < found.open else ""


@dataclass(frozen=True, slots=True)
class Retries:
    attempts: int = option(Whole(2, 10), 2, "of one idempotent call altogether", shown="2")
    budget: float = option(_PERCENT, 0.1, "of the calls of the last window are sent again at most", shown="10%")
    window: float = option(_DURATION, 10.0, "that window", shown="10s")
    least: int = option(Whole(0, 1000), 1, "so many in it may be, however few calls there were", shown="1")
    pause: float = option(_DURATION, 0.025, "before the second; doubles; half to one and a half of it", shown="25ms")


@dataclass(frozen=True, slots=True)
class Health:
    path: str = option(_HEALTH_PATH, why="asked of each address with GET; below 400 is well", shown="/healthz")
    every: float = option(_DURATION, 10.0, "how often", shown="10s")
    timeout: float = option(_DURATION, 2.0, "no answer by then is none", shown="2s")
    failures: int = option(Whole(1, 1000), 2, "in a row take it out; one good answer brings it back", shown="2")


@dataclass(frozen=True, slots=True)
class Balance:
    by: str = option(
        Choice(("least_loaded", "round_robin")), "least_loaded", "which of several urls is asked", shown="least_loaded"
    )
    failures: int = option(Whole(1, 10_000), 5, "failed calls in a row eject an address, never the last", shown="5")
    eject: float = option(_DURATION, 30.0, "for so long; doubles while it brings nothing", shown="30s")
    eject_most: float = option(_DURATION, 300.0, "up to this", shown="5m")
    health: Health | None = option(Of(Health), None, "addresses are asked whether they are well")


def _balance_wrong(found: Balance) -> str:
    return "eject_most is shorter than eject" if found.eject_most < found.eject else ""


BREAKER = Of(Breaker, _breaker_wrong)
RETRIES = Of(Retries)
BALANCE = Of(Balance, _balance_wrong)
