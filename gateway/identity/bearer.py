"""Access tokens of configured issuers: from a JWT to a Principal, or to the reason why not.

Rules, in the order of the code:
1. The token is read strictly (trust/jose.py) and is an access token by `typ`. 2. `iss` is exactly one configured
issuer; that issuer's keys and algorithms alone count. 3. The signature is right. Nothing below is looked at before, so
nobody learns from us what an unsigned token would be told. 4. `exp` is there and not passed, `nbf` and `iat` have
come, within a leeway of at most a minute, and they are in order. 5. `aud` names this gateway, or the resources of its
routes (RFC 8707): then it counts for these alone. 6. What a token is bound to (`cnf`) stands
on the principal; whether its sender has that is asked for each request (possession.py). 7. Subject, organisation,
roles, agent and delegation come from the claims that the configuration names, and count only as far as that issuer may
say them. A claim of a wrong type refuses the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from gateway.core.canonical import Json
from gateway.core.confirmation import confirmation
from gateway.core.exchange import Principal
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, KeySource, ReadToken, TrustedKeys
from gateway.identity.claims import place

LEEWAY_LIMIT_SECONDS = 60.0  # threats row 74
NAME_LIMIT = 256  # characters of a subject, an organisation, a role
ROLES_LIMIT = 256
SCOPES_LIMIT = 256
DELEGATION_LIMIT = 8

_TYPES = frozenset({"", "jwt", "at+jwt"})
_LISTS_IN_TEXT = frozenset({"scope", "scp"})  # RFC 8693 4.2: space-delimited by definition; no other claim is split
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_RESERVED_TYPES = frozenset({"key", "anonymous"})  # the id of a principal must not be readable as another kind's


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a value comes from: `const`, or `claim`, whose values count only if they are in `of` (None: any). A claim
    is a name or a path of names (claims.py)."""

    claim: str | None = None
    const: str | None = None
    of: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """One entry of `trust.issuers`. `type` is the beginning of the `subject.id` of its callers."""

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    subject: str = "sub"
    org: Mapped | None = None
    roles: Mapped | None = None
    team: Mapped | None = None
    agent: str | None = "client_id"
    type: str = "agent"
    leeway: float = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Accepted:
    """`keys` and `source`: the acceptance holds only while the source still has that very set."""

    principal: Principal
    source: KeySource
    keys: TrustedKeys


@dataclass(frozen=True, slots=True)
class Rejected:
    """`text` is for the caller, `rule` for the record."""

    text: str
    rule: str


@dataclass(frozen=True, slots=True)
class Wanting:
    """No verdict without newer keys. `available` says whether there are any at all."""

    issuer: str
    source: KeySource
    available: bool


UNVERIFIED: Final = "The access token cannot be verified: get a new one from its issuer"


class _Reject(Exception):
    """Internal: carries a Rejected out of the claims' reading."""

    def __init__(self, text: str, rule: str) -> None:
        super().__init__(text)
        self.verdict = Rejected(text, rule)


class Bearer:
    """Judges tokens. Raises ValueError for settings that two issuers could both claim, or that are too lenient."""

    __slots__ = ("_by_issuer", "_by_name", "_clock", "_read", "_resources")

    def __init__(
        self,
        issuers: Sequence[tuple[IssuerSettings, KeySource]],
        read: ReadToken,
        clock: Clock,
        resources: Iterable[str] = (),
    ) -> None:
        """`resources` are the addresses of the routes that take tokens."""
        self._read = read
        self._resources = _spellings(resources)
        self._clock = clock
        self._by_issuer: dict[str, tuple[IssuerSettings, KeySource, frozenset[str]]] = {}
        self._by_name: dict[str, KeySource] = {}
        for settings, source in issuers:
            _check(settings)
            if settings.issuer in self._by_issuer or settings.name in self._by_name:
                raise ValueError(f"two issuers are called {settings.name} or {settings.issuer}")
            # Two names of one algorithm (RFC 9864); SignedToken.algorithm uses the older.
            algorithms = frozenset("EdDSA" if name == "Ed25519" else name for name in settings.algorithms)
            self._by_issuer[settings.issuer] = (settings, source, algorithms)
            self._by_name[settings.name] = source

    def judge(self, credential: bytes, digest: str) -> Accepted | Rejected | Wanting:
        """`digest` is what the principal's `credential` will say."""
        try:
            token = self._read(credential)
            claims = token.claims()
        except Malformed as error:
            return Rejected(f"The credential is no access token that is accepted here: {error}", "token_malformed")  # 1
        if token.type not in _TYPES:
            return Rejected("This kind of token is not an access token", "token_type")  # 1
        issuer = claims.get("iss")
        found = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if found is None:
            return Rejected("The issuer of the access token is not known here", "token_issuer")  # 2
        settings, source, algorithms = found
        keys = source.usable()
        if keys is None:
            return Wanting(settings.name, source, available=False)
        signed = keys.verify(token, algorithms)
        if signed is Distrust.KEY:
            return Wanting(settings.name, source, available=True)
        if isinstance(signed, Distrust):
            return Rejected(UNVERIFIED, f"token_{signed}")  # 3
        try:
            expires = self._check_times(claims, settings)  # 4
            audiences = self._check_audience(claims, settings)  # 5
            principal = self._principal(claims, settings, digest, expires, signed.key, audiences)
            if "cnf" in claims:
                bound = confirmation(claims["cnf"])
                if bound is None:
                    raise _Reject("The access token is bound to something that cannot be checked here", "cnf")  # 6
                principal = replace(principal, proof=bound.key, certificate=bound.certificate)
            return Accepted(principal, source, keys)
        except _Reject as reason:
            return reason.verdict
        except Malformed as error:
            return Rejected(str(error), "token_claim")

    def means_us(self, credential: bytes, resource: str) -> bool:
        """Whether this is a token for the gateway, or for another of its routes than that of `resource`. Looked at
        without a key: a token that nobody here would believe must not be handed to somebody who might."""
        try:
            named = _audience(self._read(credential).claims())
        except (Malformed, _Reject):
            return False  # no token of a form that would be accepted here
        ours = frozenset[str]().union(*(settings.audiences for settings, _, _ in self._by_issuer.values()))
        return any(name in ours or self._resources.get(name, resource) != resource for name in named)

    def alive(self, principal: Principal) -> bool:
        """Whether the issuer is still configured and still publishes the key that vouched (ruling 4)."""
        source = self._by_name.get(principal.issuer)
        keys = source.usable() if source is not None else None
        return keys is not None and keys.holds(principal.key)

    def _check_times(self, claims: Mapping[str, Json], settings: IssuerSettings) -> float:
        now = self._clock.time()
        expires, starts, issued = (_date(claims, name) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise _Reject("The access token does not say when it expires", "exp")
        if now >= expires + settings.leeway:
            raise _Reject("The access token has expired: get a new one", "token_expired")
        for begins in (starts, issued):
            if begins is not None and (begins > now + settings.leeway or begins >= expires):
                raise _Reject("The access token is not valid yet, or its dates contradict each other", "token_dates")
        return expires + settings.leeway

    def _check_audience(self, claims: Mapping[str, Json], settings: IssuerSettings) -> frozenset[str] | None:
        """Rule 5: a string or a list of them (RFC 7519 section 4.1.3), compared exactly. None: the whole gateway."""
        named = _audience(claims)
        if not settings.audiences.isdisjoint(named):
            return None
        found = frozenset(self._resources[name] for name in named if name in self._resources)
        if not found:
            raise _Reject(
                "The access token is for another audience: ask its issuer for one for this gateway", "token_audience"
            )
        return found

    def _principal(
        self,
        claims: Mapping[str, Json],
        settings: IssuerSettings,
        digest: str,
        expires: float,
        key: str,
        audiences: frozenset[str] | None,
    ) -> Principal:
        """Rule 7."""
        found, name = place(claims, settings.subject)
        subject = _name(found.get(name), settings.subject)
        return Principal(
            id=f"{settings.type}:{settings.name}/{subject}",
            type=settings.type,
            issuer=settings.name,
            org=_group(claims, settings.org, "organisation"),
            team=_group(claims, settings.team, "team"),
            roles=_roles(claims, settings.roles),
            agent=_agent(claims, settings.agent),
            delegated_by=self._delegation(claims, settings),
            expires=expires,
            credential=digest,
            key=key,
            scopes=_scopes(claims),
            audiences=audiences,
        )

    def _delegation(self, claims: Mapping[str, Json], settings: IssuerSettings) -> tuple[str, ...]:
        """RFC 8693 section 4.1: the actors, the present one first, each `<issuer name>/<sub>`."""
        chain: list[str] = []
        actor = claims.get("act")
        while actor is not None:
            if not isinstance(actor, dict) or len(chain) >= DELEGATION_LIMIT:
                raise _Reject("The access token's act is not a chain of at most 8 actors", "act")
            issuer = actor.get("iss", settings.issuer)
            known = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
            if known is None:
                raise _Reject("The access token names an actor of an unknown issuer", "act")
            chain.append(f"{known[0].name}/{_name(actor.get('sub'), 'act.sub')}")
            actor = actor.get("act")
        return tuple(chain)


def _check(settings: IssuerSettings) -> None:
    where = f"issuer {settings.name}"
    if not settings.issuer or not settings.audiences or not settings.algorithms:
        raise ValueError(f"{where}: issuer, audience and algorithms are required")
    if not 0 <= settings.leeway <= LEEWAY_LIMIT_SECONDS:
        raise ValueError(f"{where}: leeway must be 0 to {LEEWAY_LIMIT_SECONDS:.0f} seconds")
    if _TYPE.fullmatch(settings.type) is None or settings.type in _RESERVED_TYPES:
        raise ValueError(f"{where}: the subject type {settings.type!r} cannot be used")
    if not settings.name or "/" in settings.name:
        raise ValueError(f"{where}: a name without / is required")


def _date(claims: Mapping[str, Json], name: str) -> float | None:
    value = claims.get(name)
    if name not in claims:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise _Reject(f"{name} of the access token is not a date", name)
    return float(value)


def _audience(claims: Mapping[str, Json]) -> list[str]:
    value = claims.get("aud")
    named = value if isinstance(value, list) else [value]
    texts = [item for item in named if isinstance(item, str)]
    if not texts or len(texts) != len(named):
        raise _Reject("The access token names no audience", "token_audience")
    return texts


def _spellings(resources: Iterable[str]) -> dict[str, str]:
    """Audience to resource. A resource that is an origin alone is also written with the slash that URL parsers add."""
    found = {resource: resource for resource in resources}
    for resource in tuple(found):
        if not urlsplit(resource).path:
            found[resource + "/"] = resource
    return found


def _scopes(claims: Mapping[str, Json]) -> frozenset[str]:
    """RFC 9068's `scope`, or `scp` as some issuers call it: words with spaces between, or a list of them."""
    name = "scope" if "scope" in claims else "scp"
    value = claims.get(name)
    if value is None:
        return frozenset()
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > SCOPES_LIMIT:
        raise _Reject(f"{name} of the access token is not a list of scopes", "token_claim")
    return frozenset(_name(word, name) for word in words if word != "")


def _name(value: Json, claim: str) -> str:
    """Printable text: what ends up in ids and records. Never normalised: two spellings are two callers."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LIMIT or not value.isprintable():
        raise _Reject(f"{claim} of the access token is missing or not short printable text", "token_claim")
    return value


def _agent(claims: Mapping[str, Json], claim: str | None) -> str | None:
    if not claim:
        return None
    found, name = place(claims, claim)
    return _name(found[name], claim) if name in found else None


def _group(claims: Mapping[str, Json], mapped: Mapped | None, kind: str) -> str | None:
    if mapped is None or mapped.claim is None:
        return mapped.const if mapped is not None else None
    found, name = place(claims, mapped.claim)
    if name not in found and mapped.of is None:
        return None
    group = _name(found.get(name), mapped.claim)
    if mapped.of is not None and group not in mapped.of:
        rule = "token_org" if kind == "organisation" else f"token_{kind}"
        raise _Reject(f"The issuer of the access token may not speak for its {kind} here", rule)
    return group


def _roles(claims: Mapping[str, Json], mapped: Mapped | None) -> tuple[str, ...]:
    """A list, or one role as text. Roles that the issuer may not give do not count."""
    if mapped is None or mapped.claim is None:
        return (mapped.const,) if mapped is not None and mapped.const is not None else ()
    found, name = place(claims, mapped.claim)
    value = found.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        value = [*value.split()] if mapped.claim in _LISTS_IN_TEXT else [value]
    if not isinstance(value, list) or len(value) > ROLES_LIMIT:
        raise _Reject(f"{mapped.claim} of the access token is not a list of roles", "token_claim")
    roles = dict.fromkeys(_name(item, mapped.claim) for item in value)
    return tuple(role for role in roles if mapped.of is None or role in mapped.of)
