"""A caller with a key of its own: DPoP proofs and message signatures, made without any code of the gateway's."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Key = Ed25519PrivateKey | EllipticCurvePrivateKey


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def p256() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


@dataclass
class Prover:
    key: Key = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def algorithm(self) -> str:
        return "EdDSA" if isinstance(self.key, Ed25519PrivateKey) else "ES256"

    @property
    def jwk(self) -> dict[str, Any]:
        if isinstance(self.key, Ed25519PrivateKey):
            raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)}
        numbers = self.key.public_key().public_numbers()
        x, y = (b64url(value.to_bytes(32)) for value in (numbers.x, numbers.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    @property
    def thumbprint(self) -> str:
        """RFC 7638: `jwk` has exactly the required members, in order."""
        return b64url(hashlib.sha256(json.dumps(self.jwk, separators=(",", ":")).encode()).digest())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(data)
        r, s = decode_dss_signature(self.key.sign(data, ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def jws(self, header: dict[str, Any], claims: Any) -> str:
        parts = [b64url(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts)
        return f"{signed}.{b64url(self.sign(signed.encode()))}"

    def proof(
        self, method: str, url: str, token: str, now: float, *, header: dict[str, Any] | None = None, **changed: Any
    ) -> str:
        """A DPoP proof; `None` takes a claim or header member out."""
        claims = {
            "jti": b64url(hashlib.sha256(repr((method, url, now, changed)).encode()).digest()),
            "htm": method, "htu": url, "iat": int(now), "ath": b64url(hashlib.sha256(token.encode()).digest()),
        } | changed  # fmt: skip
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk} | (header or {})
        return self.jws(
            *({name: value for name, value in part.items() if value is not None} for part in (head, claims))
        )

    def signature(
        self, components: list[tuple[str, str]], now: float, *, label: str = "sig1", **parameters: Any
    ) -> dict[str, str]:
        """The two headers of a message signature over (component identifier, value) pairs."""
        said: dict[str, Any] = {"created": int(now), "keyid": self.thumbprint, "nonce": f"n-{now}"} | parameters
        inner = "(" + " ".join(name for name, _ in components) + ")"
        inner += "".join(
            f";{name}={value if isinstance(value, int) else json.dumps(value)}"
            for name, value in said.items()
            if value is not None
        )
        base = "\n".join([*(f"{name}: {value}" for name, value in components), f'"@signature-params": {inner}'])
        made = base64.b64encode(self.sign(base.encode())).decode()
        return {"signature-input": f"{label}={inner}", "signature": f"{label}=:{made}:"}
