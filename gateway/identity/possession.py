"""Whether the sender of a credential has what the credential is bound to; what is bound counts for nobody else.

1. A token's `cnf` names a key, a client certificate, or both (core/confirmation.py); anything else there refused it.
2. The certificate is that of this very TLS connection, never one that a header tells of. 3. The key is proved for this
request: by DPoP where the token came as `Authorization: DPoP`, else by a message signature that covers `Authorization`.
A bound token as Bearer and nothing else is refused. 4. `Authorization: DPoP` with a token that is not bound is refused
too. 5. A message signature beside any other credential is a second credential, and refused as such (contract, ruling
2): a caller is one.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable

from gateway.core.exchange import Exchange, Head, Principal
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.identity.challenge import Challenges
from gateway.identity.dpop import Dpop
from gateway.identity.signature import Signatures


class Possession:
    """`signatures` None: none are configured, and the headers of one mean nothing here."""

    __slots__ = ("_challenges", "_dpop", "signatures")

    def __init__(self, dpop: Dpop, signatures: Signatures | None, challenges: Challenges) -> None:
        self._dpop = dpop
        self._challenges = challenges
        self.signatures = signatures

    def judge(
        self, principal: Principal, head: Head, route: Route, token: bytes, *, dpop: bool
    ) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        """`token` is the credential's SHA-256, `dpop` whether it came as `Authorization: DPoP`."""
        if principal.certificate and not hmac.compare_digest(principal.certificate, head.certificate):
            text = "The access token is bound to a client certificate that this connection does not have"
            return self._challenges.invalid(route, text, "cnf_certificate")  # 2
        if dpop:
            if not principal.proof:
                return self._dpop.unbound(route)  # 4
            return self._dpop.judge(head, route, principal, token) or principal
        signed = self.signatures is not None and head.first(b"signature-input") is not None
        if not principal.proof:
            return self._two(route) if signed else principal  # 5
        if self.signatures is None or not signed:
            return self._dpop.missing(route)  # 3
        verdict = self.signatures.proves(head, route, principal.proof)
        return _later(verdict, principal) if isinstance(verdict, Awaitable) else verdict or principal

    def once(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        """What counts once and what the body must be, of a principal with a `proof`."""
        if "dpop" in exchange.head.facts:  # put there by `judge`, and only where the token came that way
            return self._dpop.once(exchange.head, exchange.route)
        if self.signatures is None:
            return self._dpop.missing(exchange.route)
        return self.signatures.once(exchange)

    def _two(self, route: Route) -> Refusal:
        text = "More than one credential: a message signature stands beside a credential that is not bound to its key"
        return self._challenges.malformed(route, text, "credentials")


async def _later(pending: Awaitable[Refusal | None], principal: Principal) -> Principal | Refusal:
    return await pending or principal
