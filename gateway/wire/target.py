"""Request targets and authorities: which spellings exist here, and no second way to write one place.

The rule: what is routed and decided is the very spelling that is forwarded, so a spelling that another server could
read as a different place is refused, never repaired. Nothing is decoded, merged, folded or re-encoded, except that an
authority becomes lower case.
1. Origin form: `/`, not `//`, RFC 3986 characters (and the few that browsers leave as they are). 2. No `#`, no `\\`, no
space, no byte beyond ASCII. 3. `%` stands before two hex digits and never makes a NUL. 4. In the path it never makes a
control, `/` or `\\`, encoded however often, nor text that is not UTF-8. 5. No dot segment in any of its spellings, path
parameters included. 6. Absolute form only for our own authority and scheme. 7. No other form.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote_to_bytes

from gateway.core.reasons import Reason, Refusal

TARGET_BYTES = 8192  # RFC 9112 section 3 asks for at least 8000 octets; routes and policies need far less
LINE_BYTES = TARGET_BYTES + 64  # a request line: the target, a method, the version

TARGET_TOO_LONG = Refusal(Reason.TOO_LARGE, "The request target is too long", rule="target.long", status=414)
BAD_FORM = Refusal(Reason.MALFORMED, "The request target must begin with one slash", rule="target.form")
BAD_CHARACTER = Refusal(Reason.MALFORMED, "The request target has a character it may not have", rule="target.character")
BAD_ESCAPE = Refusal(Reason.MALFORMED, "The request target has a percent escape it may not have", rule="target.escape")
DOT_SEGMENT = Refusal(Reason.MALFORMED, "The request target has a dot segment", rule="target.dots")
FOREIGN = Refusal(Reason.MALFORMED, "The request target names another authority than Host", rule="target.foreign")

_UNRESERVED = rb"A-Za-z0-9\-._~!$&'()*+,;=:@/%\[\]|"
_ORIGIN = re.compile(rb"(/[" + _UNRESERVED + rb"]*)(?:\?([" + _UNRESERVED + rb"?{}^`]*))?")
_LOOSE_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_ENCODED_SEPARATOR = re.compile(rb"%(?:25)*(?:2f|5c|00)|%[01][0-9a-f]|%7f", re.IGNORECASE)
_DOTS = re.compile(rb"/(?:\.|%(?:25)*2e){1,2}(?:[/;]|%(?:25)*3b|\Z)", re.IGNORECASE)
_ABSOLUTE = re.compile(rb"(https?)://([^/?#\\@\s]*)(.*)", re.IGNORECASE | re.DOTALL)

_LABEL = rb"[A-Za-z0-9_-]{1,63}"
_AUTHORITY = re.compile(
    rb"(?:(?:" + _LABEL + rb"\.){0,126}" + _LABEL + rb"\.?|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)


def read_target(raw: bytes) -> tuple[str, str, str] | Refusal:
    """(target, path, query) of an origin-form target, all still encoded and exactly as they came."""
    if len(raw) > TARGET_BYTES:
        return TARGET_TOO_LONG
    found = _ORIGIN.fullmatch(raw)
    if found is None:
        return BAD_CHARACTER if raw[:1] == b"/" else BAD_FORM  # 1, 2, 7
    path = found[1]
    if path[:2] == b"//":
        return BAD_FORM  # 1: a URL parser upstream would take what follows for an authority
    if b"%" in raw:
        if _LOOSE_PERCENT.search(raw) is not None or _ENCODED_SEPARATOR.search(path) is not None:
            return BAD_ESCAPE  # 3, 4
        try:
            unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            return BAD_ESCAPE  # 4: overlong forms of `.` and `/` are among them
    if (b"/." in path or b"%" in path) and _DOTS.search(path) is not None:
        return DOT_SEGMENT  # 5
    query = found[2]
    return raw.decode("ascii"), path.decode("ascii"), "" if query is None else query.decode("ascii")


def read_absolute(raw: bytes, scheme: str, authority: str) -> bytes | Refusal:
    """The origin form of an absolute-form target, if it names this very place (RFC 9112 section 3.2.2)."""
    found = _ABSOLUTE.fullmatch(raw)
    if found is None:
        return BAD_FORM  # 7: asterisk, authority and opaque forms, other schemes
    if found[1].decode("ascii").lower() != scheme or read_authority(found[2]) != authority:
        return FOREIGN  # 6
    rest: bytes = found[3]
    if not rest:
        return b"/"
    return rest if rest[:1] == b"/" else BAD_FORM


def read_authority(raw: bytes) -> str | None:
    """`host[:port]` in lower case, None if it is not one: no user part, no empty host or port, no port beyond 65535."""
    found = _AUTHORITY.fullmatch(raw)
    if found is None or len(raw) > 261:  # 255 octets of name, a colon, five digits
        return None
    port = found[2]
    if port is not None and not 0 < int(port) <= 65535:
        return None
    if found[1] is not None:
        try:
            ipaddress.IPv6Address(found[1].decode("ascii"))
        except ValueError:
            return None
    return raw.decode("ascii").lower()
