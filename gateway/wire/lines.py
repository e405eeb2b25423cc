"""The header lines of responses, each checked before it leaves; remembered, for upstream and gateway repeat themselves.

The rule: a name is a token, a value holds text bytes only, so that a line is one line (row 7 of the threats: nothing an
application puts there can split a response). What is decided per response (framing, the connection, Date) is not here:
for those the answer is None. Bounded, and forgotten all at once.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.core.exchange import Header

KEPT_LINES: Final = 1024
KEPT_STANDINGS: Final = 1024  # of limits, apart: where they are not alike they must not drive out the rest
KEPT_BYTES: Final = 256  # a longer line is a cookie or a policy: cheap beside the body it comes with

OURS: Final = frozenset(
    (b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade")
)
DECIDED: Final = OURS | {b"content-length", b"date"}
_EVER_NEW: Final = frozenset((b"x-request-id", b"x-upstream-request-id", b"set-cookie", b"etag"))
_STANDING: Final = b"ratelimit"
_TEXT: Final = frozenset((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
AS_LETTERS: Final = bytes(0x61 if byte in _TEXT else 0 for byte in range(256))
"""For `translate`: text becomes letters, so that `isalpha` says whether all of it is. A pattern takes five times it."""
_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++: [\t\x20-\x7e\x80-\xff]*+\r\n")


def checked(name: bytes, value: bytes) -> bytes:
    """The line, with its end. Raises RuntimeError for what is no line."""
    line = name + b": " + value + b"\r\n"
    if _LINE.fullmatch(line) is None:
        raise RuntimeError("a response header has a byte that may not leave")
    return line


class HeaderLines:
    """What one listener has said."""

    __slots__ = ("_date", "_dated", "_known", "_standings")

    def __init__(self) -> None:
        self._known: dict[Header, bytes] = {}
        self._standings: dict[bytes, bytes] = {}
        self._date = b""
        self._dated = b""

    def line(self, header: Header) -> bytes | None:
        """The line of one header; None for one that is decided per response. Raises RuntimeError as `checked`."""
        known = self._known.get(header)
        return known if known is not None else self._learn(header)

    def _learn(self, header: Header) -> bytes | None:
        name, value = header
        if name == _STANDING:
            found = self._standings.get(value)
            return found if found is not None else self._stand(value)
        if name in _EVER_NEW and value.translate(AS_LETTERS).isalpha():
            return name + b": " + value + b"\r\n"  # what `checked` would find as well
        name = name.lower()
        if name in DECIDED:
            return None
        line = checked(name, value)
        if name not in _EVER_NEW and len(line) <= KEPT_BYTES:
            if len(self._known) >= KEPT_LINES:
                self._known.clear()
            self._known[header] = line
        return line

    def _stand(self, value: bytes) -> bytes:
        line = checked(_STANDING, value)
        if len(line) <= KEPT_BYTES:
            if len(self._standings) >= KEPT_STANDINGS:
                self._standings.clear()
            self._standings[value] = line
        return line

    def date(self, value: bytes) -> bytes:
        """The Date line of `value`, which is the same for a second. Raises RuntimeError as `checked`."""
        if value != self._date:
            self._dated = checked(b"date", value)
            self._date = value
        return self._dated
