"""What a record says of usage and budgets, added up: a batch of the log's entries becomes sums, sans I/O.

1. An outcome counts its usage on its day, and `settled` of each of its budgets. One without usage was closed by
   recovery: one call, of which nothing is known. 2. A refusal counts as one. 3. An adjustment of an `admin` record is
   kept as it is. 4. What has another shape than the gateway writes is not guessed at: it counts as nothing and is told
   of (`unreadable`). 5. Most outcomes differ from others in numbers only: those whose deciding bytes are the same are
   read once and counted often. Members are sorted, so those from `response` on are the last of their names whatever
   callers or policy put in before, and a quote inside a string is never a bare one. Where they lie is tried first where
   the last entry had them. What is not found so is parsed. 6. An intent counts as nothing: one is told by its beginning
   (openings.py), or it has only one member `kind`, wherever that is.
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
from gateway.stores.openings import Opening, Openings

SUM_MOST: Final = 2**62 - 1  # two of them still fit into SQLite's whole numbers
SLICE_SECONDS: Final = 60  # of accounts without a period of their own: what rolling ones are made of
_AT: Final[dict[str, int]] = {name: at for at, name in enumerate(COUNTS) if name not in ("refusals", "unknown")}
_MARKS: Final = frozenset({"estimated", "unpriced"})
_UNKNOWN: Final = COUNTS.index("unknown")
_COUNTS: Final = len(COUNTS)
_KNOWN_MOST: Final = 4096
_VARIED: Final = 256  # outcomes that were not like others, before their likes are no longer sought
_OTHER: Final = b"\0"  # like nothing
_RESOURCE: Final = b',"resource":{'
_RESPONSE: Final = b',"response":{'
_SEQ: Final = b'"seq":'
_SUBJECT: Final = b',"subject":{'
_TIME: Final = b',"time":"'
_NAME: Final = b'"name":"'
_US: Final = b',"us":'
_USAGE: Final = b',"usage":{'
_END: Final = b'},"v":1}'

Dims: TypeAlias = "tuple[str, str, str, str, str, str, str, str, str]"
"""day, org, team, agent, subject, upstream, type, resource, action."""
AccountOf: TypeAlias = "tuple[str, str, str, str]"
"""budget, unit, period, key."""
Slice: TypeAlias = "tuple[str, str, str, int]"
"""budget, unit, key, the epoch second behind it."""
Counts: TypeAlias = "list[tuple[int, int]]"
"""Which of COUNTS, and how much."""
Settled: TypeAlias = "Sequence[tuple[AccountOf, int]]"


class Same:
    """Outcomes of which all that counts is the same."""

    __slots__ = ("counts", "row", "settled", "time", "times")

    def __init__(self, row: list[int], counts: Counts, settled: Settled, time: str) -> None:
        self.row: Final = row
        self.counts: Final = counts
        self.settled: Final = settled
        self.time: Final = time
        self.times = 1


class Sums:
    """One batch. `take` its entries in order, then `finish`."""

    __slots__ = (
        "_budgets", "_charges", "_counts", "_day", "_hits", "_keys", "_last", "_minute", "_moment", "_name", "_named",
        "_openings", "_resource", "_resourced", "_response", "_result", "_rows", "_same", "_subject", "_then",
        "_usage", "_used", "_varied", "_was", "adjustments", "newest", "settled", "slices", "unreadable", "used",
    )  # fmt: skip

    def __init__(self) -> None:
        self.used: dict[Dims, list[int]] = {}
        self.settled: dict[AccountOf, int] = {}
        self.slices: dict[Slice, int] = {}
        self.adjustments: list[tuple[int, dict[str, Any]]] = []
        self.unreadable: list[int] = []
        self.newest = 0  # the newest minute in which anything was settled
        self._keys: dict[tuple[str | None, ...], str] = {}
        self._rows: dict[bytes, list[int]] = {}  # 5
        self._counts: dict[bytes, Counts] = {}
        self._charges: dict[bytes, Settled] = {}
        self._same: dict[bytes, Same] = {}
        self._hits = 0
        self._varied = False
        self._minute = ""
        self._moment = 0
        self._openings = Openings()
        # Of the last outcome: how long its parts were, and those that decide what it counts as.
        self._name = self._resource = self._response = self._subject = self._usage = 0
        self._result = self._resourced = self._named = self._day = self._then = self._used = self._budgets = _OTHER
        self._was = self._openings.last
        self._last: Same | None = None

    def take(self, entries: list[tuple[int, bytes]]) -> None:
        for seq, entry in entries:
            self.add(seq, entry)

    def add(self, seq: int, entry: bytes) -> None:
        try:
            at = self._openings.at(entry)
            if at < 0:
                if _is_intent(entry):
                    return
            elif self._openings.intent(entry, at) or self._drawn(entry, at) or _is_intent(entry):
                return
            self._record(seq, orjson.loads(entry))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            self.unreadable.append(seq)  # 4

    def finish(self) -> None:
        """What was the same is counted."""
        for same in self._same.values():
            self._apply(same.row, same.counts, same.settled, same.time, same.times)
        self._same.clear()
        self._last = None

    def _record(self, seq: int, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "outcome":
            counts, settled = _counts(record.get("usage")), self._settled(record.get("budgets", ()))
            row = self._row(record)
            self._apply(row, counts, settled, record["time"], 1)
            if record.get("result") == "unknown":
                row[_UNKNOWN] += 1
        elif kind == "refusal":
            self._row(record)[1] += 1  # 2
        elif kind == "admin" and "adjustment" in record:
            adjusted(record)
            datetime.fromisoformat(record["time"])
            self.adjustments.append((seq, record))  # 3

    def _drawn(self, entry: bytes, opened: int) -> bool:
        """5: whether the entry was counted. `opened` is where the value of its `exchange` begins."""
        time = entry.rfind(b"Z") - 35  # the last one is its end, unless a vendor's word has one
        if time < 0 or entry[time : time + 9] != _TIME:
            time = entry.rfind(_TIME)
            if time < 0:
                return False
        usage = len(entry) - self._usage
        if usage < time or entry[usage : usage + 10] != _USAGE:
            usage = entry.find(_USAGE, time)
            if usage < 0:
                return False
            self._usage = len(entry) - usage
        us = _number(entry, usage) - 6
        if us < time or entry[us : us + 6] != _US:
            return False
        name = us - self._name
        if name < time or entry[name : name + 8] != _NAME:
            name = entry.rfind(_NAME, time, us)
            if name < 0:
                return False
            self._name = us - name
        subject = time - self._subject
        if subject < opened or entry[subject : subject + 12] != _SUBJECT:
            subject = entry.rfind(_SUBJECT, opened, time)
            if subject < 0:
                return False
            self._subject = time - subject
        resource = self._called(entry, opened, subject)
        if resource < 0:
            return False
        resourced = entry[resource : subject - self._response]
        return self._again(entry, resourced, entry[name:us], entry[subject : time + 19], time, usage)

    def _called(self, entry: bytes, opened: int, subject: int) -> int:
        """Where `resource` begins, which lies before the subject, in front of which `seq` is; -1 if that is not sure.
        `response` is behind it, as far from the subject as `_response` says."""
        seq = _number(entry, subject)
        if seq < 6 or entry[seq - 6 : seq] != _SEQ:
            return -1
        response = subject - self._response
        if response < opened or entry[response : response + 13] != _RESPONSE:
            response = entry.rfind(_RESPONSE, opened, subject)
            self._response = subject - response
        resource = response - self._resource
        flat = resource >= opened and entry[resource : resource + 13] == _RESOURCE
        if not flat or entry.count(b"{", resource + 1, subject) != 2:
            response = entry.rfind(_RESPONSE, opened, subject)
            self._response = subject - response
            resource = entry.rfind(_RESOURCE, opened, max(0, response))
            if resource < 0:
                return -1
            self._resource = response - resource
        result = self._result
        if entry[seq - len(result) : seq] != result:
            if entry.find(b'"result":"unknown"', response, subject) >= 0:
                return -1
            known = entry.rfind(b'},"result":"', response, seq)
            self._result = entry[known:seq] if known >= 0 else _OTHER
        return resource

    def _again(self, entry: bytes, resourced: bytes, named: bytes, day: bytes, time: int, usage: int) -> bool:
        """Counts the entry by its deciding bytes: what is called, of which upstream, by whom on which day, how much."""
        used, opening = entry[usage:], self._openings.last
        budgets = minute = b""
        if opening.charged:
            start = len(opening.charged) - 1
            budgets, minute = entry[start : start + opening.budgets + 2], entry[time + 19 : time + 25]
        if (
            opening is self._was
            and resourced == self._resourced
            and named == self._named
            and day == self._day
            and used == self._used
            and budgets == self._budgets
            and minute == self._then
        ):
            last = self._last
            if last is not None:
                last.times += 1
                self._hits += 1
                return True
        self._was, self._resourced, self._named, self._day = opening, resourced, named, day
        self._used, self._budgets, self._then = used, budgets, minute
        self._last = self._like(entry, opening, time)
        return True

    def _like(self, entry: bytes, opening: Opening, time: int) -> Same | None:
        """Counts one that is not like the last; None where its likes are not kept."""
        row = orjson.dumps(opening.action) + self._resourced + self._named + self._day
        key = b""
        if not self._varied:
            key = row + self._then + self._used + self._budgets
            same = self._same.get(key)
            if same is not None:
                same.times += 1
                self._hits += 1
                return same
        used = self._used
        end = len(used) - 7 if used.endswith(_END) else used.rfind(_END[:-1]) + 1
        counts = self._counted(used[9:end])
        settled = self._charged(self._budgets) if self._budgets else ()
        found = self._rows.get(row)
        if found is None:
            found = self._rows[row] = self._row(orjson.loads(entry))
        said = entry[time + 9 : time + 36].decode() if settled else ""
        if self._varied:
            self._apply(found, counts, settled, said, 1)
            return None
        if settled:
            self._minute_of(said)  # is it one?
        made = self._same[key] = Same(found, counts, settled, said)
        if len(self._same) >= _KNOWN_MOST:
            self.finish()
            return None
        if len(self._same) > _VARIED:
            self._varied = self._hits < 2 * len(self._same)
        return made

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

    def _apply(self, row: list[int], counts: Counts, settled: Settled, time: str, times: int) -> None:
        """Behind everything that may find a record unreadable: it counts whole or not at all."""
        for account, came in settled:
            self.settled[account] = _sum(self.settled.get(account, 0), came * times)
            name, unit, period, key = account
            if not period:
                moment = self._minute_of(time)
                part = (name, unit, key, moment + SLICE_SECONDS)
                self.slices[part] = _sum(self.slices.get(part, 0), came * times)
                self.newest = max(self.newest, moment)
        for at, count in counts:
            row[at] = _sum(row[at], count * times)

    def _minute_of(self, time: str) -> int:
        minute = time[:16]
        if minute != self._minute:
            moment = int(datetime.fromisoformat(time).timestamp())
            self._minute, self._moment = minute, moment - moment % SLICE_SECONDS
        return self._moment

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


def _is_intent(entry: bytes) -> bool:
    """6. False where that is not sure: a member of that name may be another's."""
    at = entry.find(b'"kind":"')
    return entry.startswith(b'intent"', at + 8) and entry.find(b'"kind":"', at + 8) < 0


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


def _number(entry: bytes, end: int) -> int:
    """Where the digits begin that end there."""
    while end > 0 and 0x30 <= entry[end - 1] <= 0x39:
        end -= 1
    return end


def _sum(one: int, other: int) -> int:
    return min(SUM_MOST, one + other)
