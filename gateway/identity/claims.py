"""Where a claim stands: a name, or a path of names like `realm_access.roles`.

The rule: a dot always descends. A name that has one is written `\\.`, a backslash `\\\\`; so a path means one place in
any token, whatever else the token says. Only objects are descended into.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from gateway.core.canonical import Json
from gateway.core.reasons import Malformed

_PART = re.compile(r"(?:[^.\\]|\\[.\\])+")
_ESCAPED = re.compile(r"\\(.)")
_NOTHING: Mapping[str, Json] = {}


@lru_cache(maxsize=256)
def path(claim: str) -> tuple[str, ...]:
    """The names. The configuration has checked the spelling; raises ValueError for another."""
    parts = tuple(_ESCAPED.sub(r"\1", part) for part in _PART.findall(claim))
    if ".".join(_PART.findall(claim)) != claim:
        raise ValueError(f"{claim!r} is no path to a claim")
    return parts


def place(claims: Mapping[str, Json], claim: str) -> tuple[Mapping[str, Json], str]:
    """The object that has the claim, or lacks it, and the claim's name in it. Raises Malformed where what should be
    descended into is something else than an object."""
    *above, name = path(claim)
    found = claims
    for part in above:
        if part not in found:
            return _NOTHING, name
        inner = found[part]
        if not isinstance(inner, dict):
            raise Malformed(f"{claim} of the access token is not where it should be: {part} is not an object")
        found = inner
    return found, name
