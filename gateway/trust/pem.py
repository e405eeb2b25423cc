"""Public keys in PEM, as `openssl` and OPA have them, as a JWK set: one way to believe a key, whatever its wrapping."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.trust.jose import encoded, read_own_key

_CURVES = {"secp256r1": ("P-256", 32), "secp384r1": ("P-384", 48), "secp521r1": ("P-521", 66)}


def is_pem(data: bytes) -> bool:
    return data.lstrip().startswith(b"-----BEGIN ")


def jwks_of(pems: Iterable[bytes], kid: str = "") -> dict[str, Json]:
    """A key set of these keys. `kid` is the name of the one there is; without it each is named by its thumbprint.
    Raises Malformed."""
    keys: list[Json] = []
    for pem in pems:
        jwk = _jwk(pem)
        keys.append({**jwk, "kid": kid or read_own_key(jwk).thumbprint, "use": "sig"})
    return {"keys": keys}


def _jwk(pem: bytes) -> dict[str, Json]:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("not a public key in PEM") from None
    if isinstance(key, Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": _text(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        curve, size = _CURVES[key.curve.name]
        point = key.public_numbers()
        return {"kty": "EC", "crv": curve, "x": _text(point.x.to_bytes(size)), "y": _text(point.y.to_bytes(size))}
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _text(_bytes(numbers.n)), "e": _text(_bytes(numbers.e))}
    raise Malformed("not an Ed25519, P-256, P-384, P-521 or RSA key")


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _text(raw: bytes) -> str:
    return encoded(raw).decode()
