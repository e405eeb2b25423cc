"""JOSE behind one strict door: compact JWS and JWK sets. The only file that touches a JOSE library.

What is believed is parsed here, once, by `core.canonical`; the library only ever sees (bytes, signature, key).
A token, in the order of the code:
1. At most `TOKEN_LIMIT_BYTES`. 2. Exactly three parts of canonical base64url: no padding, no space, no loose bits; only
the payload may be empty. 3. The header is a strict JSON object (a repeated member is refused). 4. No member that
brings keys or changes the meaning of the rest (`jwk`, `jku`, `x5*`, `b64`, `zip`, JWE's), and no `crit` in any form:
this gateway understands no extension. 5. `alg` is one of `ALGORITHMS`: never `none`, never a MAC. 6. `kid` and `typ`,
where present, are short plain text.
A JWK set:
7. A strict JSON object with `keys`, at most `SET_LIMIT_KEYS`. 8. No symmetric and no private key anywhere, or the set
is refused. 9. A `kid` occurs once, or the set is refused. 10. What is not for verifying signatures, or of a kind not in
`ALGORITHMS`, is skipped (RFC 7517 section 5). 11. What is for us but weak, off its curve or at odds with itself (alg,
kty, crv, use, key_ops) refuses the set. 12. A key serves only the algorithms of its own allow-list. 13. A key that says
it is revoked is skipped; one with a time (`nbf`, `exp`) says when it is in force.
Detached signatures of documents are read and made in jose_detached.py, with what stands here.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, RSAPublicNumbers
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from gateway.core.canonical import Json, encode, parse_object
from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, SignedToken, Vouched

TOKEN_LIMIT_BYTES = 16 * 1024  # issue and threats row 44: a real access token is below 4 KiB
SET_LIMIT_BYTES = 256 * 1024
SET_LIMIT_KEYS = 100
RSA_BITS = range(2048, 8192 + 1)  # weaker is refused, larger would be a way to burn our CPU
RSA_EXPONENTS = range(2**16 + 1, 2**33)  # FIPS 186-5, A.1.1, with an upper bound that real keys keep

PrivateKey: TypeAlias = "Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey"
PublicKey: TypeAlias = "Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey"
_JoseKey: TypeAlias = "OKPKey | ECKey | RSAKey"

# EdDSA means Ed25519 here, always; RFC 9864's name for it is read as the same algorithm.
_BY_KIND: Mapping[tuple[str, str], frozenset[str]] = {
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("RSA", ""): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
}
ALGORITHMS: frozenset[str] = frozenset().union(*_BY_KIND.values())
# Looked up in the library's table, not asked of its registry: that would warn about the name EdDSA for every token.
_MODELS = {name: JWSRegistry.algorithms["Ed25519" if name == "EdDSA" else name] for name in ALGORITHMS}

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
KID = re.compile(r"[A-Za-z0-9._~:@+/=#-]{1,256}")
TYP = re.compile(r"[A-Za-z0-9.+/_-]{1,64}")
FORBIDDEN = frozenset(  # rule 4; so is every name that begins with x5
    ("crit", "jwk", "jku", "b64", "zip", "enc", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c")
)
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
_CURVES: Mapping[str, tuple[int, type[EllipticCurve]]] = {  # bytes of a coordinate
    "P-256": (32, SECP256R1),
    "P-384": (48, SECP384R1),
    "P-521": (66, SECP521R1),
}


@dataclass(frozen=True, slots=True)
class Token:
    """A compact JWS that kept rules 1 to 6. Its signature is not checked."""

    algorithm: str
    kid: str | None
    type: str
    signed: bytes
    payload: bytes
    signature: bytes
    jwk: Mapping[str, Json] | None = None  # its own key, where it may bring one

    def claims(self) -> dict[str, Json]:
        return parse_object(self.payload)


def read_token(data: bytes, *, own_key: bool = False, limit_bytes: int = TOKEN_LIMIT_BYTES) -> Token:
    """Rules 1 to 6. Raises Malformed; the text says which rule, never what stood in the token. `own_key`: it brings its
    key in `jwk`, which proves that its maker has that key and nothing else (proofs.py)."""
    if len(data) > limit_bytes:
        raise Malformed(f"the token is larger than {limit_bytes} bytes")  # 1
    found = _COMPACT.fullmatch(data)
    if found is None:
        raise Malformed("the token is not three base64url parts")  # 2
    header = parse_object(decoded(found[1]))  # 2, 3
    jwk = header.pop("jwk", None) if own_key else None
    if not FORBIDDEN.isdisjoint(header) or any(name.startswith("x5") for name in header):
        raise Malformed("the token header has a member that is not allowed (crit, jwk, jku, x5*, b64, zip, JWE)")  # 4
    algorithm = header.get("alg")
    if algorithm == "Ed25519":
        algorithm = "EdDSA"
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise Malformed("the token's algorithm is not one of " + ", ".join(sorted(ALGORITHMS)))  # 5
    typ = plain(header, "typ", TYP) or ""  # 6
    return Token(
        algorithm=algorithm,
        kid=plain(header, "kid", KID),
        type=typ.lower().removeprefix("application/"),
        signed=data[: found.end(2)],
        payload=decoded(found[2]),
        signature=decoded(found[3]),
        jwk=jwk if isinstance(jwk, dict) else None,
    )


def plain(members: Mapping[str, Json], name: str, shape: re.Pattern[str]) -> str | None:
    value = members.get(name)
    if name not in members:
        return None
    if not isinstance(value, str) or shape.fullmatch(value) is None:
        raise Malformed(f"{name} is not short plain text")
    return value


def decoded(part: bytes) -> bytes:
    """Canonical base64url, strictly. Raises Malformed."""
    try:
        raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        raise Malformed("not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise Malformed("not canonical base64url")  # two spellings of one token are two tokens
    return raw


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key that kept rules 8 to 13. `thumbprint` is RFC 7638's; the times are epoch seconds."""

    kid: str | None
    thumbprint: str
    algorithms: frozenset[str]
    key: _JoseKey = field(repr=False)
    not_before: float = 0.0
    expires: float = math.inf

    def in_force(self, now: float) -> bool:
        return self.not_before <= now < self.expires  # 13

    def verifies(self, token: SignedToken) -> bool:
        if token.algorithm not in self.algorithms:
            return False  # 12: whoever calls
        try:
            return _MODELS[token.algorithm].verify(token.signed, token.signature, self.key)
        except ValueError:
            return False  # a signature that is not even numbers


class KeySet:
    """An immutable JWK set of one issuer. `skipped` says what was left out by rule 10, for the log."""

    __slots__ = ("_by_kid", "_by_thumbprint", "keys", "skipped")

    def __init__(self, keys: Iterable[VerifyKey], skipped: Iterable[str] = ()) -> None:
        self.keys = tuple(keys)
        self.skipped = tuple(skipped)
        self._by_kid = {key.kid: key for key in self.keys if key.kid is not None}
        self._by_thumbprint = {key.thumbprint: key for key in self.keys}

    def verify(self, token: SignedToken, algorithms: frozenset[str]) -> Vouched | Distrust:
        """`algorithms` is the issuer's allow-list; the key's own is asked as well."""
        if token.algorithm not in algorithms:
            return Distrust.ALGORITHM
        key = self._find(token)
        if key is None:
            return Distrust.KEY
        if token.algorithm not in key.algorithms:
            return Distrust.ALGORITHM
        return Vouched(key.thumbprint) if key.verifies(token) else Distrust.SIGNATURE

    def proves(self, key: str, algorithm: str, signed: bytes, signature: bytes, now: float) -> Vouched | Distrust:
        """A bare signature by the key of this thumbprint, over these bytes."""
        found = self._by_thumbprint.get(key)
        if found is None or not found.in_force(now):
            return Distrust.KEY
        if algorithm not in found.algorithms:
            return Distrust.ALGORITHM
        token = Token(algorithm, found.kid, "", signed, b"", signature)
        return Vouched(key) if found.verifies(token) else Distrust.SIGNATURE

    def holds(self, key: str) -> bool:
        return key in self._by_thumbprint

    def named(self, kid: str) -> VerifyKey | None:
        return self._by_kid.get(kid)

    def _find(self, token: SignedToken) -> VerifyKey | None:
        """By kid; a token without one is tried only where there is no choice to make."""
        if token.kid is not None:
            return self._by_kid.get(token.kid)
        fitting = [key for key in self.keys if token.algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


class _Skip(Exception):
    """A key that is not for us (rule 10); `args[0]` says why."""


def read_jwks(data: bytes) -> KeySet:
    """Rules 7 to 12. Raises Malformed when the set cannot be believed or has no key that could verify anything."""
    if len(data) > SET_LIMIT_BYTES:
        raise Malformed(f"the key set is larger than {SET_LIMIT_BYTES} bytes")  # 7
    listed = parse_object(data).get("keys")
    if not isinstance(listed, list) or len(listed) > SET_LIMIT_KEYS:
        raise Malformed(f"the key set has no list of at most {SET_LIMIT_KEYS} keys")  # 7
    keys: list[VerifyKey] = []
    skipped: list[str] = []
    seen: set[str] = set()
    for index, jwk in enumerate(listed):
        where = f"key {index}"
        if not isinstance(jwk, dict):
            raise Malformed(f"{where} is not an object")
        try:
            kid = plain(jwk, "kid", KID)
            if kid is not None and kid in seen:
                raise Malformed(f"kid {kid} occurs twice")  # 9
            seen.update([kid] if kid is not None else [])
            keys.append(read_jwk(jwk))
        except _Skip as reason:
            skipped.append(f"{where}: {reason}")
        except Malformed as error:
            raise Malformed(f"{where}: {error}") from None
    if not keys and not any(why.endswith(": revoked") for why in skipped):  # who revoked its last key has said so
        raise Malformed("the key set has no key for verifying signatures" + "".join(f"; {why}" for why in skipped))
    return KeySet(keys, skipped)


def read_jwk(jwk: Mapping[str, Json]) -> VerifyKey:
    """Rules 8 and 10 to 13 for one key."""
    kind = jwk.get("kty")
    if kind == "oct" or _PRIVATE.intersection(jwk):
        raise Malformed("a symmetric or private key stands in a public set")  # 8
    if jwk.get("revoked") not in (None, False):
        raise _Skip("revoked")  # 13
    _check_purpose(jwk)
    curve = jwk.get("crv", "") if kind != "RSA" else ""
    able = _BY_KIND.get((str(kind), str(curve)))
    if able is None:
        raise _Skip(f"kind {kind} {curve} is not used here")  # 10
    algorithms = _allowed(jwk, able)
    key: _JoseKey
    try:
        if kind == "OKP":
            key = OKPKey.import_key(Ed25519PublicKey.from_public_bytes(_octets(jwk, "x", 32)))
        elif kind == "EC":
            key = ECKey.import_key(_point(jwk, str(curve)))
        else:
            key = RSAKey.import_key(_rsa(jwk))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed(str(error) if isinstance(error, Malformed) else "not a valid public key") from None  # 11
    begins, ends = _moment(jwk, "nbf", 0.0), _moment(jwk, "exp", math.inf)
    return VerifyKey(plain(jwk, "kid", KID), key.thumbprint(), algorithms, key, begins, ends)


def read_own_key(jwk: Mapping[str, Json]) -> VerifyKey:
    """A key that a token brought with it, as strictly as one of a set. Raises Malformed, also for what is skipped in a
    set."""
    try:
        return read_jwk(jwk)
    except _Skip as reason:
        raise Malformed(f"its key cannot be used: {reason}") from None


def _moment(jwk: Mapping[str, Json], name: str, default: float) -> float:
    found = jwk.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Malformed(f"{name} is not a number of seconds")  # 13
    return float(found)


def _check_purpose(jwk: Mapping[str, Json]) -> None:
    use, operations = jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if not isinstance(use, str) or not isinstance(operations, list):
        raise Malformed("use or key_ops has a wrong type")  # 11
    named = [item for item in operations if isinstance(item, str)]
    if len(named) != len(operations) or len(set(named)) != len(named):
        raise Malformed("key_ops is not a list of different names")  # 11
    if use != "sig" or "verify" not in named:
        raise _Skip("not for verifying signatures")  # 10
    if not {"sign", "verify"}.issuperset(named):
        raise Malformed("key_ops mixes signatures with something else")  # 11


def _allowed(jwk: Mapping[str, Json], able: frozenset[str]) -> frozenset[str]:
    if "alg" not in jwk:
        return able
    algorithm = "EdDSA" if jwk["alg"] == "Ed25519" else jwk["alg"]
    if not isinstance(algorithm, str):
        raise Malformed("alg is not text")  # 11
    if algorithm not in ALGORITHMS:
        raise _Skip("its algorithm is not used here")  # 10
    if algorithm not in able:
        raise Malformed("alg does not fit kty and crv")  # 11
    return frozenset({algorithm})


def _octets(jwk: Mapping[str, Json], name: str, length: int = 0) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or len(value) > 2048 or _BASE64URL.fullmatch(value) is None:
        raise Malformed(f"{name} is not base64url")
    raw = decoded(value.encode())
    if length and len(raw) != length:
        raise Malformed(f"{name} is not {length} bytes")
    return raw


def _point(jwk: Mapping[str, Json], curve: str) -> EllipticCurvePublicKey:
    size, kind = _CURVES[curve]
    x, y = (int.from_bytes(_octets(jwk, name, size)) for name in ("x", "y"))
    return EllipticCurvePublicNumbers(x, y, kind()).public_key()


def _rsa(jwk: Mapping[str, Json]) -> RSAPublicKey:
    n, e = int.from_bytes(_octets(jwk, "n")), int.from_bytes(_octets(jwk, "e"))
    if n.bit_length() not in RSA_BITS:
        raise Malformed(f"an RSA key must have {RSA_BITS[0]} to {RSA_BITS[-1]} bits")
    if e not in RSA_EXPONENTS or e % 2 == 0:
        raise Malformed("the RSA exponent is too small, too large or even")
    if all(n % prime in powers for prime, powers in _ROCA):
        raise Malformed("the RSA key was made by a generator known to be broken (CVE-2017-15361)")
    return RSAPublicNumbers(e, n).public_key()


def _powers(prime: int) -> frozenset[int]:
    found, value = set(), 1
    while value not in found:
        found.add(value)
        value = value * 65537 % prime
    return frozenset(found)


# The broken generator makes moduli that are powers of 65537 modulo every small prime; others pass all 38 by chance
# less than once in 2^28 keys.
_ROCA = tuple((p, _powers(p)) for p in range(3, 168, 2) if all(p % d for d in range(3, int(p**0.5) + 1, 2)))


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with the one algorithm it signs with."""

    kid: str
    algorithm: str
    key: _JoseKey = field(repr=False)
    far: Callable[[bytes], bytes] | None = field(default=None, repr=False)  # where the private half is elsewhere

    def sign(self, data: bytes) -> bytes:
        return self.far(data) if self.far is not None else _MODELS[self.algorithm].sign(data, self.key)

    def jwk(self) -> dict[str, Json]:
        """The public half."""
        found = self.key.as_dict(private=False)
        members: dict[str, Json] = {
            name: str(found[name]) for name in ("kty", "crv", "x", "y", "n", "e") if name in found
        }
        return {**members, "kid": self.kid, "alg": self.algorithm, "use": "sig"}


def signer(private: PrivateKey, kid: str = "", *, pss: bool = False) -> Signer:
    """Ed25519 signs EdDSA, P-256 ES256 and so on, RSA RS256 (`pss`: PS256). `kid` defaults to the RFC 7638
    thumbprint."""
    key: _JoseKey
    if isinstance(private, Ed25519PrivateKey):
        algorithm, key = "EdDSA", OKPKey.import_key(private)
    elif isinstance(private, EllipticCurvePrivateKey):
        algorithm = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}[private.curve.name]
        key = ECKey.import_key(private)
    else:
        algorithm, key = "PS256" if pss else "RS256", RSAKey.import_key(private)
    return Signer(kid or key.thumbprint(), algorithm, key)


def far_signer(public: Ed25519PublicKey, kid: str, sign: Callable[[bytes], bytes]) -> Signer:
    """Signs by `sign`, which makes Ed25519 signatures of that key."""
    return Signer(kid, "EdDSA", OKPKey.import_key(public), sign)


def sign_compact(claims: Mapping[str, Json], by: Signer, *, typ: str = "at+jwt") -> str:
    """A compact JWS over the canonical JSON of `claims`."""
    header: dict[str, Json] = {"alg": by.algorithm, "kid": by.kid, "typ": typ}
    signed = b".".join(encoded(encode(part)) for part in (header, dict(claims)))
    return (signed + b"." + encoded(by.sign(signed))).decode()


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
