"""From a record to its log entry: RFC 8785 bytes of at most 65,535, fast where that is provably the same.

1. orjson with sorted keys writes RFC 8785's bytes for records whose keys are ASCII and whose values are strings,
   integers within 2^53-1, booleans, nulls, everyday fractions (not whole, 1e-4 to 1e15), lists and objects of these.
2. Whatever else occurs goes to `core.canonical`.
3. A larger entry moves its captures to blobs named by their SHA-256 (contract, ruling 22).
4. If that is not enough, because a caller put its weight into names, long strings are cut and carry their digest: a
   record is shortened, never lost. The caller's nested objects are never changed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from gateway.core import canonical
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.log.tlog import ENTRY_BYTES

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_CUTS = (4096, 512, 64)  # characters that a cut string keeps, tried in this order
_WHOLE = frozenset({"exchange", "id", "kind", "node", "parent", "result", "route", "time", "trace_id"})  # never cut

Blobs = tuple[tuple[str, bytes], ...]


def encode(record: dict[str, Json], *, plain: bool = False) -> bytes:
    """The canonical bytes. Raises Malformed for what has none. `plain`: its maker vouches that it holds no float and no
    name that is not ASCII, so it need not be walked to find out."""
    if plain or _plain(record):
        try:
            data = orjson.dumps(record, option=_OPTIONS)
        except orjson.JSONEncodeError as error:
            raise Malformed(f"no canonical form: {error}") from None
        if plain or data.isascii() or _ascii_keys(record):
            return data  # 1
    try:
        return canonical.encode(record)  # 2
    except UnicodeEncodeError:
        raise Malformed("no canonical form: a lone surrogate") from None


def fit(record: dict[str, Json]) -> tuple[bytes, Blobs]:
    """The entry of a record that is too large as it stands, and its blobs. Raises Malformed if nothing helps."""
    small = dict(record)
    blobs: list[tuple[str, bytes]] = []
    for side in ("request", "response"):
        part = small.get(side)
        if isinstance(part, dict) and "capture" in part:  # 3
            data = orjson.dumps(part["capture"], option=orjson.OPT_SORT_KEYS)  # named by its digest: any spelling does
            name = hashlib.sha256(data).hexdigest()
            small[side] = {**part, "capture": {"blob": f"sha256:{name}", "bytes": len(data)}}
            blobs.append((name, data))
    entry = encode(small)
    for keep in _CUTS:
        if len(entry) <= ENTRY_BYTES:
            return entry, tuple(blobs)
        cut = {name: value if name in _WHOLE else _cut(value, keep) for name, value in small.items()}  # 4
        entry = encode({**cut, "shortened": True})
    if len(entry) > ENTRY_BYTES:
        raise Malformed(f"the record needs {len(entry)} bytes, an entry holds {ENTRY_BYTES}")
    return entry, tuple(blobs)


def _plain(value: Any) -> bool:
    """Whether orjson spells every value as RFC 8785 does. Exact types: subclasses may serialise in their own way."""
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if kind is dict or kind is list:
            if item and not _plain(item):
                return False
        elif kind is not float or not _everyday(item):
            return False
    return True


def _everyday(value: float) -> bool:
    return 1e-4 <= abs(value) < 1e15 and not value.is_integer()


def _ascii_keys(value: Json) -> bool:
    if isinstance(value, dict):
        return all(key.isascii() and _ascii_keys(item) for key, item in value.items())
    return all(map(_ascii_keys, value)) if isinstance(value, list) else True


def _cut(value: Json, keep: int) -> Json:
    if isinstance(value, str) and len(value) > keep:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{value[:keep]}\N{HORIZONTAL ELLIPSIS}sha256:{digest}"
    if isinstance(value, dict):
        return {key: _cut(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, keep) for item in value]
    return value
