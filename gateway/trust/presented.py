"""What a caller presents as its own description, read and verified: from the bytes to a Descriptor that somebody
trusted vouches for. Whose it is, is asked elsewhere (callers.py).

Two forms. A **compact JWS**, in the order of the code: 1. It is read as strictly as any token (jose.py). 2. Its `typ`
is `agent-descriptor+jwt`, so that no other token can be taken for one. 3. A trusted signer has the key of its `kid`, in
force now; `iss`, if there, is that signer's name. 4. The signature is right. 5. `exp` is there and not passed, `nbf`
and `iat` have come. 6. What is said is of the right types and bounded; unknown claims count for nothing, not shown.
A **signed agent card**: base64url of its JSON, verified by cards.py; what binds it to a caller stands in the parameters
of an extension, `BINDING`, as `sub`, `sub_id` and `cnf` stand in a JWS; it counts as long as its key does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.canonical import Json, digest, encode
from gateway.core.confirmation import Confirmation, confirmation
from gateway.core.reasons import Malformed, Unverified
from gateway.core.tokens import Vouched
from gateway.trust.cards import Voucher, read_card, verify_card
from gateway.trust.jose import Token, decoded, read_token

TYPE = "agent-descriptor+jwt"
BINDING = "urn:tollgate:binding"  # the URI of the card extension
LEEWAY_SECONDS = 30.0
NAME_LIMIT = 256  # characters
LIST_LIMIT = 256  # skills, capabilities

ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "RS256", "PS256"})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One that a trusted signer vouches for. `subject` is its `sub`, `pair` the issuer and subject of its `sub_id`
    (RFC 9493, iss_sub), `bound` its `cnf`; `key` the thumbprint of the signing key. Times are epoch seconds."""

    form: str
    digest: str
    signer: str
    key: str
    subject: str
    pair: tuple[str, str] | None
    bound: Confirmation | None
    shown: Mapping[str, Json]
    until: float

    def recorded(self) -> dict[str, Json]:
        return {"digest": self.digest, "form": self.form, "signer": self.signer}


class KeyWanted(Exception):
    """No trusted signer has that key: it may have been published since."""


def is_token(data: bytes) -> bool:
    return b"." in data


def card_in(data: bytes) -> dict[str, Json]:
    """The card that stands in the header, believed by nobody yet. Raises Malformed."""
    return read_card(decoded(data))


def read_descriptor(data: bytes, vouchers: Sequence[Voucher], now: float) -> Descriptor:
    """Either form. Raises Malformed and Unverified, whose texts quote nothing of it, and KeyWanted."""
    return _token(data, vouchers, now) if is_token(data) else _card(card_in(data), vouchers, now)


def own_digest(data: bytes) -> str:
    """The digest by which a registered descriptor can be named, whoever signed it. Raises Malformed."""
    if is_token(data):
        return digest(encode(read_token(data).claims()))
    return digest(encode({name: value for name, value in card_in(data).items() if name != "signatures"}))


def _token(data: bytes, vouchers: Sequence[Voucher], now: float) -> Descriptor:
    token = read_token(data)  # 1
    if token.type != TYPE or token.kid is None:
        raise Malformed(f"its header needs a kid and the typ {TYPE}")  # 2
    claims = token.claims()
    signer, key = _signed_by(token, vouchers, claims.get("iss"), now)  # 3, 4
    until = _times(claims, now)  # 5
    name = _text(claims, "name")
    shown: dict[str, Json] = {"name": name}
    if "version" in claims:
        shown["version"] = _text(claims, "version")
    if "skills" in claims:
        shown["skills"] = _names(claims["skills"], "skills")
    if "capabilities" in claims:
        shown["capabilities"] = _names(claims["capabilities"], "capabilities")
    return _made("jws", digest(encode(claims)), signer, key, claims, shown, until)


def _signed_by(token: Token, vouchers: Sequence[Voucher], issuer: Json, now: float) -> tuple[str, str]:
    known = False
    for voucher in vouchers:
        found = voucher.keys.named(token.kid or "") if voucher.keys is not None else None
        if voucher.keys is None or found is None or (issuer is not None and issuer != voucher.name):
            continue  # 3
        known = True
        verdict = voucher.keys.verify(token, ALGORITHMS)
        if found.in_force(now) and isinstance(verdict, Vouched):
            return voucher.name, verdict.key  # 4
    if not known:
        raise KeyWanted
    raise Unverified("its signature is wrong, or its key is not in force")


def _times(claims: Mapping[str, Json], now: float) -> float:
    found: list[float | None] = []
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if name in claims and (not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**53):
            raise Malformed(f"{name} is not a date")
        found.append(float(value) if isinstance(value, int | float) else None)
    expires = found[0]
    if expires is None:
        raise Malformed("exp is missing")
    if now >= expires:
        raise Unverified("it has expired")
    if any(begins is not None and (begins > now + LEEWAY_SECONDS or begins >= expires) for begins in found[1:]):
        raise Unverified("it is not valid yet, or its dates contradict each other")
    return expires


def _card(card: dict[str, Json], vouchers: Sequence[Voucher], now: float) -> Descriptor:
    believed = verify_card(card, vouchers, now)
    said = believed.card
    shown: dict[str, Json] = {"name": _text(said, "name")}
    if "version" in said:
        shown["version"] = _text(said, "version")
    if "skills" in said:
        shown["skills"] = _names(said["skills"], "skills")
    offered = said.get("capabilities")
    offered = offered if isinstance(offered, dict) else {}
    shown["capabilities"] = _names({name: value for name, value in offered.items() if value is True}, "capabilities")
    return _made(
        believed.form, believed.digest, believed.signer, believed.key, _binding(offered), shown, believed.until
    )


def _binding(capabilities: Mapping[str, Json]) -> Mapping[str, Json]:
    """The parameters of the one extension that says whose card it is."""
    extensions = capabilities.get("extensions", [])
    listed = extensions if isinstance(extensions, list) else []
    found = [item for item in listed if isinstance(item, dict) and item.get("uri") == BINDING]
    if not found:
        return {}
    parameters = found[0].get("params", {})
    if len(found) > 1 or not isinstance(parameters, dict):
        raise Malformed(f"the extension {BINDING} stands there twice, or has no parameters")
    return parameters


def _made(
    form: str, said: str, signer: str, key: str, whose: Mapping[str, Json], shown: dict[str, Json], until: float
) -> Descriptor:
    subject = _text(whose, "sub") if "sub" in whose else ""
    bound = confirmation(whose["cnf"]) if "cnf" in whose else None
    if "cnf" in whose and bound is None:
        raise Malformed("it is bound to something that cannot be checked here")
    shown |= {"digest": said, "form": form, "signer": signer}
    if subject:
        shown["sub"] = subject
    return Descriptor(form, said, signer, key, subject, _pair(whose.get("sub_id")), bound, shown, until)


def _pair(sub_id: Json) -> tuple[str, str] | None:
    if sub_id is None:
        return None
    if not isinstance(sub_id, dict) or sub_id.get("format") != "iss_sub":
        raise Malformed("sub_id is not of the format iss_sub")
    return _text(sub_id, "iss"), _text(sub_id, "sub")


def _text(members: Mapping[str, Json], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LIMIT or not value.isprintable():
        raise Malformed(f"{name} is missing or not short printable text")
    return value


def _names(value: Json, name: str) -> list[Json]:
    """A list of names, of objects with an `id`, or an object whose members are names."""
    listed = list(value) if isinstance(value, list | dict) else None
    if listed is None or len(listed) > LIST_LIMIT:
        raise Malformed(f"{name} is not a list of at most {LIST_LIMIT}")
    return [_text(item, "id") if isinstance(item, dict) else _text({name: item}, name) for item in listed]
