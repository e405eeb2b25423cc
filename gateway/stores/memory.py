"""Handles in memory: sessions and tasks, who they belong to, bounded in age and number.

The rule: a handle that belongs to one principal never becomes another's while it lives; ids are compared code point by
code point. Full tables drop what was used longest ago, first of the principal that has too many, so that one caller
cannot push out another's sessions before its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from gateway.core.exchange import Handle
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed

Key: TypeAlias = tuple[str, str, str, str]  # kind, id, route, upstream


@dataclass(frozen=True, slots=True)
class Bounds:
    """`age_seconds` since a handle was last used; `per_subject` counts one principal's on one route."""

    age_seconds: float = 30 * 86400.0  # an A2A task is looked at weeks later, a month-old session is dead
    per_subject: int = 10_000
    total: int = 100_000  # about 40 MB


class HandleTable:
    """The arithmetic of handles, sans-I/O; both stores keep one. Every call is told the time."""

    __slots__ = ("_bounds", "_subjects", "_used")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._used: OrderedDict[Key, tuple[str, float]] = OrderedDict()  # least recently used first
        self._subjects: dict[tuple[str, str], OrderedDict[Key, None]] = {}

    def put(self, key: Key, subject: str, now: float) -> list[Key]:
        """Binds `key`; returns what had to go for it. Raises Malformed if it belongs to somebody else."""
        owner = self.get(key, now)
        if owner is not None and owner != subject:
            raise Malformed(f"the upstream gave out a {key[0]} handle that belongs to another caller")
        self._set(key, subject, now)
        dropped = self._expired(now)
        own = self._subjects[subject, key[2]]
        while len(own) > self._bounds.per_subject:
            dropped.append(self.drop(next(iter(own))))
        while len(self._used) > self._bounds.total:
            dropped.append(self.drop(next(iter(self._used))))
        return dropped

    def get(self, key: Key, now: float) -> str | None:
        """The owner, None if it was never bound or is too old. Looking is not using."""
        found = self._used.get(key)
        if found is None or now - found[1] > self._bounds.age_seconds:
            return None
        return found[0]

    def touch(self, key: Key, now: float) -> float:
        """Marks `key` as used; returns when it was used before."""
        subject, before = self._used[key]
        self._set(key, subject, now)
        return before

    def drop(self, key: Key) -> Key:
        found = self._used.pop(key, None)
        if found is not None:
            own = self._subjects[found[0], key[2]]
            del own[key]
            if not own:
                del self._subjects[found[0], key[2]]
        return key

    def __len__(self) -> int:
        return len(self._used)

    def _set(self, key: Key, subject: str, now: float) -> None:
        stale = self._used.get(key)
        if stale is not None and stale[0] != subject:
            self.drop(key)  # too old to be anybody's: `put` has looked
        self._used[key] = (subject, now)
        self._used.move_to_end(key)
        own = self._subjects.setdefault((subject, key[2]), OrderedDict())
        own[key] = None
        own.move_to_end(key)

    def _expired(self, now: float) -> list[Key]:
        dropped: list[Key] = []
        while self._used:
            key, (_, used) = next(iter(self._used.items()))
            if now - used <= self._bounds.age_seconds:
                break
            dropped.append(self.drop(key))
        return dropped


class MemoryHandles:
    """The Handles port for one process's life."""

    def __init__(self, clock: Clock, bounds: Bounds = Bounds()) -> None:
        self._clock = clock
        self._table = HandleTable(bounds)

    async def bind(self, handle: Handle, *, route: str, subject: str, upstream: str) -> None:
        self._table.put((handle.kind, handle.id, route, upstream), subject, self._clock.time())

    async def owner(self, handle: Handle, *, route: str, upstream: str) -> str | None:
        key, now = (handle.kind, handle.id, route, upstream), self._clock.time()
        owner = self._table.get(key, now)
        if owner is not None:
            self._table.touch(key, now)
        return owner

    async def forget(self, handle: Handle, *, route: str, upstream: str) -> None:
        self._table.drop((handle.kind, handle.id, route, upstream))
