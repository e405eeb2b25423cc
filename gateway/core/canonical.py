"""Strict JSON in, canonical JSON (RFC 8785) out, digests.

Everything policy reads comes through `parse`. Rules, numbered as in the code:
1. UTF-8 without a byte order mark, nothing else. 2. RFC 8259 grammar: no NaN, no Infinity, no overflow to it.
3. No duplicate member at any depth, however its name is spelled. 4. No integer beyond 2^53-1.
5. No lone surrogate. 6. At most `MAX_DEPTH` levels.
A quick parser reads first; its value counts only where it is shown that no rule was broken (`_vouched`). All else is
for the exact one, whose verdict and words count: `parse` says of any bytes what `parse_exactly` says of them.
Rules 4 and 5 can be relaxed for named top-level members only (ruling 10): policy then sees a safe copy there. They do
not bind an upstream's answer (`parse_answer`), of which policy sees nothing but what is checked again.
"""

from __future__ import annotations

import hashlib
import json
import json.scanner
import math
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import orjson
import rfc8785

from gateway.core.digits import BigDigits
from gateway.core.reasons import Malformed

Scan: TypeAlias = "Callable[[str, int], tuple[Json, int]]"
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH: Final = 64  # deeper than any real tool call, far from the interpreter's own limit
MAX_INTEGER: Final = 2**53 - 1

_quickly: Final = orjson.loads
_written: Final = orjson.dumps
_UNSURE: Final[Json] = ["unsure"]  # itself, not its like
_MAX_DOUBLE: Final = float(MAX_INTEGER)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = b" \t\n\r"
_SURROGATE = re.compile(f"[{chr(0xD800)}-{chr(0xDFFF)}]")
_MAX_DIGITS = 1000  # of an integer in an answer: far beyond any number type, far from quadratic conversion


class _TooBig(Exception):
    """An integer beyond 2^53-1; whether its place tolerates one takes a second look."""


def parse(data: bytes, *, tolerate: frozenset[str] = frozenset()) -> Json:
    """The JSON value of `data`. Raises Malformed, which says what and never quotes the input at length."""
    value = _quick(data)
    if value is not _UNSURE:
        return value
    return parse_exactly(data, tolerate=tolerate)


def parse_exactly(data: bytes, *, tolerate: frozenset[str] = frozenset()) -> Json:
    """`parse` without its quick way."""
    try:
        value = _decode(data, _scan)
    except _TooBig:
        if not tolerate:
            raise Malformed("an integer is beyond 2^53-1") from None  # 4
        return _settle(_decode(data, _scan_big), tolerate)
    if b"\\u" in data and _SURROGATE_ESCAPE.search(data) is not None:
        value = _settle(value, tolerate)
    return value


def parse_object(data: bytes, *, tolerate: frozenset[str] = frozenset()) -> dict[str, Json]:
    """As `parse`, and it must be an object."""
    value = parse(data, tolerate=tolerate)
    if not isinstance(value, dict):
        raise Malformed("a JSON object is expected")
    return value


def parse_answer(data: bytes) -> Json:
    """What an upstream said, to be shown rather than judged: as `parse`, but an integer keeps all its digits and a
    surrogate stays what it is (tool schemas carry 64-bit bounds), so that what is written again says the same."""
    value = _quick(data)
    if value is not _UNSURE:
        return value
    return _decode(data, _scan_exact)


def encode(value: Json) -> bytes:
    """RFC 8785 bytes. Raises Malformed for what has no canonical form."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise Malformed(f"no canonical form: {error}") from None
    except UnicodeEncodeError:
        raise Malformed("no canonical form: a lone surrogate is not text") from None  # in a name


def digest(data: bytes) -> str:
    """`sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _quick(data: bytes) -> Json:
    """The value, or `_UNSURE`."""
    try:
        value: Json = _quickly(data)
    except ValueError:
        return _UNSURE
    return value if _vouched(value, data) else _UNSURE


def _vouched(value: Json, data: bytes) -> bool:
    """Whether the quick parser's `value` is what the exact one would read. It takes RFC 8259 in UTF-8 without a byte
    order mark and without lone surrogates, nothing else (1, 2, 5), but the last of duplicate members, and a double for
    an integer beyond 64 bits. Shown here, not believed:

    No member was dropped (3): each has a colon in `data`, and the only other colons there are those in strings. So
    there are as many colons as members or, where no escape stands for one, as many as in the value written again.
    Numbers (4) and levels (6): `_members`.
    """
    members = _members(value, 1)
    if members < 0:
        return False
    colons = data.count(b":")
    return members == colons or (b"\\u003" not in data and _written(value).count(b":") == colons)


def _members(value: Json, depth: int) -> int:
    """How many members the objects of `value` have; -1 where it is too deep or a number's magnitude is beyond 2^53-1:
    an integer there is refused, and a double may be one that has lost digits."""
    if isinstance(value, dict):
        if depth > MAX_DEPTH:
            return -1
        count = len(value)
        for item in value.values():
            if not isinstance(item, str):
                below = _members(item, depth + 1)
                if below < 0:
                    return -1
                count += below
        return count
    if isinstance(value, list):
        if depth > MAX_DEPTH:
            return -1
        count = 0
        for item in value:
            if not isinstance(item, str):
                below = _members(item, depth + 1)
                if below < 0:
                    return -1
                count += below
        return count
    if isinstance(value, int):
        return 0 if -MAX_INTEGER <= value <= MAX_INTEGER else -1
    if isinstance(value, float):
        return 0 if -_MAX_DOUBLE <= value <= _MAX_DOUBLE else -1
    return 0


def _decode(data: bytes, scan: Scan) -> Json:
    if data.startswith(b"\xef\xbb\xbf"):
        raise Malformed("a byte order mark is not allowed")  # 1
    try:
        text = data.strip(_SPACE).decode("utf-8")
        value, end = scan(text, 0)
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None  # 1
    except StopIteration as stopped:
        raise Malformed(f"not JSON: a value is expected at character {stopped.value}") from None  # 2
    except json.JSONDecodeError as undecodable:
        raise Malformed(f"not JSON: {undecodable.msg} at character {undecodable.pos}") from None  # 2
    except RecursionError:
        raise Malformed(f"deeper than {MAX_DEPTH} levels") from None  # 6
    if end != len(text):
        raise Malformed(f"not JSON: more than one value, at character {end}")  # 2
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:  # nearly always false, and cheap
        _check_depth(value)
    return value


def _check_depth(value: Json) -> None:
    """Level by level, so that it costs no recursion and no more than the value's size."""
    level = [value] if isinstance(value, list | dict) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"deeper than {MAX_DEPTH} levels")  # 6
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) is dict or type(child) is list
        ]


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a member name occurs twice")  # 3
    return found


def _constant(name: str) -> Json:
    raise Malformed(f"{name} is not JSON")  # 2


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Malformed("a number is too large")  # 2
    return value


def _integer(text: str) -> int:
    if len(text) < 16 or (len(text) < 32 and -MAX_INTEGER <= int(text) <= MAX_INTEGER):
        return int(text)
    raise _TooBig


def _big(text: str) -> int | str:
    try:
        return _integer(text)
    except _TooBig:
        return BigDigits(text)


def _exact(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise Malformed(f"an integer has more than {_MAX_DIGITS} digits")
    return int(text)


def _scanner(parse_int: Callable[[str], int | str]) -> Scan:
    """The C scanner with our hooks, without the layers around it: they would cost as much as the scan."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=parse_int, strict=True
    )
    return json.scanner.make_scanner(decoder)  # type: ignore[arg-type]  # its stub is the class itself


_scan = _scanner(_integer)
_scan_big = _scanner(_big)
_scan_exact = _scanner(_exact)


def _settle(value: Json, tolerate: frozenset[str]) -> Json:
    if not isinstance(value, dict):
        return _clean(value, False)
    return {_text(key, False): _clean(item, key in tolerate) for key, item in value.items()}


def _clean(value: Json, tolerated: bool) -> Json:
    if isinstance(value, BigDigits):
        if not tolerated:
            raise Malformed("an integer is beyond 2^53-1")  # 4
        return str(value)
    if isinstance(value, str):
        return _text(value, tolerated)
    if isinstance(value, list):
        return [_clean(item, tolerated) for item in value]
    if isinstance(value, dict):
        return {_text(key, tolerated): _clean(item, tolerated) for key, item in value.items()}
    return value


def _text(value: str, tolerated: bool) -> str:
    if _SURROGATE.search(value) is None:
        return value
    if not tolerated:
        raise Malformed("a lone surrogate is not text")  # 5
    return _SURROGATE.sub("\ufffd", value)


def member(value: Mapping[str, Json], name: str, kind: type, *, where: str) -> object:
    """A required member of one type. Raises Malformed that names it."""
    found = value.get(name)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise Malformed(f"{where}: {name} is missing or not {kind.__name__}")
    return found
