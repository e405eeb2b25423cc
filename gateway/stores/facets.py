"""What the index of records keeps of a portion of the log: which values occur in it, in which exchanges, and when.

It may say too much, for what it points at is read and looked at; it must never miss anything. Entries are canonical
JSON, and one gateway's differ in a few places only. So intents and outcomes are read by position: a few fragments that
were parsed once are compared or looked up, the rest lies at fixed distances from them. Whatever has another shape is
parsed. Where a caller's text may stand, only what no string can contain is trusted: a quote that is not escaped.

1. An entry's own `exchange`, and before it `action` and `decision`, are told by openings.py. Its value has 36 bytes,
   none of them a quote or a backslash, and a quote ends it. The first `id` behind it, as long, and `kind` follow; only
   `fault` and `filtered` may stand between, which have no member of that name.
2. An intent has no refusal. In an outcome it would be an object right before `request`, where else a string ends.
3. `time` has 27 bytes, and its `Z` is the last: behind it are only `trace_id`, `upstream`, `us`, `usage` and `v`, with
   lower case in them; if not, no `time` begins where it must. Right before it ends `subject`, before that stands `seq`,
   as long as it must be, and before that `route`: each fragment is a whole member, so all are of one object.
4. An intent that ends with the same `upstream` and `v` as the one before has its `time` where that had it, if
   `trace_id` stands between: that is always 32 hexadecimal digits.
"""

from __future__ import annotations

from array import array
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from gateway.stores.openings import Openings

MEMBERS: Final = ("subject", "action", "route", "kind", "effect", "reason")
"""By which records are sought, besides `exchange` and `time`; the order of a Facet."""

Facet: TypeAlias = "tuple[str | None, ...]"

ID_BYTES: Final = 36
MOMENT: Final = 11  # of an id: its time, by quarters of a second
SECOND: Final = 19  # of a time: its second
_CODE_BYTES: Final = 4  # of an id, the last: 16 random bits

_KNOWN_MOST = 4096  # fragments remembered, of each kind
_KNOWN_BYTES = 1024  # of one; longer ones are parsed each time
_NEAR: Final = 448  # bytes from `kind` in which `request` is sought, and from the end in which `time` is
_OTHER: Final = b"-"  # no entry is like that
_REMAINING: Final = b'"remaining":'
_REQUEST: Final = b',"request":{'
_ROUTE: Final = b',"route":"'
_SUBJECT: Final = b',"subject":{'
_TRACE: Final = b'Z","trace_id":"'
_LAST: Final = len(_TRACE) - 1 + 32  # bytes from the end of `time` to that of `trace_id`
_TIME: Final = b',"time":"'


class Portion(NamedTuple):
    """`first` and `last`: the seconds between which its records were made. `low` and `high`: the least and the greatest
    MOMENT of the exchange ids; as ids begin with their time, these alone say that most portions have no record of an
    exchange. `codes`: `code_of` each id. `facets`: the combinations that occur. `size`: bytes of its entries."""

    first: str
    last: str
    low: str
    high: str
    codes: bytes
    facets: frozenset[Facet]
    size: int


def facet_of(record: dict[str, Any]) -> Facet:
    subject, decision, refusal = record.get("subject"), record.get("decision"), record.get("refusal")
    return (
        subject.get("id") if subject else None,
        record.get("action"),
        record.get("route"),
        record["kind"],
        decision.get("effect") if decision else None,
        refusal.get("reason") if refusal else None,
    )


def code_of(exchange: str) -> int:
    """By which it is found in an array of `codes`."""
    return array("I", exchange.encode()[-_CODE_BYTES:].rjust(_CODE_BYTES))[0]


class PortionReader:
    """`read` is for one thread."""

    def __init__(self) -> None:
        self._openings: Final = Openings()
        self._subjects: dict[bytes, str | None] = {}
        self._routes: dict[bytes, str] = {}
        # The fragments of the entry before, most often those of the next, and what they say:
        self._opening = self._openings.last
        self._last = self._route = self._subject = _OTHER
        self._outcome: list[bytes] = [b"-"]  # from `kind` on up to `request`, without the numbers in `limits`
        self._tail = 0  # bytes from the "Z" of `time` on, in an intent that ends with `_last`
        self._action: str | None = None
        self._effect: str | None = None
        self._who: str | None = None
        self._where = ""
        self._intent_seen = self._outcome_seen = False  # with these three
        self._moment = b"-"
        # Of the portion that is being read:
        self._facets: set[Facet] = set()
        self._ids: list[bytes] = []
        self._seconds: set[bytes] = set()
        self._moments: set[bytes] = set()

    def read(self, entries: list[tuple[int, bytes]]) -> Portion:
        """Of (seq, entry) in order, at least one."""
        self._begin()
        digits = more = size = 0
        for seq, entry in entries:
            if seq >= more:
                digits = len(str(seq))
                more = 10**digits
            size += len(entry)
            if not self._by_position(entry, digits):
                self._by_parsing(entry)
        ids = b"".join(self._ids)
        if _ends(ids) or _ends(b"".join(self._seconds)):  # 1, 3
            self._begin()
            for _, entry in entries:
                self._by_parsing(entry)
            ids = b"".join(self._ids)
        seconds, moments = sorted(self._seconds), sorted(self._moments) or [b""]
        codes = memoryview(ids).cast("I")[ID_BYTES // _CODE_BYTES - 1 :: ID_BYTES // _CODE_BYTES]
        return Portion(
            _text(seconds[0]),
            _text(seconds[-1]),
            _text(moments[0]),
            _text(moments[-1]),
            codes.tobytes(),
            frozenset(self._facets),
            size,
        )

    def _begin(self) -> None:
        self._facets, self._ids, self._seconds, self._moments = set(), [], set(), set()
        self._intent_seen = self._outcome_seen = False
        self._subject = self._moment = b"-"  # what they say of time is of this portion

    def _by_parsing(self, entry: bytes) -> None:
        record = orjson.loads(entry)
        self._facets.add(facet_of(record))
        self._seconds.add(record["time"].encode()[:SECOND])
        if "exchange" in record:
            exchange = record["exchange"].encode()
            self._moments.add(exchange[:MOMENT])
            self._ids.append(exchange[-ID_BYTES:].rjust(ID_BYTES))

    def _by_position(self, entry: bytes, digits: int) -> bool:
        """False, and nothing is taken, if the entry has not the common shape."""
        at = self._opened(entry)
        if at < 0 or len(entry) < at + 98 or entry[at + 36] != 0x22:
            return False
        kind = at + 80 if entry[at + 39] != 0x66 else _find_kind(entry, at + 36)  # "f" as in fault or filtered
        intent = entry[kind + 10] == 0x69
        if intent:
            if entry[kind : kind + 18] != b'","kind":"intent",':
                return False
            end = len(entry) - self._tail
            if not entry.endswith(self._last) or end < at or entry[end : end + 15] != _TRACE:  # 4
                end = self._find_last(entry)
        else:
            if not self._is_outcome(entry, kind) and not self._find_outcome(entry, kind):  # 2
                return False
            upto, _, _ = entry[-_NEAR:].rpartition(b"Z")  # 3
            end = max(0, len(entry) - _NEAR) + len(upto)
        end -= 7  # the second ends, then a point and six digits
        start = end - len(self._subject) - digits - len(self._route)
        part = entry[max(start, at) : end]
        if start < at or not part.startswith(self._route) or not part.endswith(self._subject):
            start = end - len(self._subject) if part.endswith(self._subject) else self._find_subject(entry, at, end)
            if not self._find_route(entry, at, start - digits):
                return False
        exchange = entry[at : at + 36]
        self._ids.append(exchange)
        if not exchange.startswith(self._moment):
            self._moment = exchange[:MOMENT]
            self._moments.add(self._moment)
        if intent:
            if not self._intent_seen:
                self._intent_seen = True
                self._facets.add((self._who, self._action, self._where, "intent", self._effect, None))
        elif not self._outcome_seen:
            self._outcome_seen = True
            self._facets.add((self._who, self._action, self._where, "outcome", self._effect, None))
        return True

    def _is_outcome(self, entry: bytes, at: int) -> bool:
        """Whether all from `kind` at `at` up to `request` is as it was, but for numbers."""
        for part in self._outcome:
            end = at + len(part)
            if entry[at:end] != part:
                return False
            at = end
            while 0x30 <= entry[at] <= 0x39:
                at += 1
        return True

    # Each of these makes another fragment the one to compare with, after it was parsed some time.

    def _opened(self, entry: bytes) -> int:
        """Where the value of `exchange` begins, -1 if that is not known."""
        at = self._openings.at(entry)
        found = self._openings.last
        if at >= 0 and found is not self._opening:
            self._opening = found
            if found.action != self._action or found.effect != self._effect:
                self._action, self._effect = found.action, found.effect
                self._intent_seen = self._outcome_seen = False
        return at

    def _find_outcome(self, entry: bytes, start: int) -> bool:
        """Whether `kind` is an outcome's and no object ends before `request`; `start` is where `kind` begins."""
        before, request, _ = entry[start : start + _NEAR].partition(_REQUEST)
        if not before.startswith(b'","kind":"outcome"') or not before.endswith(b'"') or not request:
            return False
        first, *more = (before + request).split(_REMAINING)
        self._outcome = [first]
        for part in more:
            self._outcome[-1] += _REMAINING
            self._outcome.append(part.lstrip(b"0123456789"))
        return True

    def _find_last(self, entry: bytes) -> int:
        """Where the "Z" of an intent's `time` is; what comes behind `trace_id` is remembered."""
        upto, _, behind = entry.rpartition(b"Z")
        last = behind[_LAST:]
        if last.startswith(b'","upstream":{'):
            self._last, self._tail = last, len(behind) + 1
        return len(upto)

    def _find_subject(self, entry: bytes, low: int, end: int) -> int:
        """Where `subject` begins, -1 if it is not what stands before a `time` whose second ends at `end`."""
        time = end - SECOND
        last = time - len(_TIME)
        if last < low or entry[last:time] != _TIME:
            return -1
        before, found, behind = entry[low:last].rpartition(_SUBJECT)
        if not found:
            return -1
        subject = found + behind
        if subject in self._subjects:
            self._who = self._subjects[subject]
        else:
            whole = _object(b"{" + subject[1:] + b"}")
            if whole is None:
                return -1
            self._who = whole["subject"].get("id")
            if _room(self._subjects, subject):
                self._subjects[subject] = self._who
        self._subject = entry[low + len(before) : end]
        self._seconds.add(entry[time:end])
        self._intent_seen = self._outcome_seen = False
        return low + len(before)

    def _find_route(self, entry: bytes, low: int, end: int) -> bool:
        """Whether `route` stands before a `seq` whose digits begin at `end`."""
        start = end - len(self._route)
        if start >= low and entry[start:end] == self._route:
            return True
        if end < low:
            return False
        _, found, behind = entry[low:end].rpartition(_ROUTE)
        if not found:
            return False
        route = found + behind
        where = self._routes.get(route)
        if where is None:
            whole = _object(b"{" + route[1:] + b"0}")
            if whole is None or list(whole) != ["route", "seq"]:
                return False
            where = str(whole["route"])
            if _room(self._routes, route):
                self._routes[route] = where
        self._route = route
        self._where = where
        self._intent_seen = self._outcome_seen = False
        return True


def _find_kind(entry: bytes, start: int) -> int:
    """Where the value of `id` ends, if there are members between it and `exchange`, whose value ends at `start`."""
    before, found, _ = entry[start:].partition(b',"id":"')
    end = start + len(before) + len(found) + 36
    return end if found and end + 18 < len(entry) else start


def second_of(time: str) -> str:
    """As a portion's `first` and `last` have it."""
    return _text(time.encode()[:SECOND])


def moment_of(exchange: str) -> str:
    """As a portion's `low` and `high` have it."""
    return _text(exchange.encode()[:MOMENT])


def _text(part: bytes) -> str:
    """In the same order as the bytes, which may end inside a character."""
    return part.decode("latin-1")


def _ends(text: bytes) -> bool:
    """Whether a string of JSON ends in there, or may be spelled in another way."""
    return bool(text.partition(b'"')[1] or text.partition(b"\\")[1])  # (`in` tries bytes as a number first)


def _room(known: dict[bytes, Any], fragment: bytes) -> bool:
    """Whether this one is to be remembered."""
    if len(known) >= _KNOWN_MOST:
        known.clear()
    return len(fragment) <= _KNOWN_BYTES


def _object(data: bytes) -> dict[str, Any] | None:
    """The object that these bytes are, None if they are none."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
