"""Agent cards: whether somebody trusted signed them, what of them was signed, and the gateway's own signature.

A card counts as verified, in the order of the code:
1. It is a strict JSON object of at most `CARD_LIMIT_BYTES`, and no deeper than canonical.py allows. 2. It has at most
`CARD_SIGNATURES` signatures; one that jose_detached.py refuses is passed over, others may still be good. 3. A signature
counts only by a key that a trusted signer publishes now: in the signer's own set, or in the set at the signature's
`jku` where the signer's configuration lists its origin. A signer speaks only where the upstream names it. 4. The key is
in force now, and its algorithm is the signature's. 5. The signature is right over one of the card's forms
(card_forms.py), tried in their order. One good signature is enough. 6. Only what that form covers goes on.
What is verified once is remembered by whoever asked (card_cache.py); nothing here does I/O or knows the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.core.canonical import Json, digest, parse_object
from gateway.core.reasons import Malformed, Unverified
from gateway.core.tokens import Vouched
from gateway.trust.card_forms import Form, encode, forms, to_sign
from gateway.trust.jose import KeySet, Signer
from gateway.trust.jose_detached import DETACHED_ALGORITHMS, Detached, read_detached, sign_detached

CARD_LIMIT_BYTES = 128 * 1024  # real cards have some tens of KiB at most; judging one costs what its size costs
CARD_SIGNATURES = 8  # rotation and a few co-signers; each costs a verification for each form


@dataclass(frozen=True, slots=True)
class Voucher:
    """A trusted signer as it is now: `keys` its own set, None while it cannot be had; `by_url` the sets that were
    found at allowed addresses; `origins` those a `jku` may lead to."""

    name: str
    keys: KeySet | None
    origins: frozenset[str] = frozenset()
    by_url: Mapping[str, KeySet | None] | None = None

    def sets(self, signature: Detached) -> Iterator[KeySet]:
        """Rule 3: where this signer's key of that name may be."""
        if self.keys is not None:
            yield self.keys
        if self.by_url is not None and self.leads_to(signature.jku):
            found = self.by_url.get(signature.jku)
            if found is not None:
                yield found

    def leads_to(self, jku: str) -> bool:
        return bool(jku) and bool(self.origins) and origin_of(jku) in self.origins


@dataclass(frozen=True, slots=True)
class Believed:
    """A card that was verified. `card` is what its signature covers, without signatures; `digest` is over its canonical
    JSON; `key` is the thumbprint of the key, `until` the epoch seconds to which that is in force."""

    card: dict[str, Json]
    digest: str
    signer: str
    form: str
    kid: str
    key: str
    until: float


def read_card(data: bytes) -> dict[str, Json]:
    """Rule 1. Raises Malformed."""
    if len(data) > CARD_LIMIT_BYTES:
        raise Malformed(f"the card is larger than {CARD_LIMIT_BYTES} bytes")
    return parse_object(data)


def signatures(card: Mapping[str, Json]) -> tuple[list[Detached], list[str]]:
    """Rule 2: the signatures that can be read, and why the others cannot."""
    listed = card.get("signatures")
    if listed is None:
        return [], []
    if not isinstance(listed, list) or len(listed) > CARD_SIGNATURES:
        raise Malformed(f"signatures is not a list of at most {CARD_SIGNATURES}")
    found: list[Detached] = []
    wrong: list[str] = []
    for number, item in enumerate(listed, 1):
        try:
            found.append(read_detached(item, jku=True))
        except Malformed as error:
            wrong.append(f"signature {number}: {error}")
    return found, wrong


def addresses(card: Mapping[str, Json], vouchers: Sequence[Voucher]) -> list[tuple[str, str]]:
    """(signer, URL) of the key sets that the card's signatures name and its signers allow. Raises Malformed."""
    found, _ = signatures(card)
    pairs = [(voucher.name, item.jku) for item in found for voucher in vouchers if voucher.leads_to(item.jku)]
    return list(dict.fromkeys(pairs))


def verify_card(
    card: Mapping[str, Json], vouchers: Sequence[Voucher], now: float, names: Sequence[str] = ("spec", "compat")
) -> Believed:
    """Rules 2 to 6; `names` are the forms that count. Raises Unverified, which says what was wrong with each
    signature, and Malformed for what is no card."""
    found, wrong = signatures(card)
    if not found and not wrong:
        raise Unverified("the card is not signed")
    usable: list[tuple[Detached, Voucher, KeySet]] = []
    for signature in found:
        why = _usable(signature, vouchers, now, usable)
        if why:
            wrong.append(f"signature by {signature.kid}: {why}")
    for form in forms(card) if usable else ():
        if form.name not in names:
            continue
        for signature, voucher, keys in usable:  # 5: the form that covers most, whichever signature it is
            if isinstance(keys.verify(signature.over(form.payload), DETACHED_ALGORITHMS), Vouched):
                return _believed(form, signature, voucher, keys)  # 6
    wrong += [f"signature by {signature.kid}: it is not right, or over something else" for signature, _, _ in usable]
    raise Unverified("; ".join(dict.fromkeys(wrong)))


def _usable(
    signature: Detached, vouchers: Sequence[Voucher], now: float, into: list[tuple[Detached, Voucher, KeySet]]
) -> str:
    """Adds who could have made the signature (rules 3 and 4); why nobody could, "" where somebody could."""
    why, before = "no trusted signer has that key", len(into)
    for voucher in vouchers:
        if voucher.keys is None and not voucher.origins:
            why = f"the keys of {voucher.name} cannot be had"
        for keys in voucher.sets(signature):
            key = keys.named(signature.kid)
            if key is not None and key.in_force(now):
                into.append((signature, voucher, keys))
            elif key is not None:
                why = f"the key of {voucher.name} is not in force"
    return why if len(into) == before else ""


def _believed(form: Form, signature: Detached, voucher: Voucher, keys: KeySet) -> Believed:
    key = keys.named(signature.kid)
    if key is None:
        raise RuntimeError("a signature was right by a key that is not there")
    said = digest(encode(form.card))
    return Believed(form.card, said, voucher.name, form.name, signature.kid, key.thumbprint, key.expires)


def sign_card(card: Mapping[str, Json], by: Signer, *, jku: str = "", original: str = "") -> dict[str, Json]:
    """The card with these signatures in place of any other: by one key over each payload that readers look for
    (card_forms.to_sign). `original` is the digest of what the card was made from; it stands in the unprotected header
    as `orig`. Raises Malformed."""
    bare = {name: value for name, value in card.items() if name != "signatures"}
    header: dict[str, Json] = {"orig": original} if original else {}
    made: list[Json] = [sign_detached(payload, by, jku=jku, header=header) for payload in to_sign(bare)]
    return {**bare, "signatures": made}


def origin_of(url: str) -> str:
    """Scheme, host and port in one spelling, "" for what has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, standard) else f":{port}")
