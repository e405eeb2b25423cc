"""The table of the gateway's own keys: what each is for, when it signs, how long it is published. Pure.

States of a key, in the order of its life:
1. next: published, so that verifiers know it before it signs. At most one for a purpose.
2. current: signs. At most one for a purpose; the first key of a purpose is current at once.
3. retired: signs no more (the log's still signs beside the current one), stays published for the overlap.
4. kept: no longer published; what it signed still verifies here.
5. revoked: neither published nor trusted, for ever.
Every change is an event with a serial number, so that a gateway can record each exactly once. A table is read strictly:
what it does not say in the one right way is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gateway.core.canonical import Json, encode, member, parse_object
from gateway.core.reasons import Malformed
from gateway.trust.jose_ed25519 import PUBLIC_BYTES, decoded_public, encoded_public, thumbprint

PURPOSES: Final = ("log", "cards", "manifests", "bundles", "tokens", "webhooks")
KID_CHARACTERS: Final = 16  # 96 bits of the thumbprint: enough to tell keys apart, short enough to read aloud
EVENTS_KEPT = 1000  # a gateway that was away for longer than that many changes records the newest of them
_TIMES = ("signs_from", "retired", "published_until", "revoked")


class State(StrEnum):
    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"
    KEPT = "kept"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's public half and its times, in whole epoch seconds. `transit` is `<key>:<version>` of a key that never
    leaves its vault, "" for one in a file."""

    purpose: str
    kid: str
    public: bytes
    made: int
    signs_from: int | None = None
    retired: int | None = None
    published_until: int | None = None
    revoked: int | None = None
    transit: str = ""

    def state(self, now: float) -> State:
        if self.revoked is not None:
            return State.REVOKED
        if self.signs_from is None:
            return State.NEXT
        if self.retired is None:
            return State.CURRENT
        return State.RETIRED if now < (self.published_until or 0) else State.KEPT


@dataclass(frozen=True, slots=True)
class Event:
    """What was done to the ring: `kid` is the key it was done to, `former` the one that signed before, if any."""

    serial: int
    time: int
    action: str
    purpose: str
    kid: str
    former: str
    by: str


class TableError(ValueError):
    """This cannot be done to the table as it is; `args[0]` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """`entries` in the order they were made, `events` by serial."""

    entries: tuple[Entry, ...] = ()
    events: tuple[Event, ...] = ()

    def of(self, purpose: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.purpose == purpose]

    def current(self, purpose: str) -> Entry | None:
        return next((entry for entry in self.of(purpose) if entry.state(0) is State.CURRENT), None)

    def next(self, purpose: str) -> Entry | None:
        return next((entry for entry in self.of(purpose) if entry.state(0) is State.NEXT), None)

    def edge(self, now: float) -> float | None:
        """When the state of some key changes by itself."""
        ends = [entry.published_until for entry in self.entries if entry.state(now) is State.RETIRED]
        return min((end for end in ends if end is not None), default=None)

    def added(self, entry: Entry, by: str) -> Table:
        """The first key of a purpose signs at once (2), any other is the next (1)."""
        if any(known.kid == entry.kid and known.purpose == entry.purpose for known in self.entries):
            raise TableError(f"the {entry.purpose} key {entry.kid} is there already")
        if self.current(entry.purpose) is None:
            entry = replace(entry, signs_from=entry.made)
        elif (waiting := self.next(entry.purpose)) is not None:
            raise TableError(
                f"{waiting.kid} is the next {entry.purpose} key already: "
                f"`tollgate keys rotate {entry.purpose}` puts it in force"
            )
        return replace(self, entries=(*self.entries, entry))._noted(
            "keys.new", entry.purpose, entry.kid, "", by, entry.made
        )

    def rotated(self, purpose: str, now: int, overlap_s: int, by: str) -> Table:
        """The next key signs; the former one stays published for the overlap (3)."""
        fresh, former = self.next(purpose), self.current(purpose)
        if fresh is None or former is None:
            raise TableError(f"there is no next {purpose} key: `tollgate keys new {purpose}` makes one")
        changed = {
            fresh.kid: replace(fresh, signs_from=now),
            former.kid: replace(former, retired=now, published_until=now + overlap_s),
        }
        return self._with(purpose, changed)._noted("keys.rotate", purpose, fresh.kid, former.kid, by, now)

    def revoked(self, purpose: str, kid: str, now: int, by: str) -> Table:
        """The key counts for nothing from now on (5). A key that signs must be replaced before."""
        found = next((entry for entry in self.of(purpose) if entry.kid == kid), None)
        if found is None:
            raise TableError(f"there is no {purpose} key {kid}: `tollgate keys list` shows them")
        if found.revoked is not None:
            raise TableError(f"the {purpose} key {kid} is revoked already")
        if found.state(0) is State.CURRENT:
            raise TableError(f"{kid} is the {purpose} key that signs: rotate first")
        changed = {kid: replace(found, revoked=now)}
        return self._with(purpose, changed)._noted("keys.revoke", purpose, kid, "", by, now)

    def _with(self, purpose: str, changed: Mapping[str, Entry]) -> Table:
        entries = (changed.get(item.kid, item) if item.purpose == purpose else item for item in self.entries)
        return replace(self, entries=tuple(entries))

    def _noted(self, action: str, purpose: str, kid: str, former: str, by: str, now: int) -> Table:
        serial = self.events[-1].serial + 1 if self.events else 1
        event = Event(serial, now, action, purpose, kid, former, by)
        return replace(self, events=(*self.events, event)[-EVENTS_KEPT:])


def write(table: Table) -> bytes:
    keys: list[Json] = []
    for entry in table.entries:
        found: dict[str, Json] = {"purpose": entry.purpose, "kid": entry.kid, "made": entry.made}
        found["x"] = encoded_public(entry.public)
        found |= {name: getattr(entry, name) for name in _TIMES if getattr(entry, name) is not None}
        if entry.transit:
            found["transit"] = entry.transit
        keys.append(found)
    events: list[Json] = [{name: getattr(event, name) for name in Event.__slots__} for event in table.events]
    return encode({"v": 1, "keys": keys, "events": events}) + b"\n"


def read(data: bytes) -> Table:
    """Raises Malformed."""
    document = parse_object(data)
    if set(document) != {"v", "keys", "events"} or document["v"] != 1:
        raise Malformed("not a table of keys of version 1")
    keys, events = document["keys"], document["events"]
    if not isinstance(keys, list) or not isinstance(events, list):
        raise Malformed("keys and events must be lists")
    table = Table(tuple(_entry(item) for item in keys), tuple(_event(item) for item in events))
    for purpose in PURPOSES:
        for state in (State.NEXT, State.CURRENT):
            if sum(entry.state(0) is state for entry in table.of(purpose)) > 1:
                raise Malformed(f"more than one {state} key for {purpose}")
    if len({(entry.purpose, entry.kid) for entry in table.entries}) != len(table.entries):
        raise Malformed("a key stands there twice")
    if any(later.serial <= earlier.serial for earlier, later in zip(table.events, table.events[1:], strict=False)):
        raise Malformed("the serials of the events do not grow")
    return table


def _entry(item: Json) -> Entry:
    if not isinstance(item, dict) or not set(item) <= {"purpose", "kid", "made", "x", "transit", *_TIMES}:
        raise Malformed("a key is not an object of the known members")
    public = decoded_public(_text(item, "x"))
    found = Entry(
        purpose=_text(item, "purpose"),
        kid=_text(item, "kid"),
        public=public,
        made=_number(item, "made"),
        transit=_text(item, "transit") if "transit" in item else "",
        **{name: _number(item, name) for name in _TIMES if name in item},
    )
    if found.purpose not in PURPOSES or len(public) != PUBLIC_BYTES:
        raise Malformed("a key of no known purpose or of another size")
    if kid_of(public) != found.kid:
        raise Malformed(f"{found.purpose}: the kid {found.kid[:64]} is that of another key")
    if found.retired is not None and (found.signs_from is None or found.published_until is None):
        raise Malformed(f"{found.kid} is retired and never signed")
    return found


def _event(item: Json) -> Event:
    if not isinstance(item, dict) or set(item) != set(Event.__slots__):
        raise Malformed("an event is not an object of the known members")
    texts = {name: _text(item, name) for name in ("action", "purpose", "kid", "former", "by")}
    return Event(serial=_number(item, "serial"), time=_number(item, "time"), **texts)


def _text(item: Mapping[str, Json], name: str) -> str:
    return str(member(item, name, str, where="a key"))


def _number(item: Mapping[str, Json], name: str) -> int:
    found = member(item, name, int, where="a key")
    if not isinstance(found, int) or found < 0:
        raise Malformed(f"{name} is below zero")
    return found


def kid_of(public: bytes) -> str:
    """The beginning of the RFC 7638 thumbprint."""
    return thumbprint(public)[:KID_CHARACTERS]
