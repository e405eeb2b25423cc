"""Structured fields (RFC 9651) as message signatures need them: dictionaries of items and inner lists, read strictly
and written canonically. Sans-I/O.

Strict means: what the RFC lets a reader mend or skip is refused. A key that occurs twice, a type that no field here has
(decimals, dates, display strings), trailing commas and anything behind the end are Malformed; sizes are bounded by the
header's own. What was read is written again in the one canonical form, which is what a signature covers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.core.reasons import Malformed

MEMBERS_LIMIT = 32  # of a dictionary or an inner list
PARAMETERS_LIMIT = 16

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]{0,63}")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_BYTES = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_SPACE = re.compile(r" *")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class Token:
    """A bare word; `"text"` is a string and not the same."""

    word: str


Bare: TypeAlias = "bool | int | str | bytes | Token"
Parameters: TypeAlias = "Mapping[str, Bare]"


@dataclass(frozen=True, slots=True)
class Item:
    value: Bare
    parameters: Parameters = field(default_factory=dict)

    def __str__(self) -> str:
        return _bare(self.value) + _parameters(self.parameters)


@dataclass(frozen=True, slots=True)
class InnerList:
    items: tuple[Item, ...]
    parameters: Parameters = field(default_factory=dict)

    def __str__(self) -> str:
        return "(" + " ".join(map(str, self.items)) + ")" + _parameters(self.parameters)


Member: TypeAlias = "Item | InnerList"


def read_dictionary(text: str) -> dict[str, Member]:
    """At least one member. Raises Malformed."""
    reader = _Reader(text.strip(" "))
    found: dict[str, Member] = {}
    while True:
        key = reader.take(_KEY, "a key")[0]
        if key in found or len(found) >= MEMBERS_LIMIT:
            raise Malformed("a key occurs twice, or there are too many")
        found[key] = reader.member() if reader.skip("=") else Item(True, reader.parameters())
        if reader.over():
            return found
        reader.take(_COMMA, "a comma")


def read_item(text: str) -> Item:
    """Exactly one item. Raises Malformed."""
    reader = _Reader(text.strip(" "))
    found = reader.item()
    if not reader.over():
        raise Malformed("something stands behind the value")
    return found


class _Reader:
    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def over(self) -> bool:
        return self._at == len(self._text)

    def skip(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def take(self, shape: re.Pattern[str], what: str) -> re.Match[str]:
        found = shape.match(self._text, self._at)
        if found is None:
            raise Malformed(f"{what} is expected at character {self._at}")
        self._at = found.end()
        return found

    def member(self) -> Member:
        if not self.skip("("):
            return self.item()
        items: list[Item] = []
        while True:
            self.take(_SPACE, "a space")
            if self.skip(")"):
                return InnerList(tuple(items), self.parameters())
            if items and self._text[self._at - 1] != " ":
                raise Malformed(f"a space is expected at character {self._at}")
            if len(items) >= MEMBERS_LIMIT:
                raise Malformed("an inner list has too many items")
            items.append(self.item())

    def item(self) -> Item:
        return Item(self._value(), self.parameters())

    def parameters(self) -> Parameters:
        found: dict[str, Bare] = {}
        while self.skip(";"):
            self.take(_SPACE, "a space")
            key = self.take(_KEY, "a key")[0]
            if key in found or len(found) >= PARAMETERS_LIMIT:
                raise Malformed("a parameter occurs twice, or there are too many")
            found[key] = self._value() if self.skip("=") else True
        return found

    def _value(self) -> Bare:
        mark = self._text[self._at : self._at + 1]
        if mark == '"':
            return re.sub(r"\\(.)", r"\1", self.take(_STRING, "a string")[1])
        if mark == ":":
            return _decoded(self.take(_BYTES, "bytes")[1])
        if mark == "?":
            if self.skip("?1"):
                return True
            if self.skip("?0"):
                return False
        if mark == "-" or mark.isdigit():
            return int(self.take(_INTEGER, "a whole number")[0])
        return Token(self.take(_TOKEN, "a value")[0])


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("bytes are not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Malformed("bytes are not canonical base64")  # two spellings of one signature are two signatures
    return raw


def _bare(value: Bare) -> str:
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, Token):
        return value.word
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parameters(parameters: Parameters) -> str:
    return "".join(f";{key}" if value is True else f";{key}={_bare(value)}" for key, value in parameters.items())
