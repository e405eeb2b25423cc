"""Detached signatures of documents: JWS in its flattened JSON form without the payload (RFC 7515, 7.2.2, appendix F).

The payload is the document's canonical bytes, which the caller of `over` makes itself: nothing that stands in the
signature says what was signed. A signature, in the order of the code:
1. An object with `protected` and `signature`, perhaps `header`, and nothing else; each bounded. 2. Both are canonical
base64url. 3. The protected header is a strict JSON object. 4. It has no member that brings keys or changes the meaning
of the rest, and no `crit` in any form. 5. `jku` only where the document may have one (cards): short text, which says
where a key might be found and never whose it is. 6. `alg` is one of `DETACHED_ALGORITHMS`, and is there. 7. `kid` is
short plain text, and is there. 8. `typ` is JOSE or absent. 9. The unprotected header counts for nothing; one that says
what only the protected header may say, or the same again, is refused, lest another reader believes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.canonical import Json, encode, parse_object
from gateway.core.reasons import Malformed
from gateway.trust.jose import FORBIDDEN, KID, Signer, Token, decoded, encoded, plain

PROTECTED_LIMIT_BYTES = 8 * 1024  # base64url; a real one is below 1 KiB
SIGNATURE_LIMIT_BYTES = 2 * 1024  # RSA with 8192 bits has 1366
HEADER_LIMIT_BYTES = 8 * 1024
URL_LIMIT_CHARACTERS = 2048
DETACHED_ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "RS256", "PS256"})

_MEMBERS = {"protected", "signature", "header"}
_PROTECTED_ONLY = (FORBIDDEN - {"crit"}) | {"crit", "alg", "kid", "typ", "jku"}


@dataclass(frozen=True, slots=True)
class Detached:
    """A signature that kept rules 1 to 9. Whether it is right, and whose, is not known yet. `jku` is "" without one."""

    algorithm: str
    kid: str
    jku: str
    protected: bytes
    signature: bytes

    def over(self, payload: bytes) -> Token:
        """What the signature says if `payload` is what was signed: a token for `KeySet.verify`."""
        signed = self.protected + b"." + encoded(payload)
        return Token(self.algorithm, self.kid, "jose", signed, payload, self.signature)


def read_detached(found: Json, *, jku: bool = False) -> Detached:
    """Rules 1 to 9. Raises Malformed; the text says which rule, never what stood in the signature."""
    if not isinstance(found, dict) or not _MEMBERS.issuperset(found):
        raise Malformed("a signature is an object of protected, signature and header")  # 1
    protected = _part(found, "protected", PROTECTED_LIMIT_BYTES)
    signature = decoded(_part(found, "signature", SIGNATURE_LIMIT_BYTES))  # 1, 2
    header = parse_object(decoded(protected))  # 2, 3
    if not (FORBIDDEN - {"jku"}).isdisjoint(header) or any(name.startswith("x5") for name in header):
        raise Malformed("the protected header has a member that is not allowed (crit, jwk, x5*, b64, zip, JWE)")  # 4
    address = _address(header, jku)  # 5
    algorithm = "EdDSA" if header.get("alg") == "Ed25519" else header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in DETACHED_ALGORITHMS:
        raise Malformed("the algorithm is not one of " + ", ".join(sorted(DETACHED_ALGORITHMS)))  # 6
    kid = plain(header, "kid", KID)
    if kid is None:
        raise Malformed("the protected header has no kid")  # 7
    typ = header.get("typ")
    if typ is not None and (not isinstance(typ, str) or typ.upper() != "JOSE"):
        raise Malformed("typ is not JOSE")  # 8
    _unprotected(found.get("header"), header)  # 9
    return Detached(algorithm, kid, address, protected, signature)


def sign_detached(
    payload: bytes, by: Signer, *, jku: str = "", header: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """`payload` must be canonical bytes that a reader can make again. `header` is the unprotected one: unsigned."""
    said: dict[str, Json] = {"alg": by.algorithm, "kid": by.kid, "typ": "JOSE"}
    if jku:
        said["jku"] = jku
    protected = encoded(encode(said))
    signature = encoded(by.sign(protected + b"." + encoded(payload)))
    made: dict[str, Json] = {"protected": protected.decode(), "signature": signature.decode()}
    return {**made, "header": dict(header)} if header else made


def _part(found: Mapping[str, Json], name: str, limit: int) -> bytes:
    value = found.get(name)
    if not isinstance(value, str) or not value or len(value) > limit or not value.isascii():
        raise Malformed(f"{name} is not base64url of at most {limit} characters")  # 1, 2
    return value.encode()


def _address(header: Mapping[str, Json], allowed: bool) -> str:
    address = header.get("jku")
    if address is None:
        return ""  # the Python SDK writes null for none
    if not allowed:
        raise Malformed("jku is not allowed here")  # 5
    if not isinstance(address, str) or len(address) > URL_LIMIT_CHARACTERS or not address.isascii():
        raise Malformed("jku is not a URL")  # 5
    return address


def _unprotected(found: Json, protected: Mapping[str, Json]) -> None:
    if found is None:
        return
    if not isinstance(found, dict) or len(encode(found)) > HEADER_LIMIT_BYTES:
        raise Malformed(f"header is not an object of at most {HEADER_LIMIT_BYTES} bytes")  # 1
    if not _PROTECTED_ONLY.isdisjoint(found) or any(name in protected or name.startswith("x5") for name in found):
        raise Malformed("the unprotected header says what only the protected one may say")  # 9
