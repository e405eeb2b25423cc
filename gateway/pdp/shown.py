"""What of an input may be shown in an explanation: what records have anyway with its value, the rest with its type.

A name that a policy made out of the input (`data.roles[role]`) is shown if it stands in what may be shown, in the
policy's data or in its text, and nowhere in what may not: else it would tell the value of an argument by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from gateway.core.canonical import Json
from gateway.pdp.syntax import Path

VALUE_CHARACTERS = 300
_HIDDEN: tuple[Path, ...] = (
    ("context", "arguments"), ("context", "body"), ("context", "session"), ("context", "request", "headers"),
    ("context", "request", "query"), ("subject", "properties", "descriptor"),
)  # fmt: skip
_SHOWN: tuple[Path, ...] = (
    ("subject",), ("action",), ("resource",), ("context", "listing"), ("context", "direction"), ("context", "time"),
    ("context", "request", "id"), ("context", "request", "method"), ("context", "request", "path"),
    ("context", "request", "peer"), ("context", "trace_id"),
)  # fmt: skip


def hides(place: Path) -> bool:
    """Whether what stands at a place of the input, or a part of it, may not be shown."""
    return any(_meet(place, path) for path in _HIDDEN) or not any(place[: len(path)] == path for path in _SHOWN)


def shown(place: Path, value: Json) -> dict[str, Json]:
    """The value where it may be shown, else what sort it is."""
    if not hides(place) and len(orjson.dumps(value)) <= VALUE_CHARACTERS:
        return {"value": value}
    return {"type": _sort(value)}


class Names:
    """Tells which names made out of an input may be shown. `known` are the policy's own texts."""

    def __init__(self, document: Mapping[str, Json], known: str) -> None:
        self._hidden = {text for place, text in _texts(document) if hides(place)}
        self._known = "\n".join((known, *(text for place, text in _texts(document) if not hides(place))))

    def shows(self, name: str) -> bool:
        return name not in self._hidden and name in self._known


def _texts(value: object, at: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text within, names of members too, with its place."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if len(at) > 1:
                yield (*at, name), name
            yield from _texts(item, (*at, name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, at)
    elif isinstance(value, str):
        yield at, value


def _sort(value: Json) -> str:
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, list | dict):
        return f"{'list' if isinstance(value, list) else 'object'} of {len(value)} members"
    return {bool: "true or false", int: "number", float: "number"}.get(type(value), "null")


def _meet(one: Path, other: Path) -> bool:
    short = min(len(one), len(other))
    return one[:short] == other[:short]
