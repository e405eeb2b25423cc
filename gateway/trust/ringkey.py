"""One key of the ring (keys.py): what it is for, its public half, and how it signs.

Its private half is here, in a vault, or nowhere, and is never shown; a key without one signs nothing. What a vault
signed is believed only once the public half verifies it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol as Port

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.core.canonical import Json
from gateway.trust.jose import Signer, far_signer, signer
from gateway.trust.jose_ed25519 import public_jwk
from gateway.trust.keyfiles import KeyRingError
from gateway.trust.keytable import Entry


class KeyVault(Port):
    """Where the keys of some purposes are made and sign without ever leaving (vault.py). Raises OSError; waits."""

    def holds(self, purpose: str) -> bool:
        """Whether new keys of this purpose are made there."""
        ...

    def make(self, purpose: str) -> tuple[str, bytes]:
        """A new key: its reference and its public half."""
        ...

    def sign(self, reference: str, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key and what it is for. `private` is None where only its public half is here."""

    entry: Entry
    private: Ed25519PrivateKey | None = field(repr=False)
    vault: KeyVault | None = field(default=None, repr=False)

    @property
    def purpose(self) -> str:
        return self.entry.purpose

    @property
    def kid(self) -> str:
        return self.entry.kid

    @property
    def public(self) -> bytes:
        """The 32 raw bytes."""
        return self.entry.public

    def public_key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.entry.public)

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 over `data`, for what is not JOSE. A key in a vault waits, and raises OSError."""
        if self.entry.transit and self.vault is not None:
            signature = self.vault.sign(self.entry.transit, data)
            try:
                self.public_key().verify(signature, data)
            except InvalidSignature:
                raise OSError(f"the vault's signature is not of the {self.purpose} key {self.kid}") from None
            return signature
        return self._signing().sign(data)

    @property
    def signs(self) -> bool:
        """Whether its private half is within reach."""
        return self.private is not None or (self.entry.transit != "" and self.vault is not None)

    def signer(self) -> Signer:
        if self.entry.transit and self.vault is not None:
            return far_signer(self.public_key(), self.kid, self.sign)
        return signer(self._signing(), self.kid)

    def jwk(self) -> dict[str, Json]:
        return public_jwk(self.public, self.kid)

    def _signing(self) -> Ed25519PrivateKey:
        if self.private is None:
            raise KeyRingError(f"the private half of the {self.purpose} key {self.kid} is not here")
        return self.private
