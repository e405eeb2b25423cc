"""What a period comes to by the log alone: lines per organisation and resource, and what was settled of each account.

Own code path: nothing here is shared with the book of usage or the ledger, whose sums it judges. It is fed while the
log is verified (verify.py), every entry once, in order; what it says counts only if that says yes.
1. A line counts the outcomes of its days (UTC, by the record's time) before `ends`. 2. `judged` counts what the ledger
says to have counted: everything before `counted`. 3. Money is Decimal, from decimal strings; no float gets near it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from gateway.core.canonical import Json

MEASURES: Final = ("calls", "input_tokens", "output_tokens", "bytes_in", "bytes_out", "usd")
MARKS: Final = ("estimated", "unpriced", "unknown")

LineKey = tuple[str, str, str]
"""Organisation, type and id of the resource."""
AccountKey = tuple[str, str, str, str]
"""Budget, unit, period and the key as a JSON array."""


@dataclass
class Line:
    """What one organisation used of one resource."""

    amounts: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(MEASURES, Decimal(0)))
    marks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MARKS, 0))

    def add(self, record: Mapping[str, Any]) -> None:
        usage: Mapping[str, Any] = record.get("usage") or {"calls": 1}
        for name in MEASURES:
            self.amounts[name] += Decimal(usage.get(name, 0))
        self.marks["estimated"] += usage.get("estimated") is True
        self.marks["unpriced"] += usage.get("unpriced") is True
        self.marks["unknown"] += record.get("result") == "unknown"

    def record(self) -> dict[str, Json]:
        found: dict[str, Json] = {name: int(self.amounts[name]) for name in MEASURES if name != "usd"}
        return (
            found | {"usd": money(self.amounts["usd"])} | {name: count for name, count in self.marks.items() if count}
        )


class Bill:
    """`first` and `last` are days, both included. `ends`: how many entries a checkpoint covers that the ledger has
    counted too; `counted`: how many the ledger says to have counted."""

    def __init__(self, first: str, last: str, ends: int, counted: int) -> None:
        self._first = first
        self._last = last
        self._ends = ends
        self._counted = counted
        self.lines: dict[LineKey, Line] = {}
        self.judged: dict[LineKey, Line] = {}
        self.accounts: dict[AccountKey, Decimal] = {}  # everything that was ever settled
        self.forgiven: dict[AccountKey, Decimal] = {}
        self.left_out = 0  # outcomes of the days that are not in the lines yet
        self.seen = 0  # entries
        self.unreadable: list[str] = []

    def add(self, seq: int, entry: bytes) -> None:
        self.seen += 1
        if b'"outcome"' not in entry and b'"adjustment"' not in entry:
            return
        try:
            self._add(seq, json.loads(entry))
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            self.unreadable.append(f"entry {seq}: {type(error).__name__}")

    def _add(self, seq: int, record: dict[str, Any]) -> None:
        if record.get("kind") == "admin" and "adjustment" in record and seq < self._counted:
            said = record["adjustment"]
            account = _account(said)
            self.forgiven[account] = self.forgiven.get(account, Decimal(0)) + Decimal(said.get("forgiven", 0))
        if record.get("kind") != "outcome":
            return
        if seq < self._counted:  # 2
            self._settle(record)
        if not self._first <= str(record.get("time", ""))[:10] <= self._last:
            return
        key = _line(record)
        if seq < self._ends:  # 1
            self.lines.setdefault(key, Line()).add(record)
        else:
            self.left_out += 1
        if seq < self._counted:
            self.judged.setdefault(key, Line()).add(record)

    def _settle(self, record: Mapping[str, Any]) -> None:
        for item in record.get("budgets", ()):
            account = _account(item)
            self.accounts[account] = self.accounts.get(account, Decimal(0)) + Decimal(item["settled"])  # 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One sum that the ledger has and the log says otherwise."""

    what: str
    log: str
    ledger: str

    def record(self) -> dict[str, Json]:
        return {"what": self.what, "log": self.log, "ledger": self.ledger}

    def __str__(self) -> str:
        return f"{self.what}: {self.log} by the log, {self.ledger} by the ledger"


def differing_accounts(log: Mapping[AccountKey, Decimal], ledger: Mapping[AccountKey, Decimal]) -> list[Difference]:
    """Both ways: an account that only one of them has counts as 0 with the other."""
    found = []
    for account in sorted({*log, *ledger}):
        one, other = log.get(account, Decimal(0)), ledger.get(account, Decimal(0))
        if one != other:
            budget, unit, period, key = account
            what = f"{budget} {key}{f' from {period}' if period else ''}, {unit}"
            found.append(Difference(what, money(one), money(other)))
    return found


def differing_lines(log: Mapping[LineKey, Line], ledger: Mapping[LineKey, Mapping[str, Decimal]]) -> list[Difference]:
    """The same for usage."""
    found = []
    nothing: Mapping[str, Decimal] = {}
    for key in sorted({*log, *ledger}):
        line, other = log.get(key, Line()).amounts, ledger.get(key, nothing)
        for name in MEASURES:
            said = other.get(name, Decimal(0))
            if line[name] != said:
                what = " ".join(part or "-" for part in key)
                found.append(Difference(f"{what}, {name}", money(line[name]), money(said)))
    return found


def grouped(lines: Mapping[LineKey, Line], by: tuple[str, ...]) -> dict[tuple[str, ...], Line]:
    """The lines by fewer names: of `org`, `type` and `resource`."""
    places = [("org", "type", "resource").index(name) for name in by]
    found: dict[tuple[str, ...], Line] = {}
    for key in sorted(lines):
        line, group = lines[key], tuple(key[place] for place in places)
        into = found.setdefault(group, Line())
        for name in MEASURES:
            into.amounts[name] += line.amounts[name]
        for name in MARKS:
            into.marks[name] += line.marks[name]
    return found


def money(value: Decimal) -> str:
    """Without an exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _account(item: Mapping[str, Any]) -> AccountKey:
    key = json.dumps(item["key"], separators=(",", ":"))
    return str(item["name"]), str(item["unit"]), str(item.get("period", "")), key


def _line(record: Mapping[str, Any]) -> LineKey:
    subject, resource = record.get("subject") or {}, record.get("resource") or {}
    return str(subject.get("org", "")), str(resource.get("type", "")), str(resource.get("id", ""))
