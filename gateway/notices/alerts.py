"""Which records are worth an alert, and what it says.

1. A soft mark that a call passed: once for each budget, account, mark and period. 2. A budget that refused a call or
ended a stream: once for each budget, account and period. 3. A breaker that opened, and 4. calls that passed because the
policy engine failed (fail-open): once for each upstream or route and stretch of `repeat`. 5. A rolling period's account
is told of once a day. 6. Once an administrator has set, topped up or reset an account, what was told of it may be told
again. Two alerts of one key are one; the key comes from the record alone, so it is the same after a
restart. Pure.
"""

from __future__ import annotations

from calendar import timegm
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import strptime

import orjson

from gateway.core.accounts import amount, key_text, shown
from gateway.core.canonical import Json
from gateway.core.notices import KINDS, Adjusted, Alert

_USD = b'"usd":"'
_SIGNS = (
    b'"marks":[',
    b'"budget_exhausted"',
    b'"breaker":{',
    b'"fail_open":true',
    b'"failed_open":',
    b'"adjustment":{',
)


@dataclass(frozen=True, slots=True)
class Rules:
    """`kinds` of KINDS; `repeat` seconds."""

    kinds: frozenset[str] = frozenset(KINDS)
    repeat: float = 3600.0


class Judge:
    """Reads entries and keeps what they came to: `news` in the log's order and, for the digest, `tallies`."""

    __slots__ = ("_rules", "news", "tallies")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.news: list[Alert | Adjusted] = []
        self.tallies: Counter[str] = Counter()

    def read(self, entry: bytes) -> None:
        """One entry of the log. Most are only counted: an entry without any of the signs is not parsed."""
        if b'"kind":"outcome"' in entry:
            self.tallies["calls"] += 1
        elif b'"kind":"refusal"' in entry:
            self.tallies["refused"] += 1
        if _USD not in entry and not any(sign in entry for sign in _SIGNS):
            return
        record = orjson.loads(entry)
        usd = _members(record.get("usage")).get("usd")
        if isinstance(usd, str):
            self.tallies["usd"] += amount(usd, "usd")
        for alert in judged(record, self._rules):
            self.tallies[f"{alert.kind} {alert.about}"] += 1
            self.news.append(alert)
        adjustment = _members(record.get("adjustment"))
        if record.get("kind") == "admin" and adjustment:
            self.news.append(Adjusted(_named(adjustment)))  # 6


def judged(record: Mapping[str, Json], rules: Rules) -> Iterable[Alert]:
    """The alerts of one record, of the kinds that are wanted."""
    found = [*_marks(record), *_stops(record), *_breakers(record, rules.repeat), *_open(record, rules.repeat)]
    return [alert for alert in found if alert.kind in rules.kinds]


def _marks(record: Mapping[str, Json]) -> Iterable[Alert]:
    for entry in _list(record.get("budgets")):
        name, account, period = _account(entry, record)
        for mark in _list(entry.get("marks")):
            if not isinstance(mark, int):
                continue
            share = f"{shown(mark * 100_000, 'usd')}%"  # per mille of one: hundred thousand micros
            yield Alert(
                key=f"mark {name} {account} {mark} {period}",
                kind="mark",
                time=_time(record),
                about=name,
                title=f"Budget {name} passed {share}",
                text=f"{account} used {share} of budget {name}{_of(entry)}.",
                facts={**_facts(entry), "mark": mark, "exchange": record.get("exchange")},
                account=_named(entry),
            )


def _stops(record: Mapping[str, Json]) -> Iterable[Alert]:
    refusal = _members(record.get("refusal"))
    if refusal.get("reason") != "budget_exhausted":
        return
    entry = _members(refusal.get("budget"))
    if not entry:
        rule = str(refusal.get("rule", "")).partition(":")[0]
        entry = next((it for it in _list(record.get("budgets")) if it.get("name") == rule), {"name": rule})
    name, account, period = _account(entry, record)
    yield Alert(
        key=f"stop {name} {account} {period}",
        kind="stop",
        time=_time(record),
        about=name,
        title=f"Budget {name} is used up",
        text=f"{account} was refused by budget {name}{_of(entry)}: {refusal.get('text', '')}",
        facts={**_facts(entry), "exchange": record.get("exchange")},
        account=_named(entry),
    )


def _breakers(record: Mapping[str, Json], repeat: float) -> Iterable[Alert]:
    found = _members(record.get("breaker"))
    if found.get("to") != "open":
        return
    name = str(found.get("upstream", ""))
    about = f"{name}/{found['tool']}" if found.get("tool") else name
    yield Alert(
        key=f"breaker {about} {_stretch(record, repeat)}",
        kind="breaker",
        time=_time(record),
        about=about,
        title=f"Breaker of {about} is open",
        text=f"Calls to {about} are refused for now: {found.get('why', 'it failed too often')}.",
        facts={"upstream": name, "tool": found.get("tool"), "why": found.get("why")},
    )


def _open(record: Mapping[str, Json], repeat: float) -> Iterable[Alert]:
    if record.get("kind") != "outcome":
        return
    if _members(record.get("decision")).get("fail_open") is not True and not record.get("failed_open"):
        return
    route = str(record.get("route", ""))
    yield Alert(
        key=f"fail_open {route} {_stretch(record, repeat)}",
        kind="fail_open",
        time=_time(record),
        about=route,
        title=f"Route {route} fails open",
        text=f"The policy engine failed, and calls on route {route} pass without it (on_error: allow).",
        facts={"route": route, "exchange": record.get("exchange")},
    )


def _account(entry: Mapping[str, Json], record: Mapping[str, Json]) -> tuple[str, str, str]:
    """Its budget, its key in the one spelling, its period; of a rolling one the record's day (5)."""
    key = _key(entry)
    period = str(entry.get("period") or "")
    return str(entry.get("name", "")), key, period or _time(record)[:10]


def _key(entry: Mapping[str, Json]) -> str:
    values = entry.get("key")
    return key_text(tuple(values)) if isinstance(values, list) else ""  # type: ignore[arg-type]


def _named(entry: Mapping[str, Json]) -> str:
    """The account, in any period."""
    return f"{entry.get('name', '')} {_key(entry)}"


def _of(entry: Mapping[str, Json]) -> str:
    return f" in the period from {entry['period']}" if entry.get("period") else ""


def _facts(entry: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "budget": entry.get("name"),
        "key": entry.get("key"),
        "period": entry.get("period"),
        "unit": entry.get("unit"),
    }


def _time(record: Mapping[str, Json]) -> str:
    return str(record.get("time", ""))


def _stretch(record: Mapping[str, Json], repeat: float) -> int:
    """Which stretch of that many seconds the record is in."""
    try:
        epoch = timegm(strptime(_time(record)[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        epoch = 0
    return int(epoch // repeat)


def _members(found: Json) -> Mapping[str, Json]:
    return found if isinstance(found, dict) else {}


def _list(found: Json) -> list:  # type: ignore[type-arg]
    return found if isinstance(found, list) else []
