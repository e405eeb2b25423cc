"""What of a decision's input is kept in its record, so that it can be looked at and decided again later.

1. `none`: nothing. `shape`: who asked for what, and of arguments, headers, query and whatever a protocol adds only
   types, lengths and keyed digests. `full`: the input, after masking (masking.py). Nothing is kept before it is masked.
2. A digest is keyed with a secret of this gateway: equal values can be seen to be equal, none can be guessed at.
3. What was masked is listed; an input too large to be looked through is not kept, and the capture says so.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

import orjson

from gateway.core.canonical import Json
from gateway.core.masking import Masker, Path, describe, kind, marker

LEVELS: Final = ("none", "shape", "full")
CAPTURE_BYTES: Final = 128 * 1024  # of a judged body: looking through it takes milliseconds of the event loop's
KEPT_BYTES: Final = 256 * 1024  # of one capture, as JSON; a shape may be much longer than what it is the shape of
_SURELY_FITS: Final = 8 * 1024  # bytes of a body whose shape cannot come to that
DIGEST_DIGITS: Final = 32
ITEMS: Final = 256  # of a list that a shape describes one by one

# Of the context, what the record says anyway or a protocol chooses from a few words of its own.
PLAIN: Final = frozenset({"api", "binding", "direction", "listing", "time", "trace_id"})
REQUEST: Final = frozenset({"id", "method", "path", "peer"})


class Capture:
    """Makes captures. `key` is the secret of rule 2."""

    def __init__(self, masker: Masker, key: bytes) -> None:
        self._masker: Final = masker
        self._key: Final = key

    def of(self, level: str, document: Mapping[str, Json], body_bytes: int) -> dict[str, Json]:
        """The capture of one input at level `shape` or `full`."""
        if body_bytes > CAPTURE_BYTES:
            return {"level": level, "left_out": f"its body has more than {CAPTURE_BYTES} bytes"}  # 3
        context = document.get("context")
        given = context if isinstance(context, dict) else {}
        found = self._full(document, given) if level == "full" else self._shape(document, given)
        if body_bytes > _SURELY_FITS and len(orjson.dumps(found)) > KEPT_BYTES:
            return {"level": level, "left_out": f"its capture would have more than {KEPT_BYTES} bytes"}  # 3
        return found

    def _full(self, document: Mapping[str, Json], context: Mapping[str, Json]) -> dict[str, Json]:
        masked: list[Path] = []
        kept: dict[str, Json] = {}
        for name, value in context.items():
            if name in PLAIN:
                kept[name] = value
            elif name == "request" and isinstance(value, dict):
                kept[name] = self._request(value, masked)
            else:
                kept[name], places = self._masker.mask({name: value}, ("context",))
                masked += places
                kept[name] = _only(kept[name])
        found: dict[str, Json] = {"level": "full", "input": {**document, "context": kept}}
        if masked:
            found["masked"] = describe(masked)
        return found

    def _request(self, request: Mapping[str, Json], masked: list[Path]) -> dict[str, Json]:
        kept: dict[str, Json] = {}
        for name, value in request.items():
            if name in REQUEST:
                kept[name] = value
            else:
                shown, places = self._masker.mask({name: value}, ("context", "request"))
                masked += places
                kept[name] = _only(shown)
        return kept

    def _shape(self, document: Mapping[str, Json], context: Mapping[str, Json]) -> dict[str, Json]:
        kept: dict[str, Json] = {name: value for name, value in context.items() if name in PLAIN}
        shaped: dict[str, Json] = {}
        for name, value in context.items():
            if name == "request" and isinstance(value, dict):
                kept[name] = {key: item for key, item in value.items() if key in REQUEST}
                rest = {key: item for key, item in value.items() if key not in REQUEST}
                shaped[name] = self._described(rest, ("context", name))
            elif name not in PLAIN:
                shaped[name] = self._member(name, value, ("context", name))
        return {"level": "shape", "input": {**document, "context": kept}, "shape": shaped}

    def _member(self, name: str, value: Json, place: Path) -> Json:
        if self._masker.secret(name):
            return marker("name", value)
        return marker("path", value) if self._masker.wanted(place) else self._described(value, place)

    def _described(self, value: Json, place: Path) -> dict[str, Json]:
        found: dict[str, Json] = {"type": kind(value)}
        if isinstance(value, dict):
            found["members"] = {
                self._masker.text(name): self._member(name, item, (*place, name)) for name, item in value.items()
            }
        elif isinstance(value, list):
            found["items"] = len(value)
            found["of"] = [self._described(item, (*place, str(at))) for at, item in enumerate(value[:ITEMS])]
        elif isinstance(value, str):
            found["chars"] = len(value)
            found["digest"] = self._digest("s" + value)
        elif found["type"] == "number":
            found["digest"] = self._digest(f"n{value!r}")
        return found

    def _digest(self, text: str) -> str:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:DIGEST_DIGITS]  # 2


def _only(value: Json) -> Json:
    """The one member of what a name was masked together with."""
    return next(iter(value.values())) if isinstance(value, dict) else value
