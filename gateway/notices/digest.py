"""When the daily digest is due, and what it says. Pure.

The rule: it is due at one time of day in one zone. Where the clock was put forward over that time it comes as much
later; where it was put back, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.core.accounts import shown
from gateway.core.notices import DIGEST, KINDS, Alert
from gateway.core.records import timestamp

_SAYS = {
    "mark": "soft marks passed",
    "stop": "calls stopped by a budget",
    "breaker": "breakers opened",
    "fail_open": "calls passed while policy failed",
    "dropped": "alerts dropped, for this channel was full",
}


@dataclass(frozen=True, slots=True)
class Daily:
    """`at` is the time of day, `zone` an IANA name."""

    at: time
    zone: str = "UTC"

    def after(self, now: float) -> float:
        """The first time it is due after `now`, epoch seconds."""
        zone = ZoneInfo(self.zone)
        day = datetime.fromtimestamp(now, zone).date()
        for more in range(3):
            due = datetime.combine(day + timedelta(days=more), self.at, zone).timestamp()
            if due > now:
                return due
        raise ValueError(f"{self.zone} has no {self.at} in two days")


def digest(tallies: Mapping[str, int], now: float, most: int = 20) -> Alert:
    """What happened since the last one, the most frequent first."""
    calls, refused, usd = (tallies.get(name, 0) for name in ("calls", "refused", "usd"))
    lines = [f"{calls} calls, {refused} refused, {shown(usd, 'usd')} usd."]
    for kind in (*KINDS, "dropped"):
        found = [(name.partition(" ")[2], n) for name, n in tallies.items() if name.startswith(f"{kind} ")]
        if found:
            found.sort(key=lambda item: (-item[1], item[0]))
            listed = ", ".join(f"{about} {n}" for about, n in found[:most])
            rest = f" and {len(found) - most} more" if len(found) > most else ""
            lines.append(f"{_SAYS[kind]}: {listed}{rest}")
    when = timestamp(now)
    return Alert(
        key=f"digest {when}",
        kind=DIGEST,
        time=when,
        about="",
        title="Daily digest",
        text="\n".join(lines),
        facts={"calls": calls, "refused": refused, "usd": shown(usd, "usd")},
    )
