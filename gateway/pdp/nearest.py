"""The nearest difference that would have been allowed: one attribute of the input changed, and the policy asked again.

1. What it could be changed to comes from the policy alone: the literals in its text, the names and values in its data.
2. Nothing is suggested that was not evaluated and allowed. 3. What a caller says comes before who it is, and that
before what it asks for. The action, the moment and the id of a request stay: they would make it another request.
4. It ends with the time it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from gateway.core.canonical import Json
from gateway.pdp.compiled import Compiled
from gateway.pdp.looked import Look
from gateway.pdp.made import literals
from gateway.pdp.syntax import Path

FOUND = 3
TRIED = 3000
PER_PLACE = 250  # values tried for one attribute
DATA_VALUES = 2000  # looked at in the policy's data

_ORDER: tuple[Path, ...] = (
    ("context", "arguments"), ("context",), ("subject", "properties"), ("resource", "properties"), ("subject",),
    ("resource",),
)  # fmt: skip
_FIXED: tuple[Path, ...] = (
    ("context", "time"), ("context", "request"), ("context", "trace_id"), ("context", "listing"),
    ("context", "direction"), ("subject", "type"), ("resource", "type"), ("resource", "properties", "digest"),
    ("action",),
)  # fmt: skip
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is set (to `value`), add (it to the list) or remove (it from the list). `before` says what was there."""

    place: Path
    kind: str
    value: Json
    before: Json
    absent: bool


@dataclass(frozen=True, slots=True)
class Nearest:
    """`whole`: all there was to try was tried."""

    changes: tuple[Change, ...]
    tried: int
    whole: bool


class Search:
    """`allows` evaluates an input; `late` tells when to stop."""

    def __init__(
        self, policy: Compiled, document: Mapping[str, Json], look: Look,
        allows: Callable[[bytes], bool], late: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._policy = policy
        self._document = document
        self._look = look
        self._allows = allows
        self._late = late
        self._tried = 0
        self._pool = _of_data(policy.source.data)

    def nearest(self) -> Nearest:
        found: list[Change] = []
        for place in sorted(self._attributes(), key=_rank):
            for change in self._changes(place):
                if self._late() or self._tried >= TRIED:  # 4
                    return Nearest(tuple(found), self._tried, False)
                self._tried += 1
                if self._allows(orjson.dumps(_with(self._document, change))):  # 2
                    found.append(change)
                    break
            if len(found) == FOUND:
                break
        return Nearest(tuple(found), self._tried, True)

    def _attributes(self) -> Iterator[Path]:
        """The places that the policy can read, down to what is no object."""
        for path in self._policy.reads:
            yield from (place for place in _leaves(self._document, path) if not _fixed(place))  # 3

    def _changes(self, place: Path) -> Iterator[Change]:
        now = _at(self._document, place)
        values = _once(self._values(place))
        if isinstance(now, list):
            for item in now:
                yield Change(place, "remove", item, now, False)
            kinds = {type(item) for item in now} or {str}
            for value in values[:PER_PLACE]:
                if type(value) in kinds and value not in now:
                    yield Change(place, "add", value, now, False)
            return
        if now is _ABSENT:
            for value in values[:PER_PLACE]:
                yield Change(place, "set", value, None, True)
            return
        if isinstance(now, bool):
            yield Change(place, "set", not now, now, False)
            return
        if place == ("resource", "id") and isinstance(now, str) and "/" in now:
            before = now.rpartition("/")[0]  # a policy may name what stands behind the upstream's name alone
            values = [f"{before}/{value}" if isinstance(value, str) and "/" not in value else value for value in values]
        fitting = [value for value in values if _alike(value, now) and value != now]
        if isinstance(now, int | float):
            near = float(now)
            fitting = _once([step for value in fitting for step in _steps(value)])
            fitting.sort(key=lambda value: abs(value - near) if isinstance(value, int | float) else 0.0)
        for value in fitting[:PER_PLACE]:
            yield Change(place, "set", value, None if isinstance(now, dict) else now, False)  # type: ignore[arg-type]

    def _values(self, place: Path) -> list[Json]:
        """The nearest in the text first: the lines that refer to the attribute, their rules, the rest, the data (1)."""
        lines = self._look.lines_of(place)
        found: list[Json] = []
        for rule, line in lines:
            found += literals([rule], lambda number, line=line: number == line, rule.file)  # type: ignore[misc]
        for rule, _ in lines:
            found += literals([rule], lambda number: True, rule.file)
        found += self._pool
        for rule in self._policy.rules:
            found += literals([rule], lambda number: True, rule.file)
        return found


def _with(document: Mapping[str, Json], change: Change) -> dict[str, Json]:
    """The input with one change, nothing shared that is changed."""
    whole: dict[str, Json] = dict(document)
    at = whole
    for name in change.place[:-1]:
        below = at.get(name)
        at[name] = below = dict(below) if isinstance(below, dict) else {}
        at = below
    last = change.place[-1]
    if change.kind == "set":
        at[last] = change.value
    else:
        now = at.get(last)
        items = list(now) if isinstance(now, list) else []
        at[last] = [*items, change.value] if change.kind == "add" else [item for item in items if item != change.value]
    return whole


def _leaves(document: object, path: Path, at: Path = ()) -> Iterator[Path]:
    value = _at(document, path)
    if value is _ABSENT and path and not isinstance(_at(document, path[:-1]), dict | Mapping):
        return  # what would have to be there first is no single change
    if isinstance(value, Mapping) and len(at) + len(path) < 8:
        for name in list(value)[:50]:
            yield from _leaves(document, (*path, name))
    elif path:
        yield path


def _at(document: object, path: Path) -> object:
    for name in path:
        if not isinstance(document, Mapping) or name not in document:
            return _ABSENT
        document = document[name]
    return document


def _fixed(place: Path) -> bool:
    return any(place[: len(path)] == path for path in _FIXED)


def _rank(place: Path) -> tuple[int, Path]:
    return next((at for at, path in enumerate(_ORDER) if place[: len(path)] == path), len(_ORDER)), place


def _alike(value: Json, now: object) -> bool:
    if isinstance(value, bool) or isinstance(now, bool):
        return isinstance(value, bool) and isinstance(now, bool)
    number = (int, float)
    return type(value) is type(now) or (isinstance(value, number) and isinstance(now, number))


def _steps(value: Json) -> list[Json]:
    return [value, value - 1, value + 1] if isinstance(value, int | float) else [value]


def _of_data(data: Mapping[str, Json]) -> list[Json]:
    """Names first: what a policy is asked about is mostly looked up by name. Breadth before depth."""
    names: list[Json] = []
    values: list[Json] = []
    level: list[Json] = [dict(data)]
    while level and len(names) + len(values) < DATA_VALUES:
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                names += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif item is not None:
                values.append(item)
        level = below
    return [*names, *values]


def _once(values: Iterable[Json]) -> list[Json]:
    """Each once, told apart by type: 1, true and "1" are three values."""
    found: dict[tuple[type, str], Json] = {}
    for value in values:
        found.setdefault((type(value), repr(value)), value)
    return list(found.values())
