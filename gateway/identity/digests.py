"""Content-Digest (RFC 9530) of a request's body: what the header promises, and whether the body keeps it.

1. The header is one dictionary of SHA-256 and SHA-512; members of other algorithms count for nothing, but one of the
two is needed, and all of them that are there must be right. 2. A body that is here is compared at once. 3. A streamed
body is compared as it passes: its last piece is held back until all of it was seen, so that no upstream ever gets a
whole body that is not the one that was signed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Final

from gateway.core.exchange import Head
from gateway.core.reasons import Malformed, Refusal, Spoiled
from gateway.identity.structured import Item, read_dictionary

HEADER_LIMIT_BYTES = 1024
_ALGORITHMS: Final = {"sha-256": "sha256", "sha-512": "sha512"}


class ExpectedBody:
    """What a body must be. Made for one body."""

    __slots__ = ("_digests", "_refusal")

    def __init__(self, head: Head, refusal: Refusal) -> None:
        """`refusal` is what a body is told that is another. Raises Malformed for a header that promises nothing."""
        values = head.values(b"content-digest")
        if len(values) != 1 or len(values[0]) > HEADER_LIMIT_BYTES or not values[0].isascii():
            raise Malformed("there must be one Content-Digest header")  # 1
        self._digests: list[tuple[str, bytes]] = []
        for name, item in read_dictionary(values[0].decode("ascii")).items():
            if name not in _ALGORITHMS:
                continue
            if not isinstance(item, Item) or not isinstance(item.value, bytes):
                raise Malformed("a Content-Digest is not bytes")  # 1
            self._digests.append((_ALGORITHMS[name], item.value))
        if not self._digests:
            raise Malformed("Content-Digest has neither sha-256 nor sha-512")  # 1
        self._refusal = refusal

    def compared(self, body: bytes) -> Refusal | None:
        """2."""
        right = all(hmac.compare_digest(hashlib.new(name, body).digest(), said) for name, said in self._digests)
        return None if right else self._refusal

    def stream(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """3. Raises Spoiled at the end of a body that is another."""
        return _Compared(body, self._digests, self._refusal)


class _Compared:
    __slots__ = ("_body", "_digests", "_hashes", "_held", "_over", "_refusal")

    def __init__(self, body: AsyncIterator[bytes], digests: list[tuple[str, bytes]], refusal: Refusal) -> None:
        self._body = body
        self._digests = digests
        self._hashes = [hashlib.new(name) for name, _ in digests]
        self._held = b""
        self._over = False
        self._refusal = refusal

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._over:
            try:
                piece = await anext(self._body)
            except StopAsyncIteration:
                self._over = True
                self._judge()
                break
            for found in self._hashes:
                found.update(piece)
            held, self._held = self._held, piece
            if held:
                return held
        held, self._held = self._held, b""
        if not held:
            raise StopAsyncIteration
        return held

    def _judge(self) -> None:
        for found, (_, said) in zip(self._hashes, self._digests, strict=True):
            if not hmac.compare_digest(found.digest(), said):
                self._held = b""
                raise Spoiled(self._refusal)
