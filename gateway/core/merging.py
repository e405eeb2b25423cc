"""RFC 7396 on the text of a JSON document: members are set, merged or removed, and all else keeps its very bytes.

The rule it keeps: what the patch does not name is copied as it stands (digits, escapes, order), so nothing of it can
come to mean something else. The document was read strictly before: it is JSON, and no name occurs twice in an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from gateway.core.canonical import Json
from gateway.core.reasons import Malformed

_SPACE: Final = re.compile(r"[ \t\n\r]*")
# Values that are only passed over: no digits need to be understood for that, however many there are.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def merged(document: bytes, patch: Mapping[str, Json]) -> bytes:
    """The document with the patch merged in. Raises Malformed where it is no object."""
    text = document.decode("utf-8")
    start = _skip(text, 0)
    if not text.startswith("{", start):
        raise Malformed("it is no JSON object")
    shown, end = _object(text, start, patch)
    return (text[:start] + shown + text[end:]).encode("utf-8")


def nested(at: tuple[str, ...], patch: Mapping[str, Json]) -> Mapping[str, Json]:
    """The patch of a whole document that patches what stands at a place."""
    for name in reversed(at):
        patch = {name: dict(patch)}
    return patch


def replaced(value: Json, patch: Mapping[str, Json]) -> list[Json]:
    """The values that would not be there any more."""
    found: list[Json] = []
    if not isinstance(value, dict):
        return found
    for name, wanted in patch.items():
        if name in value:
            now = value[name]
            if isinstance(wanted, dict) and isinstance(now, dict):
                found += replaced(now, wanted)
            elif type(now) is not type(wanted) or now != wanted:
                found.append(now)
    return found


def _object(text: str, at: int, patch: Mapping[str, Json]) -> tuple[str, int]:
    """The object that begins at `at`, patched, and where it ends."""
    members: list[str] = []
    left = dict(patch)
    at = _skip(text, at + 1)
    while text[at] != "}":
        begins = at
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        value = at
        if name in left:
            shown, at = _value(text, value, left.pop(name))
            if shown is not None:
                members.append(text[begins:value] + shown)
        else:
            at = _end(text, value)
            members.append(text[begins:at])
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    for name, wanted in left.items():
        if wanted is not None:
            members.append(f"{_dump(name)}:{_dump(_without_nulls(wanted))}")
    return "{" + ",".join(members) + "}", at + 1


def _value(text: str, at: int, wanted: Json) -> tuple[str | None, int]:
    """What stands instead of the value at `at`, None for nothing, and where that value ends."""
    if isinstance(wanted, dict) and text[at] == "{":
        return _object(text, at, wanted)
    return None if wanted is None else _dump(_without_nulls(wanted)), _end(text, at)


def _without_nulls(wanted: Json) -> Json:
    """A patch that meets nothing it could be merged into (RFC 7396, 2): its nulls remove what is not there."""
    if isinstance(wanted, dict):
        return {name: _without_nulls(value) for name, value in wanted.items() if value is not None}
    return wanted


def _end(text: str, at: int) -> int:
    return _DECODER.raw_decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
