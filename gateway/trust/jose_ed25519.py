"""Ed25519 public keys as JOSE writes them (RFC 8037), from their 32 raw bytes. Pure; no signature is made or checked.

The rule it keeps: one spelling. What is read is base64url without padding of exactly one key, else Malformed.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from gateway.core.canonical import Json, encode
from gateway.core.reasons import Malformed

PUBLIC_BYTES: Final = 32


def public_jwk(public: bytes, kid: str) -> dict[str, Json]:
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded_public(public), "kid": kid, "alg": "EdDSA", "use": "sig"}


def thumbprint(public: bytes) -> str:
    """RFC 7638 with SHA-256: the hash of the required members in their one order."""
    members: dict[str, Json] = {"crv": "Ed25519", "kty": "OKP", "x": encoded_public(public)}
    return base64.urlsafe_b64encode(hashlib.sha256(encode(members)).digest()).rstrip(b"=").decode()


def encoded_public(public: bytes) -> str:
    return base64.urlsafe_b64encode(public).rstrip(b"=").decode()


def decoded_public(text: str) -> bytes:
    """Raises Malformed for anything but the one spelling of 32 bytes."""
    try:
        public = base64.urlsafe_b64decode(text.encode("ascii") + b"=")
    except ValueError:
        raise Malformed("a public key is not base64url") from None
    if len(public) != PUBLIC_BYTES or encoded_public(public) != text:
        raise Malformed("a public key is not 32 bytes in their one spelling")
    return public
