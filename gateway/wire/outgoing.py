"""The headers of one upstream request, in the two parts they are made of: what follows from the caller's head and the
route alone, checked and encoded once for each head that a kept connection repeats, and what is this exchange's own.

It must never carry what differs between two exchanges of the same head in the first part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.core.exchange import Header
from gateway.wire.http1_head import FRAMING, check_names, encode_head, unsendable

_OWN = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++: [\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_NOT_OWN = FRAMING | {b"host"}


class Fixed:
    """Host and the caller's headers that go on. Its block is made when it is first sent over HTTP/1.1."""

    __slots__ = ("_block", "_said", "headers")

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = tuple(headers)
        self._said = ("", "")
        self._block = b""

    def block(self, method: str, target: str) -> bytes:
        """Request line and header lines. Raises UpstreamFailed for what would not arrive as these lines."""
        if self._said != (method, target):
            check_names(self.headers)
            self._block = encode_head(method, target, self.headers, b"")[:-2]
            self._said = (method, target)
        return self._block


class Outgoing:
    """Iterates over all of them, Host first."""

    __slots__ = ("fixed", "own")

    def __init__(self, fixed: Fixed, own: list[Header]) -> None:
        self.fixed = fixed
        self.own = own

    def __iter__(self) -> Iterator[Header]:
        return iter([*self.fixed.headers, *self.own])

    def head(self, method: str, target: str, framing: bytes) -> bytes:
        """The bytes of the request's head. `framing` is whole lines of the client's making. Raises UpstreamFailed."""
        own = b""
        for name, value in self.own:
            if name in _NOT_OWN:
                raise unsendable("a framing header or a second Host was given")
            own += name + b": " + value + b"\r\n"
        if own.count(b"\n") != len(self.own) or _OWN.fullmatch(own) is None:
            raise unsendable("a control byte or a malformed name in the request head")
        return b"".join((self.fixed.block(method, target), own, framing, b"\r\n"))
