"""What to do about a parser's error, where its words do not say.

The parser says what it expected; whoever wrote the file often meant something else: Rego of before OPA 1.0, another
language's operators, a character that a text editor put there. This only adds to the message, it decides nothing.
"""

from __future__ import annotations

import re
import unicodedata

_PLACE = re.compile(r":(\d+):(\d+): ")
_OPERATOR = re.compile(r"&&|\|\||\b(and|or)\b")
_NO_OPERATORS = "; Rego has no `and` and `or`: conditions stand one below the other, alternatives are rules of one name"
_ASCII = range(0x20, 0x7F)


def advice(said: str, text: str) -> str:
    """ "; " and what to do, "" where the message says enough. `said` is `file:line:column: what`, `text` the file."""
    if "keyword is required before rule body" in said:
        return "; this is Rego of before OPA 1.0, which `opa fmt --v0-v1 --write` rewrites"
    if "Missing package declaration" in said:
        return "; begin the file with `package tollgate`"
    place = _PLACE.search(said)
    lines = text.split("\n")
    if place is None or not 0 < int(place.group(1)) <= len(lines):
        return ""
    line = lines[int(place.group(1)) - 1]
    rest = line[int(place.group(2)) - 1 :]
    if said.endswith("invalid character"):
        return _about_character(rest)
    return _NO_OPERATORS if _OPERATOR.search(line) else ""


def _about_character(rest: str) -> str:
    if rest[:1] == "$":
        return "; texts with {...} in them are not known here: use sprintf"
    odd = next((mark for mark in rest[:2] if ord(mark) not in _ASCII), "")
    if not odd:
        return ""
    return f"; {odd!r} is {unicodedata.name(odd, 'a character')}: use the plain one of the keyboard"
