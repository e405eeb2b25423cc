"""Which request bodies can be judged: the media type says JSON, nothing is encoded, the text is UTF-8 (ruling 10).

The rule it keeps: a body that a second reader could decode differently is not judged, and what is not judged is not
forwarded as if it were. It must never guess a type from the bytes.
"""

from __future__ import annotations

from gateway.core.exchange import Head
from gateway.core.reasons import Reason, Refusal

JSON = "application/json"

_PLAIN = {
    b"application/json": JSON,
    b"application/json; charset=utf-8": JSON,
    b"application/json;charset=utf-8": JSON,
    b"application/a2a+json": "application/a2a+json",
}
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


def media_type(head: Head) -> str | Refusal:
    """The type without parameters, lower case; "" where none is given. A Refusal where the body could be read in two
    ways: two types, another charset, a content coding."""
    found: bytes | None = None
    for name, value in head.headers:
        if name == b"content-type":
            if found is not None:
                return _unsupported("two content types")
            found = value
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return _unsupported("an encoded body cannot be judged: send it without Content-Encoding")
    if found is None:
        return ""
    return _PLAIN.get(found) or _parsed(found.decode("latin-1").lower())


def _parsed(text: str) -> str | Refusal:
    essence, _, parameters = text.partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF_8:
            return _unsupported("a judged body is UTF-8")
    return essence.strip()


def is_json(essence: str) -> bool:
    return essence == JSON or (essence.startswith("application/") and essence.endswith("+json"))


def untyped(head: Head, body: bytes | None) -> Refusal | None:
    """The refusal of a body that came without a type: it was read because it might have been empty."""
    if body and head.first(b"content-type") is None:
        return _unsupported("a body needs a Content-Type to be judged")
    return None


def not_json(essence: str) -> Refusal:
    return _unsupported(f"a body of type {essence[:100]!r} cannot be judged here: send JSON")


def _unsupported(text: str) -> Refusal:
    return Refusal(Reason.UNSUPPORTED_MEDIA, text, rule="media_type")
