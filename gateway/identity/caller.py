"""The Authenticator: which credential was presented, and whose it is.

1. One credential: `Authorization: Bearer` or `DPoP`, `x-api-key` or `api-key`; the same in two of them is one, two
different ones are 400, and so is one in the query (contract, ruling 2; RFC 6750 section 2.3). Without any, a message
signature is one, where signatures are configured. 2. `tg_` begins an API key, anything
else is an access token; either may come in any of the three. 3. A route that lets anonymous callers in does so only
without a credential: a bad one is 401 there too. 4. A verified token is remembered by its digest for at most
`REMEMBER_SECONDS`, never past its expiry, and only while its issuer's keys are the very ones it was verified with; the
time is monotonic, so a turned clock prolongs nothing. 5. The credential itself is kept nowhere and appears in no text.
6. A token that was issued for some resources only is nobody's at any other route, remembered or not. 7. What a token is
bound to is proved for each request anew (possession.py), remembered or not. 8. Where the upstream asks its callers
itself, their `Authorization` is for it and says nothing here; one that is for the gateway goes nowhere.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Sequence
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import unquote_plus

from gateway.core.exchange import Exchange, Head, Principal
from gateway.core.ports import Clock
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.core.tokens import KeySource, TrustedKeys
from gateway.identity.apikey import ApiKeys
from gateway.identity.bearer import UNVERIFIED, Accepted, Bearer, Rejected, Wanting
from gateway.identity.challenge import Challenges
from gateway.identity.possession import Possession

CREDENTIAL_LIMIT_BYTES = 16 * 1024  # threats row 44: not even a digest is computed of more
REMEMBER_SECONDS = 60.0
REMEMBER_TOKENS = 10_000  # about 10 MB; the oldest goes first

UNPROVED = "The access token is bound to a key or certificate, which cannot be proved here: use an unbound one"
ANONYMOUS = Principal(id="anonymous", type="anonymous")

_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})
# The names under which RFC 6750 and the vendors of models take credentials in a query; our own keys under any name.
_QUERY_NAMES = frozenset({"access_token", "api_key", "api-key", "apikey", "x-api-key", "subscription-key"})
_QUERY_KEY = re.compile(r"tg_[a-z0-9-]{1,63}_[A-Za-z0-9_-]{43}")
_PAIRS = re.compile(r"[&;]")
_Remembered: TypeAlias = "tuple[Principal, float, KeySource, TrustedKeys]"


class Caller:
    """Built once per snapshot; `api_keys` and the issuers' key sources outlive it."""

    __slots__ = ("_api_keys", "_bearer", "_challenges", "_clock", "_monotonic", "_possession", "_remembered")

    def __init__(
        self,
        bearer: Bearer,
        api_keys: ApiKeys | None,
        challenges: Challenges,
        clock: Clock,
        possession: Possession | None = None,
    ) -> None:
        """`possession` None: nothing can be proved, so what is bound counts for nobody."""
        self._possession = possession
        self._bearer = bearer
        self._api_keys = api_keys
        self._challenges = challenges
        self._clock = clock
        self._monotonic = clock.monotonic
        self._remembered: dict[bytes, _Remembered] = {}

    def authenticate(self, head: Head, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        fact: tuple[Caller, bytes] | None = head.facts.get("credential")
        if fact is not None and fact[0] is self:  # this very head was read before, and its credential was good then
            known = self._known(fact[1])
            if known is not None and (known.audiences is None or route.resource in known.audiences):
                return known
        if route.transparent:
            return self._elsewhere(head, route)
        value: bytes | None = None
        for header in head.headers:
            if header[0] in _HEADERS:
                if value is not None:
                    return self._several(head, route)
                name, value = header
        if head.query and _in_query(head.query):
            return self._in_query(route)
        if value is None:
            return self._without(head, route)
        credential = _behind_scheme(value) if name == b"authorization" else value
        if not credential:
            return self._challenges.invalid(route, "Only Bearer and DPoP credentials are accepted", "credential_scheme")
        return self._possessed(credential, head, route, dpop=name == b"authorization" and _is_dpop(value))

    def once(self, exchange: Exchange, principal: Principal) -> Refusal | Awaitable[Refusal | None] | None:
        if self._possession is None:
            return self._challenges.invalid(exchange.route, UNPROVED, "cnf")
        return self._possession.once(exchange)

    def insufficient(self, route: Route, text: str, scopes: Sequence[str] = ()) -> Refusal:
        return self._challenges.scope_insufficient(route, text, scopes)

    def alive(self, principal: Principal) -> bool:
        """Answers for principals of former snapshots too: nothing here depends on who authenticated them."""
        if principal.expires is not None and self._clock.time() >= principal.expires:
            return False
        if principal.key:
            signatures = self._possession.signatures if self._possession is not None else None
            if signatures is not None and signatures.knows(principal.issuer):
                return signatures.alive(principal)
            return self._bearer.alive(principal)
        if principal.id.startswith("key:"):
            return self._api_keys is not None and self._api_keys.alive(principal)
        return principal.id == ANONYMOUS.id

    def _elsewhere(self, head: Head, route: Route) -> Principal | Refusal:
        """Rule 8: everybody is anonymous here; what the upstream's callers bring is looked at for one thing only."""
        fact: tuple[Caller, Principal | Refusal] | None = head.facts.get("elsewhere")
        if fact is None or fact[0] is not self:
            fact = head.facts["elsewhere"] = (self, self._astray(head, route) or ANONYMOUS)
        return fact[1]

    def _astray(self, head: Head, route: Route) -> Refusal | None:
        """What is wrong with credentials of which one goes on to the upstream."""
        found = [header for header in head.headers if header[0] in _HEADERS]
        if head.query and _in_query(head.query):
            return self._in_query(route)
        if len(found) > 1 or any(len(value) > CREDENTIAL_LIMIT_BYTES for _, value in found):
            return self._challenges.malformed(route, "Send one Authorization of a usual size", "credentials")
        for name, value in found:
            credential = value.partition(b" ")[2].strip()
            ours = credential.startswith(b"tg_") or self._bearer.means_us(credential, route.resource)
            if ours or name != b"authorization":
                text = "No credential for the gateway is taken here: what stands behind it has an issuer of its own"
                return self._challenges.invalid(route, text, "credential_astray")
        return None

    def _without(self, head: Head, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        """No token and no key: perhaps a signature."""
        signatures = self._possession.signatures if self._possession is not None else None
        if signatures is not None and head.first(b"signature-input") is not None:
            return signatures.authenticate(head, route)
        return ANONYMOUS if route.auth == "anonymous" else self._challenges.missing(route)  # 3

    def _possessed(
        self, credential: bytes, head: Head, route: Route, *, dpop: bool
    ) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        verdict = self._judge(credential, route)
        if isinstance(verdict, Principal):
            return self._proved(verdict, credential, head, route, dpop)
        return verdict if isinstance(verdict, Refusal) else self._proved_later(verdict, credential, head, route, dpop)

    async def _proved_later(
        self, pending: Awaitable[Principal | Refusal], credential: bytes, head: Head, route: Route, dpop: bool
    ) -> Principal | Refusal:
        verdict = await pending
        if isinstance(verdict, Refusal):
            return verdict
        proved = self._proved(verdict, credential, head, route, dpop)
        return await proved if isinstance(proved, Awaitable) else proved

    def _proved(
        self, principal: Principal, credential: bytes, head: Head, route: Route, dpop: bool
    ) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        """Rule 7."""
        digest = sha256(credential).digest()
        if self._possession is not None:
            verdict = self._possession.judge(principal, head, route, digest, dpop=dpop)
            if verdict is not principal or principal.proof:
                return verdict
        elif principal.proof or principal.certificate or dpop:
            return self._challenges.invalid(route, UNPROVED, "cnf")
        head.facts["credential"] = (self, digest)  # never of what is proved anew; a certificate is the connection's
        return principal

    def _judge(self, credential: bytes, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        if len(credential) > CREDENTIAL_LIMIT_BYTES:
            text = f"The credential is larger than {CREDENTIAL_LIMIT_BYTES} bytes"
            return self._challenges.invalid(route, text, "credential_size")
        digest = sha256(credential).digest()
        known = self._known(digest)
        if known is not None:
            return self._meant(known, route)
        if not credential.startswith(b"tg_"):  # 2
            return self._verify(credential, digest, route)
        found = self._api_keys.judge(credential, digest) if self._api_keys is not None else None
        return found or self._challenges.invalid(
            route, "The API key is not known here, or no longer: ask the operator for one", "api_key"
        )

    def _known(self, digest: bytes) -> Principal | None:
        """Rule 4: what was verified is believed for a while, as long as its issuer's keys are the same."""
        remembered = self._remembered.get(digest)
        if remembered is not None:
            principal, until, source, keys = remembered
            if self._monotonic() < until and source.keys is keys:
                return principal
        return None

    def _verify(
        self, credential: bytes, digest: bytes, route: Route
    ) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        verdict = self._bearer.judge(credential, digest.hex())
        if isinstance(verdict, Wanting):
            fresh = verdict.source.refresh()
            if fresh is not None:
                return self._verify_again(fresh, credential, digest, route)
        return self._settle(verdict, digest, route)

    async def _verify_again(
        self, fresh: Awaitable[None], credential: bytes, digest: bytes, route: Route
    ) -> Principal | Refusal:
        await fresh
        return self._settle(self._bearer.judge(credential, digest.hex()), digest, route)

    def _settle(self, verdict: Accepted | Rejected | Wanting, digest: bytes, route: Route) -> Principal | Refusal:
        if isinstance(verdict, Accepted):
            self._remember(digest, verdict)
            return self._meant(verdict.principal, route)
        if isinstance(verdict, Rejected):
            return self._challenges.invalid(route, verdict.text, verdict.rule)
        if not verdict.available:
            return self._challenges.unavailable(verdict.issuer)
        return self._challenges.invalid(route, UNVERIFIED, "token_key")

    def _meant(self, principal: Principal, route: Route) -> Principal | Refusal:
        """Rule 6: what opens one route's resource must not open another's, which may trust its callers with more."""
        if principal.audiences is None or route.resource in principal.audiences:
            return principal
        text = f"The access token is for another resource: ask its issuer for one for {route.resource}"
        return self._challenges.invalid(route, text, "token_audience")

    def _remember(self, digest: bytes, verdict: Accepted) -> None:
        """Rule 4. Only what was verified gets in, so strangers cannot push others out."""
        principal = verdict.principal
        left = REMEMBER_SECONDS
        if principal.expires is not None:
            left = min(left, principal.expires - self._clock.time())
        self._remembered.pop(digest, None)
        if len(self._remembered) >= REMEMBER_TOKENS:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (principal, self._monotonic() + left, verdict.source, verdict.keys)

    def _several(self, head: Head, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        """Rule 1: equal ones in different headers are one credential."""
        found = [header for header in head.headers if header[0] in _HEADERS]
        credentials = [_behind_scheme(value) if name == b"authorization" else value for name, value in found]
        first = credentials[0]
        same = all(one is not None and hmac.compare_digest(first or b"", one) for one in credentials)
        if not first or not same or len({name for name, _ in found}) != len(found):
            return self._challenges.malformed(
                route,
                "More than one credential: send exactly one of Authorization, x-api-key and api-key",
                "credentials",
            )
        if head.query and _in_query(head.query):
            return self._in_query(route)
        dpop = any(name == b"authorization" and _is_dpop(value) for name, value in found)
        return self._possessed(first, head, route, dpop=dpop)

    def _in_query(self, route: Route) -> Refusal:
        return self._challenges.malformed(
            route, "A credential in the query is refused: send it as Authorization: Bearer", "credential_in_query"
        )


def presented(head: Head) -> bytes | None:
    """The credential of a head that `authenticate` has accepted: where several headers have one, they are equal."""
    for name, value in head.headers:
        if name in _HEADERS:
            return _behind_scheme(value) if name == b"authorization" else value
    return None


def _behind_scheme(value: bytes) -> bytes | None:
    """What stands behind `Bearer` or `DPoP`, in any case; None where Authorization is of another scheme."""
    scheme, _, credential = value.partition(b" ")
    return credential if scheme == b"Bearer" or scheme.lower() in (b"bearer", b"dpop") else None


def _is_dpop(value: bytes) -> bool:
    return value[:5].lower() == b"dpop "


def _in_query(query: str) -> bool:
    for pair in _PAIRS.split(query):
        name, _, value = pair.partition("=")
        if value and (unquote_plus(name).lower() in _QUERY_NAMES or _QUERY_KEY.fullmatch(unquote_plus(value))):
            return True
    return False
