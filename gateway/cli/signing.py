"""Who signs on the command line: a private key in a PEM file, or the gateway's own key of a purpose.

A private key never leaves the object that signs; a file that others may read is said to be one.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.cli.output import FAILED, Stop, message
from gateway.trust.jose import RSA_BITS, Signer, signer
from gateway.trust.keys import KeyRing

KEY_LIMIT_BYTES = 64 * 1024


def passphrase_of(path: Path | None) -> bytes | None:
    """Without the newline at its end."""
    return _read(path).strip(b"\r\n") if path is not None else None


def from_ring(data_dir: Path, purpose: str, passphrase: bytes | None) -> Signer:
    """The key that signs for this purpose now."""
    if not (data_dir / "keys").is_dir():
        raise Stop(f"{data_dir} has no keys; `tollgate keys new {purpose}` makes one")
    current = KeyRing(data_dir / "keys", passphrase=passphrase).current(purpose)
    if current is None:
        raise Stop(f"there is no {purpose} key yet; `tollgate keys new {purpose}` makes the first one", FAILED)
    return current.signer()


def from_file(path: Path, kid: str, pss: bool, passphrase: bytes | None) -> Signer:
    """`kid` "" is the thumbprint; `pss` makes an RSA key sign PS256."""
    if path.stat().st_mode & 0o077:
        message(f"{path} may be read by others: chmod 600 {path}")
    try:
        private = load_pem_private_key(_read(path), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Stop(f"{path} is no private key in PEM, or --passphrase-file is missing or wrong") from None
    if isinstance(private, EllipticCurvePrivateKey) and private.curve.name in ("secp256r1", "secp384r1"):
        return signer(private, kid)
    if isinstance(private, RSAPrivateKey) and private.key_size in RSA_BITS:
        return signer(private, kid, pss=pss)
    if isinstance(private, Ed25519PrivateKey):
        return signer(private, kid)
    raise Stop(f"{path}: only Ed25519, P-256, P-384 or RSA of {RSA_BITS[0]} bits and more can sign")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(KEY_LIMIT_BYTES + 1)
