"""`cnf` (RFC 7800): what a token or a descriptor is bound to, in the two ways this gateway can check.

A key by its RFC 7638 thumbprint (`jkt`, RFC 9449) and a client certificate by its SHA-256 (`x5t#S256`, RFC 8705), one
or both. Anything else in it means a binding that nobody here could check, so the whole of it cannot be used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.core.canonical import Json

_DIGEST = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of a SHA-256
_METHODS = frozenset({"jkt", "x5t#S256"})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """ "" for what it does not name; at least one of the two is named."""

    key: str
    certificate: str


def confirmation(cnf: Json) -> Confirmation | None:
    """None where it cannot be used."""
    if not isinstance(cnf, dict) or not cnf or not _METHODS.issuperset(cnf):
        return None
    for value in cnf.values():
        if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
            return None
    return Confirmation(str(cnf.get("jkt", "")), str(cnf.get("x5t#S256", "")))
