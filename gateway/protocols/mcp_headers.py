"""The headers in which MCP repeats what a body says (`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`).

The rule it keeps: the body decides. A header that says something else, or says it twice, is refused; what goes upstream
is written again from the body. It must never believe a header that the body does not bear out.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from gateway.core.canonical import Json
from gateway.core.exchange import Head, Header
from gateway.core.reasons import Malformed
from gateway.protocols.mcp_methods import Method, Object

HEADER_MISMATCH = -32020

VERSION = b"mcp-protocol-version"
METHOD = b"mcp-method"
NAME = b"mcp-name"
SESSION = b"mcp-session-id"
PARAM = b"mcp-param-"

MAX_SESSION_BYTES = 1024  # ids in the field are UUIDs or signed tokens

_BEFORE, _AFTER = b"=?base64?", b"?="
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_SESSION = re.compile(rb"[\x21-\x7e]+")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.0+)?")


class Heading:
    """What a head says of MCP: its headers by name, the session id ("" without one), the version as it is written, and
    whether it mirrors a method or a name."""

    __slots__ = ("headers", "mirrors", "session", "version")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        """Raises Malformed."""
        self.headers: Final = headers
        self.session: Final = _session_id(headers)
        self.version: Final = headers.get(VERSION, b"").decode("latin-1")
        self.mirrors: Final = METHOD in headers or NAME in headers


def heading(head: Head) -> Heading:
    """The heading of a head, read once for each. Raises Malformed for what is there twice or cannot be."""
    found: Heading | None = head.facts.get("mcp")
    if found is None:
        found = head.facts["mcp"] = Heading(_unique(head))
    return found


def _unique(head: Head) -> dict[bytes, bytes]:
    """The request's headers by name. Raises Malformed where an `mcp-*` one is there twice: readers would differ."""
    found = dict(head.headers)
    if len(found) != len(head.headers):
        seen: set[bytes] = set()
        for name, _ in head.headers:
            if name.startswith(b"mcp-") and name in seen:
                raise Malformed(f"{name.decode('latin-1')[:60]} is there twice")
            seen.add(name)
    return found


def _session_id(headers: dict[bytes, bytes]) -> str:
    """The session id, "" where there is none. Raises Malformed for what cannot be one."""
    value = headers.get(SESSION)
    if value is None:
        return ""
    if len(value) > MAX_SESSION_BYTES or _SESSION.fullmatch(value) is None:
        raise Malformed("Mcp-Session-Id must be visible ASCII")
    return value.decode("ascii")


def check(headers: dict[bytes, bytes], method: Method, params: dict[str, Json], required: bool) -> None:
    """Raises Malformed where the headers of a request do not say what its body says. Where they are `required` (the
    modern era) their absence is a mismatch too."""
    value = headers.get(METHOD)
    if value is None:
        if required:
            raise Malformed("Mcp-Method is required")
    elif value != method.mirror[1]:
        raise Malformed("Mcp-Method is not the method of the body")
    if not method.named:
        return
    value = headers.get(NAME)
    if value is None:
        if required and method.must_name:
            raise Malformed("Mcp-Name is required")
    elif decode(value) != params.get(method.named):
        raise Malformed(f"Mcp-Name is not params.{method.named}")
    if required and method.object is Object.TOOL:
        repeated = [name for name in headers if name.startswith(PARAM)]
        if repeated:
            _check_params(repeated, headers, params.get("arguments"))


def rewritten(version: Header, method: Method, params: dict[str, Json]) -> tuple[Header, ...]:
    """The mirrored headers of a modern request, from its body alone."""
    value = params.get(method.named) if method.named else None
    if type(value) is str:
        return (version, method.mirror, (NAME, encode(value)))
    return (version, method.mirror)


def encode(value: str) -> bytes:
    """A header value for any text: as it stands where that is safe and unambiguous, else its base64 form."""
    if _PLAIN.fullmatch(value) is not None and not (value.startswith("=?base64?") and value.endswith("?=")):
        return value.encode("ascii")
    return _BEFORE + base64.b64encode(value.encode()) + _AFTER


def decode(value: bytes) -> str | None:
    """The text of a header value; None for a base64 form that is not exactly what an encoder writes."""
    value = value.strip(b" \t")
    if value.startswith(_BEFORE) and value.endswith(_AFTER) and len(value) >= len(_BEFORE) + len(_AFTER):
        payload = value[len(_BEFORE) : -len(_AFTER)]
        try:
            decoded = base64.b64decode(payload, validate=True)
            return decoded.decode() if base64.b64encode(decoded) == payload else None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return value.decode("ascii") if value.isascii() else None


def repeats(headers: dict[bytes, bytes], values: list[Json]) -> str:
    """The `Mcp-Param-*` header, if any, whose value is found among these, "" where none is."""
    texts, numbers = _scalars({str(place): value for place, value in enumerate(values)})
    for name in headers:
        if name.startswith(PARAM):
            said = decode(headers[name])
            if said is None or _is_among(said, texts, numbers):
                return name.decode("latin-1")[:60]
    return ""


def _is_among(said: str, texts: set[str], numbers: set[int]) -> bool:
    return said in texts or (_DECIMAL.fullmatch(said) is not None and int(said.partition(".")[0]) in numbers)


def _check_params(repeated: list[bytes], headers: dict[bytes, bytes], arguments: Json) -> None:
    """Which argument a `Mcp-Param-*` repeats is in the tool's schema, which the upstream checks. Here it must repeat
    some argument: a value that the body does not have at all was put there for somebody who reads headers only."""
    texts, numbers = _scalars(arguments)
    for name in repeated:
        said = decode(headers[name])
        if said is None:
            raise Malformed(f"{name.decode('latin-1')[:60]} is not well encoded")
        if not _is_among(said, texts, numbers):
            raise Malformed(f"{name.decode('latin-1')[:60]} is not an argument of the body")


def _scalars(arguments: Json) -> tuple[set[str], set[int]]:
    """Every scalar that a chain of properties leads to: as header text, and the integers among them."""
    texts: set[str] = set()
    numbers: set[int] = set()
    waiting: list[Json] = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, bool):
            texts.add("true" if value else "false")
        elif isinstance(value, str):
            texts.add(value)
        elif isinstance(value, int | float):
            texts.add(str(value))
            if value == int(value):
                numbers.add(int(value))
    return texts, numbers
