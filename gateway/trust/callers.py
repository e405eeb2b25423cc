"""Callers' own descriptors: an agent may say who it is in `Agent-Descriptor`, and what it says counts if somebody
trusted signed it and if it is its own.

1. At most one header, of at most `DESCRIPTOR_LIMIT_BYTES`; without one the caller goes on, unless the route asks for
one. 2. It is a compact JWS, a signed card, or `id:<name>` or `sha256:<hex>` of a descriptor in the configuration, or
`sha256:<hex>` of the card of an upstream agent as the registry has it, while that is verified and not blocked: this is
asked each time. 3. It is verified (presented.py), and remembered by its bytes for at most `REMEMBER_SECONDS`, never
past its expiry, and only while its signers' key sets are the very ones it was verified with. 4. It is bound to the
caller's credential: by `cnf`, which then must hold, whatever else is said; by being signed with the very key that the
caller proved to have; or by its subject: `sub` is the principal's id, or `sub_id` its issuer and subject there, or
`sub` that subject where only one issuer is configured, so that two issuers' subjects cannot be taken for each other.
Nobody anonymous has one. 5. What is wrong with it refuses the request: one that was presented is never ignored.
Nothing of it reaches the upstream (wire/headers.py).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.core.canonical import Json
from gateway.core.descriptors import AgentCards, Registry, Standing
from gateway.core.exchange import Exchange, Head, Principal
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed, Reason, Refusal, Unverified
from gateway.trust.jose import KeySet, encoded
from gateway.trust.presented import (
    Descriptor,
    KeyWanted,
    card_in,
    is_token,
    own_digest,
    read_descriptor,
)
from gateway.trust.signers import NamedSets, Signers, TrustedSigner

HEADER = b"agent-descriptor"
DESCRIPTOR_LIMIT_BYTES = 16 * 1024
REMEMBER = 10_000  # descriptors; the oldest goes first
REMEMBER_SECONDS = 60.0

_NAMED = re.compile(rb"id:([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class _Known:
    """A descriptor with the key sets it was verified among: others may say otherwise. `until` is monotonic seconds, so
    that a turned clock prolongs nothing."""

    descriptor: Descriptor
    keys: list[KeySet | None]
    until: float


@dataclass(frozen=True, slots=True)
class _Fact:
    """What was found for a head: good for this very checker, principal and key sets, and as long as it says. `named` is
    the digest that an agent's card was named by, "" for anything else."""

    checker: CallerDescriptors
    principal: Principal
    known: _Known
    named: str
    vouched: dict[str, Json]
    recorded: dict[str, Json]


class PresentedDescriptors:
    """A DescriptorCheck: asks the one of the exchange's own snapshot."""

    def check(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        callers = exchange.snapshot.callers
        return CONTINUE if callers is None else callers.check(exchange)


class CallerDescriptors:
    """Built once per snapshot. `registered` are descriptors of the configuration by name; `issuers` the names of those
    who may say who a caller is, with the `iss` of their tokens ("" for others than tokens'). Raises Malformed for a
    registered one that cannot be read."""

    __slots__ = (
        "_by_digest", "_clock", "_issuers", "_known", "_monotonic", "_registered", "_registry", "_signers", "_sole",
        "_sources",
    )  # fmt: skip

    def __init__(
        self,
        signers: Sequence[TrustedSigner],
        named: NamedSets,
        registered: Mapping[str, bytes],
        issuers: Mapping[str, str],
        clock: Clock,
        registry: Callable[[], Registry] | None = None,
    ) -> None:
        self._signers = Signers(signers, named)
        self._sources = tuple(signer.source for signer in signers if signer.source is not None)
        self._registered = dict(registered)
        self._by_digest = {own_digest(data): data for data in registered.values()}
        self._registry = registry
        self._issuers = dict(issuers)
        self._sole = next(iter(issuers)) if len(issuers) == 1 else ""
        self._clock = clock
        self._monotonic = clock.monotonic
        self._known: dict[bytes, _Known] = {}

    def check(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        fact: _Fact | str | None = exchange.head.facts.get("descriptor")
        if isinstance(fact, _Fact):
            stands = fact.checker is self and fact.principal is exchange.principal and self._holds(fact.known)
            if stands and (not fact.named or self._agent(exchange, fact.named) is not None):
                return _vouch(exchange, fact)
        elif fact is not None:
            return self._absent(exchange)
        values = exchange.head.values(HEADER)
        if not values:
            exchange.head.facts["descriptor"] = _ABSENT
            return self._absent(exchange)
        if len(values) != 1:
            return _refused("there is more than one", "descriptor_several")  # 1
        if len(values[0]) > DESCRIPTOR_LIMIT_BYTES:
            return _refused(f"it is larger than {DESCRIPTOR_LIMIT_BYTES} bytes", "descriptor_size")  # 1
        data, named = self._resolved(values[0]), ""
        if data is None and _DIGEST.fullmatch(values[0]) is not None:
            named = values[0].decode()
            agent = self._agent(exchange, named)
            card = agent.held() if agent is not None else None
            data = encoded(card) if card is not None else None  # as its agent would present it
        if data is None:
            return _refused("none of that name or digest is registered here", "descriptor_unknown")
        return self._presented(exchange, data, named)

    def _absent(self, exchange: Exchange) -> Verdict:
        if exchange.route.descriptor == "required":
            return _refused("this route asks for one, in the Agent-Descriptor header", "descriptor_missing")
        return CONTINUE

    def _resolved(self, value: bytes) -> bytes | None:
        """Rule 2: the descriptor itself."""
        named = _NAMED.fullmatch(value)
        if named is not None:
            return self._registered.get(named[1].decode())
        if _DIGEST.fullmatch(value) is not None:
            return self._by_digest.get(value.decode())
        return value

    def _agent(self, exchange: Exchange, named: str) -> AgentCards | None:
        """Rule 2: the agent whose verified card has this digest."""
        if self._registry is None:
            return None
        for upstream, cards in exchange.snapshot.cards.items():
            if hmac.compare_digest(cards.digest, named):
                item = self._registry().find("agent", upstream, upstream)
                if item is not None and item.standing is Standing.VERIFIED and hmac.compare_digest(item.digest, named):
                    return cards
        return None

    def _presented(self, exchange: Exchange, data: bytes, named: str) -> Verdict | Awaitable[Verdict]:
        mark = sha256(data).digest()
        known = self._known.get(mark)
        if known is not None and self._holds(known):
            return self._bound(exchange, known, named)
        try:
            found = self._verified(mark, data)
        except KeyWanted:
            return self._later(exchange, mark, data, named)
        except Unverified as error:  # of a card: what it says of its keys is not told apart from what is wrong with it
            return _unverified(error) if is_token(data) else self._later(exchange, mark, data, named)
        except Malformed as malformed:
            return _refused(str(malformed), "descriptor_malformed")
        return self._bound(exchange, found, named)

    async def _later(self, exchange: Exchange, mark: bytes, data: bytes, named: str) -> Verdict:
        """Its key may have been published since: newer sets are waited for, as often as jwks.py allows."""
        try:
            if is_token(data):
                for pending in [source.refresh() for source in self._sources]:
                    if pending is not None:
                        await pending
            else:
                await self._signers.ready(card_in(data))
            return self._bound(exchange, self._verified(mark, data), named)
        except KeyWanted:
            if self._sources and not any(source.usable() is not None for source in self._sources):
                text = "The keys of those who sign descriptors cannot be had at the moment; try again"
                return Refusal(Reason.IDENTITY_UNAVAILABLE, text, rule="descriptor_keys", retry_after=5)
            return _refused("no trusted signer has its key", "descriptor_key")
        except Unverified as error:
            return _unverified(error)
        except Malformed as malformed:
            return _refused(str(malformed), "descriptor_malformed")

    def _verified(self, mark: bytes, data: bytes) -> _Known:
        """Rule 3. Only what was verified is remembered, so strangers cannot push others out."""
        keys = [source.keys for source in self._sources]
        found = read_descriptor(data, self._signers.vouchers(), self._clock.time())
        left = min(REMEMBER_SECONDS, found.until - self._clock.time())
        known = _Known(found, keys, self._monotonic() + left)
        self._known.pop(mark, None)
        if len(self._known) >= REMEMBER:
            del self._known[next(iter(self._known))]
        self._known[mark] = known
        return known

    def _holds(self, known: _Known) -> bool:
        if self._monotonic() >= known.until:
            return False
        return known.keys == [source.keys for source in self._sources]  # a set equals itself alone

    def _bound(self, exchange: Exchange, known: _Known, named: str) -> Verdict:
        principal, found = exchange.principal, known.descriptor
        if principal is None or not self._is_own(found, principal, exchange.head):
            return _refused("it is not bound to the credential that came with it", "descriptor_binding")  # 4
        vouched = dict(found.shown)
        fact = _Fact(self, principal, known, named, vouched, found.recorded())
        exchange.head.facts["descriptor"] = fact
        return _vouch(exchange, fact)

    def _is_own(self, found: Descriptor, principal: Principal, head: Head) -> bool:
        """Rule 4."""
        if principal.id == "anonymous":
            return False
        bound = found.bound
        if bound is not None:
            if bound.key and not hmac.compare_digest(bound.key, principal.proof):
                return False
            return not bound.certificate or hmac.compare_digest(bound.certificate, head.certificate)
        if principal.proof and hmac.compare_digest(found.key, principal.proof):
            return True
        if found.subject and found.subject == principal.id:
            return True
        subject = principal.id.removeprefix(f"{principal.type}:{principal.issuer}/")
        if not principal.issuer or subject == principal.id:
            return False
        if found.pair is not None:
            return found.pair == (self._issuers.get(principal.issuer) or None, subject)
        return bool(found.subject) and found.subject == subject and principal.issuer == self._sole


def _vouch(exchange: Exchange, fact: _Fact) -> Verdict:
    exchange.vouched = fact.vouched
    if exchange.descriptor is None:
        exchange.descriptor = {"caller": fact.recorded}
    else:
        exchange.descriptor["caller"] = fact.recorded
    return CONTINUE


def _refused(why: str, rule: str) -> Refusal:
    return Refusal(Reason.DESCRIPTOR_UNVERIFIED, f"The agent descriptor is refused: {why}", rule=rule)


def _unverified(error: Unverified) -> Refusal:
    """Why is for the record: a text about keys is of no use to whoever guesses them."""
    text = "The agent descriptor is refused: nobody trusted vouches for it now"
    return Refusal(Reason.DESCRIPTOR_UNVERIFIED, text, rule=f"descriptor: {error}"[:300])
