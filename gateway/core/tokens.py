"""The ports of signed tokens: what identity/ asks of a token, its proof and its issuer's keys, and trust/ answers.

A token that was read is believed by nobody yet: only what a key of its issuer vouches for is. Nothing here raises for
what a caller sent but Malformed, and no text of it quotes the token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol as Port
from typing import TypeAlias

from gateway.core.canonical import Json


class SignedToken(Port):
    """A compact JWS that was read strictly and whose signature nobody has checked yet (trust/jose.py)."""

    @property
    def algorithm(self) -> str: ...

    @property
    def kid(self) -> str | None: ...

    @property
    def type(self) -> str:
        """`typ`, lower case, without `application/`; "" when there is none."""
        ...

    @property
    def signed(self) -> bytes:
        """The very bytes that the signature covers."""
        ...

    @property
    def signature(self) -> bytes: ...

    def claims(self) -> dict[str, Json]:
        """The payload as a strict JSON object, believed by nobody yet. Raises Malformed."""
        ...


ReadToken: TypeAlias = "Callable[[bytes], SignedToken]"
"""Bytes to SignedToken. Raises Malformed, whose text never quotes the token."""


class Distrust(StrEnum):
    """Why a token's signature counts for nothing."""

    ALGORITHM = "algorithm"  # not one this issuer may sign with
    KEY = "key"  # no key of this issuer fits: it may have been published since
    SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class Vouched:
    """The signature is right; `key` is the thumbprint of the key that made it."""

    key: str


class TrustedKeys(Port):
    """One immutable set of an issuer's public keys (trust/jose.py)."""

    def verify(self, token: SignedToken, algorithms: frozenset[str]) -> Vouched | Distrust: ...

    def proves(self, key: str, algorithm: str, signed: bytes, signature: bytes, now: float) -> Vouched | Distrust:
        """Whether the key with this thumbprint signed these bytes. `now` is epoch seconds: the key must be in force."""
        ...

    def holds(self, key: str) -> bool:
        """Whether a key with this thumbprint is among them."""
        ...


@dataclass(frozen=True, slots=True)
class Proof:
    """A JWT that brought its own public key and was signed with it (RFC 9449, section 4): whoever made it holds that
    key, and nothing else is known of it. `key` is its RFC 7638 thumbprint."""

    key: str
    claims: dict[str, Json]


ReadProof: TypeAlias = "Callable[[bytes], Proof]"
"""Bytes to a verified Proof. Raises Malformed, whose text never quotes the proof."""


class KeySource(Port):
    """Where an issuer's keys come from, kept fresh in the background (trust/jwks.py)."""

    @property
    def keys(self) -> TrustedKeys | None:
        """The newest good set whatever its age: for identity comparison only."""
        ...

    def usable(self) -> TrustedKeys | None:
        """The set to verify with, None when there is none or it is too old to be believed."""
        ...

    def refresh(self) -> Awaitable[None] | None:
        """Something to wait for, with its own deadline, that may bring newer keys; None when it is too early to ask
        again. Never raises."""
        ...
