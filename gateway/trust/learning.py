"""What comes of an upstream's list: each item is judged against what was approved, stored, and told of in the log.

1. A quarantine is recorded once for each change. 2. The first whole list of an upstream that pins on first use is a pin
itself: what is in a later one besides was not there at first. 3. One lock orders everything that changes the registry.
Which calls may go on is pins.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.core.canonical import Json, digest, encode
from gateway.core.descriptors import Described, Registry, Standing
from gateway.core.ports import Clock
from gateway.trust.tools import SHAPES, Before, Named, Pin, Seen, Shape, judged, renamed, see
from gateway.trust.watched import TOO_MANY, Watched

SEEN_SECONDS = 3600.0  # how old `seen` may get on disk while nothing changes

Note = Callable[[str, dict[str, Json]], None]


class Learner:
    """`note` records: an action and what it is about. Whoever else changes the registry holds `lock`."""

    def __init__(self, registry: Registry, note: Note, clock: Clock) -> None:
        self._registry = registry
        self._note = note
        self._clock = clock
        self.lock = asyncio.Lock()

    def unpinned(self, watch: Watched, listing: str) -> bool:
        """Whether a list of an upstream that is believed at first sight was never there whole."""
        if watch.rules.pin is not Pin.FIRST_USE:
            return False
        return self._registry.find("list", watch.upstream.name, listing) is None

    async def learn(self, watch: Watched, listing: str, found: Sequence[Seen], whole: bool) -> None:
        """Judges what is new or other than before, stores it, and records what was pinned or quarantined."""
        upstream, shape, now = watch.upstream.name, SHAPES[listing], self._clock.time()
        async with self.lock:
            before = Before.PINNED
            if self.unpinned(watch, listing):
                before = Before.NOTHING if whole else Before.PART
            made: list[Described] = []
            for seen in found:
                if not self._keeps(watch, seen):
                    continue
                known = self._registry.find(seen.kind, upstream, seen.name)
                item = judged(upstream, known, seen, watch.rules, before, now)
                if known is not None and _alike(known, item):
                    continue
                if known is not None and self._told_of(watch, known, item):
                    continue
                made.append(self._explained(shape, item))
            if before is Before.NOTHING:
                made.append(self._first(watch, listing, made, now))
            if made:
                await self._registry.save(made)
                self._record(watch, made)

    async def judge_anew(self, watch: Watched, manifests: tuple[Named, ...]) -> None:
        """By other rules than before: what was seen last, once more."""
        watch.rules = replace(watch.rules, manifests=manifests)
        now, upstream = self._clock.time(), watch.upstream.name
        async with self.lock:
            made: list[Described] = []
            for item in self._registry.items(upstream=upstream):
                listing = next((name for name, shape in SHAPES.items() if shape.kind == item.kind), "")
                if listing and isinstance(item.document, dict):
                    before = Before.PART if self.unpinned(watch, listing) else Before.PINNED
                    seen = see(item.kind, item.name, item.document)
                    made.append(judged(upstream, item, seen, watch.rules, before, now))
            await self._registry.save(made)
            self._record(watch, made)
        watch.judged = True

    def _keeps(self, watch: Watched, seen: Seen) -> bool:
        if seen.why == TOO_MANY or not watch.minds(seen.kind, seen.document):
            return False
        return bool(seen.digest) or watch.rules.pin is not Pin.NONE

    def _told_of(self, watch: Watched, known: Described, item: Described) -> bool:
        """Whether it only goes back and forth between changes that were all recorded."""
        both = known.standing is item.standing is Standing.QUARANTINED
        return both and (item.kind, item.name, item.digest) in watch.told

    def _explained(self, shape: Shape, item: Described) -> Described:
        """A new item that is an old one under another name says so."""
        if item.standing is not Standing.QUARANTINED or item.approved:
            return item
        old = renamed(item.document, shape.key, self._registry.items(item.kind, item.upstream))
        return replace(item, why=f"it is {old} under another name") if old else item

    def _first(self, watch: Watched, listing: str, items: Sequence[Described], now: float) -> Described:
        pins: dict[str, Json] = {item.name: item.approved for item in items if item.standing is Standing.VERIFIED}
        found = digest(encode(pins))
        upstream = watch.upstream.name
        about: dict[str, Json] = {"list": listing, "items": len(pins), "digest": found}
        self._note("descriptor.pinned", {**_about("endpoint", upstream, upstream, ""), "descriptor": about})
        return Described("list", upstream, listing, Standing.VERIFIED, found, found, "first_use", seen=now, changed=now)

    def _record(self, watch: Watched, made: Sequence[Described]) -> None:
        """1."""
        for item in made:
            key = (item.kind, item.name, item.digest)
            if item.standing is not Standing.QUARANTINED or key in watch.told:
                continue
            watch.told.add(key)
            said: dict[str, Json] = {"digest": item.digest, "approved": item.approved, "why": item.why}
            about = _about(item.kind, item.upstream, item.name, item.digest)
            about["descriptor"] = {item.kind: {name: value for name, value in said.items() if value}}
            self._note("descriptor.quarantined", about)


def _alike(known: Described, item: Described) -> bool:
    """Whether there is nothing to store: the same as before, and not seen for the first time in long."""
    if known.standing not in (item.standing, Standing.BLOCKED):
        return False
    same = (known.digest, known.approved, known.by) == (item.digest, item.approved, item.by)
    return same and item.seen - known.seen < SEEN_SECONDS


def _about(kind: str, upstream: str, name: str, found: str) -> dict[str, Json]:
    ident = f"{upstream}/{name}" if kind in ("tool", "prompt") else name
    resource: dict[str, Json] = {"type": kind, "id": ident}
    if found:
        resource["digest"] = found
    return {"resource": resource, "upstream": {"name": upstream}}
