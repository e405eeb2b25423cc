"""The headers of one upstream request, in the two parts they are made of: what follows from the caller's head and the
route alone, checked and encoded once for each head that a kept connection repeats, and what is this exchange's own.

It must never carry what differs between two exchanges of the same head in the first part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.core.exchange import Header
from gateway.wire.http1_head import FRAMING, TOKEN, check_names, encode_head, unsendable
from gateway.wire.lines import AS_LETTERS

_NAME = re.compile(TOKEN)
_NOT_OWN = FRAMING | {b"host"}
KEPT_NAMES: Final = 64


class Fixed:
    """Host and the caller's headers that go on. Its block is made when it is first sent over HTTP/1.1."""

    __slots__ = ("_block", "_names", "_said", "headers")

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = tuple(headers)
        self._names: set[bytes] = set()  # that stood beside these before; as many as the stages have words for
        self._said = ("", "")
        self._block = b""

    def block(self, method: str, target: str) -> bytes:
        """Request line and header lines. Raises UpstreamFailed for what would not arrive as these lines."""
        if self._said != (method, target):
            check_names(self.headers)
            self._block = encode_head(method, target, self.headers, b"")[:-2]
            self._said = (method, target)
        return self._block

    def may_say(self, name: bytes) -> bool:
        """Whether a header of the exchange's own may have this name; False for one that is not its to set. Raises
        UpstreamFailed for what is no name."""
        if name in self._names:
            return True
        if name in _NOT_OWN:
            return False
        if _NAME.fullmatch(name) is None:
            raise unsendable("a control byte or a malformed name in the request head")
        if len(self._names) < KEPT_NAMES:
            self._names.add(name)
        return True


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
        block = self.fixed.block(method, target)
        own = b""
        for name, value in self.own:
            if not self.fixed.may_say(name):
                raise unsendable("a framing header or a second Host was given")
            if value and not value.translate(AS_LETTERS).isalpha():
                raise unsendable("a control byte or a malformed name in the request head")
            own += name + b": " + value + b"\r\n"
        return b"".join((block, own, framing, b"\r\n"))
