"""HTTP Message Signatures as a way to say who calls (RFC 9421), Web Bot Auth's among them.

Rules, in the order of the code: 1. The signature is read and its base built by signed.py. 2. An entry speaks for it:
one whose key set has the key of `keyid` (its RFC 7638 thumbprint), or, where the signature covers the `Signature-Agent`
member that names one, the directory of exactly that listed origin. A key learned from one place is never another's.
3. The tag is the entry's; that of a directory's is `web-bot-auth`. 4. `created` is not ahead of now and at most
`max_age` ago, `expires` has not passed; a directory's must have one, at most a day after `created`. 5. What must be
covered is: method, authority and the whole target (`covers: request`), or the authority alone (`covers: authority`),
which is a credential that whoever sees it can use until it expires. 6. The algorithm is Ed25519 or ECDSA P-256, as the
key says; `alg`, if there, must agree. 7. The signature is right.
Asked once per exchange, since a head may be judged twice: 8. A body is covered by `Content-Digest` (with `covers:
request` always, else where it is covered), and is what it says. 9. A nonce counts once; it must be there unless the
entry says otherwise. What is fetched is fetched in the background, for configured origins only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.exchange import Exchange, Head, Principal
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed, Refusal
from gateway.core.snapshot import Route
from gateway.core.tokens import Distrust, KeySource, Vouched
from gateway.identity.challenge import Challenges
from gateway.identity.digests import ExpectedBody
from gateway.identity.dpop import refused_use
from gateway.identity.replays import Memory
from gateway.identity.signed import Signed, read_signed
from gateway.identity.structured import Item, Token, read_dictionary, read_item

BOT_TAG = "web-bot-auth"
DIRECTORY_PATH = "/.well-known/http-message-signatures-directory"
AHEAD_SECONDS = 15.0  # a caller's clock may be so far ahead
LONGEST_SECONDS = 24 * 3600  # of a directory's signatures

ALGORITHMS: Mapping[str, str] = {"ed25519": "EdDSA", "ecdsa-p256-sha256": "ES256"}  # IANA's names to JOSE's
REMEMBERED = 10_000  # principals


@dataclass(frozen=True, slots=True)
class SignatureSettings:
    """One entry of `trust.signatures`. `keys` is its key set; `directories` are key sets by the origin they speak for;
    one of the two is there. `subject` "": the key's thumbprint, or the directory's host."""

    name: str
    keys: KeySource | None = None
    directories: Mapping[str, KeySource] = field(default_factory=dict)
    subject: str = ""
    type: str = "agent"
    org: str | None = None
    roles: tuple[str, ...] = ()
    tag: str = ""
    whole: bool = True  # `covers: request`
    nonce: bool = True  # must be there
    max_age: float = 60.0  # seconds

    def sources(self) -> tuple[KeySource, ...]:
        return ((self.keys,) if self.keys is not None else ()) + tuple(self.directories.values())


@dataclass(frozen=True, slots=True)
class _Speaker:
    """An entry that may speak for a signature, with the keys to ask and the subject it is if they say yes."""

    entry: SignatureSettings
    source: KeySource
    subject: str


@dataclass(frozen=True, slots=True)
class _Wanting:
    """No verdict without newer keys. `available` says whether there are any at all."""

    sources: tuple[KeySource, ...]
    available: bool


class Signatures:
    __slots__ = ("_challenges", "_clock", "_entries", "_names", "_origins", "_principals", "_replays", "_scheme")

    def __init__(
        self, entries: Sequence[SignatureSettings], challenges: Challenges, replays: Memory, clock: Clock, scheme: str
    ) -> None:
        """`scheme` is that of the addresses callers use. Raises ValueError for a directory that two entries list."""
        self._entries = tuple(entry for entry in entries if entry.keys is not None)
        self._origins: dict[str, tuple[SignatureSettings, KeySource]] = {}
        for entry in entries:
            for origin, source in entry.directories.items():
                if origin in self._origins:
                    raise ValueError(f"two entries list the directory of {origin}")
                self._origins[origin] = (entry, source)
        self._names = {entry.name: entry for entry in entries}
        self._challenges = challenges
        self._replays = replays
        self._clock = clock
        self._scheme = scheme
        self._principals: dict[tuple[str, str, str], Principal] = {}

    def authenticate(self, head: Head, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        signed = _signed(head)
        if isinstance(signed, str):
            text = f"The message signature cannot be read: {signed}"
            return self._challenges.malformed(route, text, "signature_malformed")  # 1
        verdict = self._judge(head, route, signed)
        if not isinstance(verdict, _Wanting):
            return verdict
        asked = [fresh for source in verdict.sources if (fresh := source.refresh()) is not None]
        return self._again(asked, head, route, signed) if asked else self._unknown(route, verdict)

    def proves(self, head: Head, route: Route, key: str) -> Refusal | Awaitable[Refusal | None] | None:
        """Whether the signature on this head is by that key and covers the token that is bound to it: the proof that
        belongs to a token, and no credential of its own."""
        signed = _signed(head)
        if isinstance(signed, str) or signed.key != key or "authorization" not in signed.names:
            why = "The signature must be by the key that the token is bound to, and cover Authorization"
            return self._challenges.proof(route, why, "invalid_token", "signature_key")
        found = self.authenticate(head, route)
        if isinstance(found, Principal):
            return None
        return found if isinstance(found, Refusal) else _refusal(found)

    def once(self, exchange: Exchange) -> Refusal | Awaitable[Refusal | None] | None:
        """Rules 8 and 9, for a head that `authenticate` found right."""
        head, route = exchange.head, exchange.route
        signed = _signed(head)
        found = self._speaker(head, signed) if isinstance(signed, Signed) else None
        if not isinstance(signed, Signed) or found is None:
            return self._no(route, "it is not known any more", "signature_key")  # a reload took the entry away
        refusal = self._body(exchange, signed, found.entry.whole)
        if refusal is not None or not signed.nonce:
            return refusal
        ends = signed.created + found.entry.max_age
        if signed.expires is not None:
            ends = min(ends, signed.expires)
        use = self._replays.use(signed.key, signed.nonce, signed.created, ends)
        return refused_use(use, lambda why: self._no(route, why, "signature_replay"))  # 9

    def alive(self, principal: Principal) -> bool:
        """Whether the entry is still configured and still has the key (ruling 4)."""
        entry = self._names.get(principal.issuer)
        return entry is not None and any(_holds(source, principal.key) for source in entry.sources())

    def knows(self, name: str) -> bool:
        return name in self._names

    def _judge(self, head: Head, route: Route, signed: Signed) -> Principal | Refusal | _Wanting:
        found = self._speaker(head, signed)
        if found is None:
            sources = tuple(entry.keys for entry in self._entries if entry.keys is not None)
            return _Wanting(sources, any(source.usable() is not None for source in sources))  # 2
        wrong = self._wrong(signed, found)
        if wrong is not None:
            return self._no(route, *wrong)  # 3, 4, 5, 6
        keys = found.source.usable()
        if keys is None:
            return _Wanting((found.source,), False)
        try:
            base = signed.base(head, self._scheme)
        except Malformed as error:
            return self._no(route, str(error), "signature_components")  # 1
        verdict = Distrust.ALGORITHM
        for algorithm in _algorithms(signed):
            said = keys.proves(signed.key, algorithm, base, signed.signature, self._clock.time())
            if isinstance(said, Vouched):
                return self._principal(found, signed.key)
            verdict = said if said is not Distrust.ALGORITHM else verdict
        if verdict is Distrust.KEY:
            return _Wanting((found.source,), True)
        return self._no(route, "it is wrong, or of another request than this", f"signature_{verdict}")  # 7

    def _speaker(self, head: Head, signed: Signed) -> _Speaker | None:
        """Rule 2."""
        origin = _agent(head, signed) if self._origins else ""
        if origin in self._origins:
            entry, source = self._origins[origin]
            return _Speaker(entry, source, entry.subject or origin.partition("://")[2])
        for entry in self._entries:
            if entry.keys is not None and entry.tag == signed.tag and _holds(entry.keys, signed.key):
                return _Speaker(entry, entry.keys, entry.subject or signed.key)
        return None

    def _wrong(self, signed: Signed, found: _Speaker) -> tuple[str, str] | None:
        entry, now = found.entry, self._clock.time()
        bot = found.source is not entry.keys
        if signed.tag != (BOT_TAG if bot else entry.tag):
            return "its tag is not the one that is expected", "signature_tag"  # 3
        if not now - entry.max_age <= signed.created <= now + AHEAD_SECONDS:
            return "it was not made just now: look at the clock", "signature_time"  # 4
        if signed.expires is not None and (now >= signed.expires or signed.expires <= signed.created):
            return "it has expired", "signature_time"  # 4
        if bot and (signed.expires is None or signed.expires - signed.created > LONGEST_SECONDS):
            return "it must expire within a day", "signature_time"  # 4
        if not _covers(signed, whole=entry.whole):
            what = "@method, @authority and the whole target" if entry.whole else "@authority or @target-uri"
            return f"it must cover {what}", "signature_components"  # 5
        if signed.algorithm and signed.algorithm not in ALGORITHMS:
            return "its algorithm is not one of " + ", ".join(ALGORITHMS), "signature_algorithm"  # 6
        if entry.nonce and not signed.nonce:
            return "it must have a nonce", "signature_nonce"  # 9
        return None

    def _body(self, exchange: Exchange, signed: Signed, whole: bool) -> Refusal | None:
        """Rule 8."""
        body, stream, route = exchange.body, exchange.body_stream, exchange.route
        if not body and stream is None:
            return None
        if "content-digest" not in signed.names:
            if not whole:
                return None
            return self._no(route, "it must cover Content-Digest, for there is a body", "signature_digest")
        another = self._no(route, "the body is not the one that was signed", "signature_digest")
        try:
            expected = ExpectedBody(exchange.head, another)
        except Malformed as error:
            return self._no(route, str(error), "signature_digest")
        if stream is not None:
            exchange.body_stream = expected.stream(stream)
            return None
        return expected.compared(body or b"")

    def _principal(self, found: _Speaker, key: str) -> Principal:
        """The same object for the same caller: others remember what they know of it."""
        entry = found.entry
        principal = self._principals.get((entry.name, found.subject, key))
        if principal is None:
            principal = Principal(
                id=f"{entry.type}:{entry.name}/{found.subject}",
                type=entry.type,
                issuer=entry.name,
                org=entry.org,
                roles=entry.roles,
                credential=key,
                key=key,
                proof=key,
            )
            if len(self._principals) >= REMEMBERED:
                self._principals.clear()
            self._principals[(entry.name, found.subject, key)] = principal
        return principal

    async def _again(
        self, asked: list[Awaitable[None]], head: Head, route: Route, signed: Signed
    ) -> Principal | Refusal:
        await asyncio.gather(*asked)
        verdict = self._judge(head, route, signed)
        return self._unknown(route, verdict) if isinstance(verdict, _Wanting) else verdict

    def _unknown(self, route: Route, wanting: _Wanting) -> Refusal:
        if not wanting.available and wanting.sources:
            return self._challenges.unavailable("signatures")
        return self._no(route, "its key is not known here", "signature_key")

    def _no(self, route: Route, why: str, rule: str) -> Refusal:
        return self._challenges.invalid(route, f"The message signature is refused: {why}", rule)


def _signed(head: Head) -> Signed | str:
    """What the head presents, or why it cannot be read; remembered on it."""
    found: Signed | str | None = head.facts.get("signature")
    if found is None:
        try:
            found = read_signed(head)
        except Malformed as error:
            found = str(error)
        head.facts["signature"] = found
    return found


def _agent(head: Head, signed: Signed) -> str:
    """The origin that the signature says its key is published at; "" where it covers none that can be understood. A
    member that it does not cover counts for nothing, and neither does another kind of discovery than a directory."""
    covered = [item for item in signed.covered if item.value == "signature-agent"]
    values = head.values(b"signature-agent")
    if len(covered) != 1 or len(values) != 1 or not values[0].isascii():
        return ""
    key = covered[0].parameters.get("key")
    text = values[0].decode("ascii")
    try:
        member = read_dictionary(text).get(str(key)) if key is not None else read_item(text)  # the older, bare form
    except Malformed:
        return ""
    if not isinstance(member, Item) or not isinstance(member.value, str):
        return ""
    kind = member.parameters.get("type", Token("directory"))
    return member.value.removesuffix("/").lower() if kind == Token("directory") else ""


def _covers(signed: Signed, *, whole: bool) -> bool:
    """Rule 5. A component with a `key` is a part of a header, never one of these."""
    if not whole:
        return not signed.names.isdisjoint({"@authority", "@target-uri"})
    if "@method" not in signed.names:
        return False
    return "@target-uri" in signed.names or (
        "@authority" in signed.names
        and ("@request-target" in signed.names or {"@path", "@query"}.issubset(signed.names))
    )


def _algorithms(signed: Signed) -> tuple[str, ...]:
    return (ALGORITHMS[signed.algorithm],) if signed.algorithm else tuple(ALGORITHMS.values())


def _holds(source: KeySource, key: str) -> bool:
    keys = source.usable()
    return keys is not None and keys.holds(key)


async def _refusal(found: Awaitable[Principal | Refusal]) -> Refusal | None:
    verdict = await found
    return verdict if isinstance(verdict, Refusal) else None
