"""The head of an answer whose body is judged and may be rewritten.

The rule it keeps: nothing in the head speaks of bytes that are not sent, and what was made for one caller is private.
It must never invent a lifetime: only what the upstream allowed is passed on.
"""

from __future__ import annotations

from gateway.core.exchange import Header
from gateway.core.reasons import Malformed

# Validators and digests of the upstream's own bytes (RFC 9110, 8.8; RFC 9530), and ranges of them.
_OF_THE_BYTES = frozenset(
    {b"etag", b"last-modified", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges"}
)


def describe_anew(headers: list[Header]) -> None:
    """Takes the upstream's validators away and makes the answer private, in place."""
    directives: list[str] = ["private"]
    kept: list[Header] = []
    for name, value in headers:
        if name == b"cache-control":
            directives += [word for item in value.decode("latin-1").split(",") if _own(word := item.strip())]
        elif name not in _OF_THE_BYTES:
            kept.append((name, value))
    kept.append((b"cache-control", ", ".join(directives).encode("latin-1")))
    headers[:] = kept


def _own(directive: str) -> bool:
    """Directives for shared caches have no meaning in an answer that is private."""
    name = directive.partition("=")[0].strip().lower()
    return bool(name) and name not in ("public", "private", "s-maxage", "proxy-revalidate")


def must_be_plain(headers: list[Header]) -> None:
    """Raises Malformed for an answer in a content coding: `identity` was asked for, and nothing else can be judged."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Malformed("it is encoded, though it was asked for without a coding")
