"""What a record says of usage and budgets, added up: a batch of the log's entries becomes sums, sans I/O.

1. An outcome counts its usage on its day, and `settled` of each of its budgets. One without usage was closed by
   recovery: one call, of which nothing is known. 2. A refusal counts as one. 3. An adjustment of an `admin` record is
   kept as it is. 4. What has another shape than the gateway writes is not guessed at: it counts as nothing and is told
   of (`unreadable`). 5. Most outcomes differ from others in numbers only, so the row that they count in is found by the
   bytes that decide it. Members are sorted, so those from `response` on are the last of their names whatever callers or
   policy put in before, and a quote inside a string is never a bare one. What is not found so is parsed.
A sum never passes SUM_MOST: an upstream that says absurd numbers cannot break the book of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson

from gateway.core.accounts import amount, key_text
from gateway.core.canonical import Json
from gateway.core.usage import COUNTS

SUM_MOST: Final = 2**62 - 1  # two of them still fit into SQLite's whole numbers
SLICE_SECONDS: Final = 60  # of accounts without a period of their own: what rolling ones are made of
_AT: Final[dict[str, int]] = {name: at for at, name in enumerate(COUNTS) if name not in ("refusals", "unknown")}
_MARKS: Final = frozenset({"estimated", "unpriced"})
_UNKNOWN: Final = COUNTS.index("unknown")
_COUNTS: Final = len(COUNTS)
_KNOWN_MOST: Final = 4096

Dims: TypeAlias = "tuple[str, str, str, str, str, str, str, str, str]"
"""day, org, team, agent, subject, upstream, type, resource, action."""
AccountOf: TypeAlias = "tuple[str, str, str, str]"
"""budget, unit, period, key."""
Slice: TypeAlias = "tuple[str, str, str, int]"
"""budget, unit, key, the epoch second behind it."""
Counts: TypeAlias = "list[tuple[int, int]]"
"""Which of COUNTS, and how much."""
Settled: TypeAlias = "Sequence[tuple[AccountOf, int]]"


class Sums:
    """One batch. `add` its entries in order."""

    __slots__ = (
        "_charges",
        "_counts",
        "_keys",
        "_rows",
        "adjustments",
        "newest",
        "settled",
        "slices",
        "unreadable",
        "used",
    )

    def __init__(self) -> None:
        self.used: dict[Dims, list[int]] = {}
        self.settled: dict[AccountOf, int] = {}
        self.slices: dict[Slice, int] = {}
        self.adjustments: list[tuple[int, dict[str, Any]]] = []
        self.unreadable: list[int] = []
        self.newest = 0  # the newest moment that anything was settled at
        self._keys: dict[tuple[str | None, ...], str] = {}
        self._rows: dict[bytes, list[int]] = {}  # 5
        self._counts: dict[bytes, Counts] = {}
        self._charges: dict[bytes, Settled] = {}

    def add(self, seq: int, entry: bytes) -> None:
        try:
            at = entry.find(b'"kind":"')
            if entry.find(b'"kind":"', at + 8) < 0:  # the only member of that name, so it is the record's
                if entry.startswith(b'intent"', at + 8):
                    return
                if entry.startswith(b'outcome"', at + 8) and self._drawn(entry):
                    return
            self._record(seq, orjson.loads(entry))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            self.unreadable.append(seq)  # 4

    def _record(self, seq: int, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "outcome":
            counts, settled = _counts(record.get("usage")), self._settled(record.get("budgets", ()))
            row = self._row(record)
            self._apply(row, counts, settled, record["time"])
            if record.get("result") == "unknown":
                row[_UNKNOWN] += 1
        elif kind == "refusal":
            self._row(record)[1] += 1  # 2
        elif kind == "admin" and "adjustment" in record:
            adjusted(record)
            datetime.fromisoformat(record["time"])
            self.adjustments.append((seq, record))  # 3

    def _drawn(self, entry: bytes) -> bool:
        """5: whether the entry was counted."""
        end = entry.rfind(b',"response":{')
        resource = entry.rfind(b',"resource":{', 0, end)
        subject = entry.rfind(b',"subject":{')
        time = entry.rfind(b',"time":"')
        used = entry.rfind(b',"usage":{')
        upstream = entry.rfind(b'"name":"', time, used)
        acted = entry.find(b'",', 11)
        if end < 0 or used < 0 or resource < 0 or subject < end or time < subject or upstream < 0 or acted < 0:
            return False
        if entry.find(b'"result":"unknown"', end, subject) >= 0 or not entry.startswith(b'{"action":"'):
            return False
        budgets = b""
        if entry.startswith(b'"budgets":[', acted + 2):
            budgets = entry[acted + 12 : entry.find(b'],"decision":{', acted) + 1]
            if not budgets:
                return False
        name = entry[upstream : entry.find(b"}", upstream)]
        decides = entry[:acted] + entry[resource:end] + entry[subject : time + 19] + name
        counts = self._counted(entry[used + 9 : entry.rfind(b'},"v":1') + 1])
        settled = self._charged(budgets) if budgets else ()
        row = self._rows.get(decides)
        if row is None:
            row = self._rows[decides] = self._row(orjson.loads(entry))
        self._apply(row, counts, settled, entry[time + 9 : time + 36].decode() if settled else "")
        return True

    def _counted(self, usage: bytes) -> Counts:
        """Many calls used the same."""
        found = self._counts.get(usage)
        if found is None:
            if len(self._counts) >= _KNOWN_MOST:
                self._counts.clear()
            found = self._counts[usage] = _counts(orjson.loads(usage))
        return found

    def _charged(self, budgets: bytes) -> Settled:
        found = self._charges.get(budgets)
        if found is None:
            if len(self._charges) >= _KNOWN_MOST:
                self._charges.clear()
            found = self._charges[budgets] = self._settled(orjson.loads(budgets))
        return found

    def _apply(self, row: list[int], counts: Counts, settled: Settled, time: str) -> None:
        """Behind everything that may find a record unreadable: it counts whole or not at all."""
        moment = 0
        for account, came in settled:
            self.settled[account] = _sum(self.settled.get(account, 0), came)
            name, unit, period, key = account
            if not period:
                moment = moment or int(datetime.fromisoformat(time).timestamp())
                part = (name, unit, key, moment - moment % SLICE_SECONDS + SLICE_SECONDS)
                self.slices[part] = _sum(self.slices.get(part, 0), came)
                self.newest = max(self.newest, moment)
        for at, count in counts:
            row[at] = _sum(row[at], count)

    def _settled(self, budgets: Sequence[dict[str, Any]]) -> Settled:
        return [
            ((item["name"], item["unit"], item.get("period", ""), self._key(item["key"])),
             whole(item["settled"], item["unit"]))
            for item in budgets
        ]  # fmt: skip

    def _key(self, values: list[str | None]) -> str:
        parts = tuple(values)
        found = self._keys.get(parts)
        if found is None:
            if len(self._keys) >= _KNOWN_MOST:
                self._keys.clear()
            found = self._keys[parts] = key_text(parts)
        return found

    def _row(self, record: dict[str, Any]) -> list[int]:
        subject: dict[str, Any] = record.get("subject") or {}
        resource: dict[str, Any] = record.get("resource") or {}
        upstream: dict[str, Any] = record.get("upstream") or {}
        dims: Dims = (
            record["time"][:10], subject.get("org") or "", subject.get("team") or "", subject.get("agent") or "",
            subject.get("id") or "", upstream.get("name") or "", resource.get("type") or "", resource.get("id") or "",
            record.get("action") or "",
        )  # fmt: skip
        row = self.used.get(dims)
        if row is None:
            row = self.used[dims] = [0] * _COUNTS
        return row


def whole(text: str, unit: str) -> int:
    """A record's decimal string in the ledger's whole numbers. Raises ValueError."""
    if unit == "usd":
        dollars, _, part = text.partition(".")
        if len(part) <= 6 and len(dollars) <= 10 and text.isascii() and (dollars + part).isdecimal() and dollars:
            return int(dollars) * 1_000_000 + int(part.ljust(6, "0"))
    elif len(text) <= 15 and text.isascii() and text.isdecimal():
        return int(text)
    return amount(text, unit)


def adjusted(record: dict[str, Any]) -> tuple[dict[str, Json], AccountOf]:
    """The adjustment of an admin record with amounts in whole numbers, and its account. Raises what `add` takes for
    unreadable."""
    found: dict[str, Any] = record["adjustment"]
    unit: str = found["unit"]
    made: dict[str, Json] = {
        "most": whole(found["most"], unit) if "most" in found else None,
        "unset": bool(found.get("unset", False)),
        "granted": whole(found.get("granted", "0"), unit),
        "until": int(found.get("until", 0)),
        "forgiven": whole(found.get("forgiven", "0"), unit),
    }
    return made, (found["name"], unit, found.get("period", ""), key_text(tuple(found["key"])))


def _counts(usage: dict[str, Any] | None) -> Counts:
    if usage is None:
        return [(0, 1)]  # 1
    found: Counts = []
    for name, said in usage.items():
        at = _AT.get(name)
        if at is None:
            continue
        if name == "usd":
            found.append((at, whole(said, "usd")))
        elif type(said) is int and said >= 0:
            found.append((at, said))
        elif said is True and name in _MARKS:
            found.append((at, 1))
        else:
            raise ValueError(f"{name} is {said!r}")
    return found


def _sum(one: int, other: int) -> int:
    return min(SUM_MOST, one + other)
