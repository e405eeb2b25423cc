"""What differs between two JSON documents, for people: by member, and as a unified diff.

The rule it keeps: nothing in it can deceive its reader. Whatever is invisible, reverses text or steers a terminal is
written as its escape: a poisoned description hides in exactly such characters.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

from gateway.core.canonical import Json

_MISSING = object()


def visible(text: str) -> str:
    """The text with every character that does not show as itself escaped, line ends kept."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() or mark == "\n" else _escape(mark) for mark in text)


def changed(approved: Json, seen: Json) -> list[str]:
    """The paths of the members that differ, in order: `description`, `inputSchema.properties.to.type`."""
    return list(_paths(approved, seen, ""))


def unified(approved: Json, seen: Json) -> str:
    """Both documents a member a line, texts broken at their own line ends, as a unified diff; "" where they are the
    same."""
    lines = difflib.unified_diff(_lines(approved), _lines(seen), "approved", "seen", n=3, lineterm="")
    return "\n".join(lines)


def _paths(one: object, other: object, path: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            place = f"{path}.{name}" if path else name
            yield from _paths(one.get(name, _MISSING), other.get(name, _MISSING), place)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _paths(left, right, f"{path}[{index}]")
    elif type(one) is not type(other) or one != other:
        yield visible(path) or "all of it"


def _lines(document: Json) -> list[str]:
    if document is None:
        return []
    return [visible(line) for line in _written(document, 0, "")]


def _written(value: Json, depth: int, name: str) -> Iterator[str]:
    """Indented `name: value` lines."""
    margin = "  " * depth
    label = f"{margin}{name}: " if name else margin
    if isinstance(value, dict) and value:
        if name:
            yield f"{margin}{name}:"
        for key in sorted(value):
            yield from _written(value[key], depth + bool(name), json.dumps(key, ensure_ascii=False)[1:-1])
    elif isinstance(value, list) and value:
        yield f"{margin}{name or '-'}:"
        for item in value:
            yield from _written(item, depth + 1, "-")
    elif isinstance(value, str) and "\n" in value:
        yield f"{margin}{name or '-'}: |"
        for line in value.split("\n"):
            yield f"{margin}  {line}"
    else:
        yield label + json.dumps(value, ensure_ascii=False)


def _escape(mark: str) -> str:
    return mark.encode("unicode_escape").decode()
