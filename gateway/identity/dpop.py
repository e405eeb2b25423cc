"""DPoP (RFC 9449): whoever presents a token that is bound to a key proves, for this very request, that it has the key.

What is checked, after section 4.3; numbered as in the code:
1. One `DPoP` header, at most `PROOF_LIMIT_BYTES`. 2. A well-formed proof under the key it brings (trust/proofs.py).
3. `jti`, `htm`, `htu`, `iat` and `ath` are there, of the right types. 4. `htm` is this method. 5. `htu` is the address
that callers use for this very path; scheme and host in any case, the default port left out, nothing else normalised;
its query does not count. 6. `iat` lies within `max_age` before now and `AHEAD_SECONDS` after. 7. `ath` is the digest of
this very token. 8. The key is the one that the token is bound to (`cnf.jkt`). 9. Where the gateway asks for nonces, the
proof has one it gave lately. 10. A proof counts once; asked apart from the rest, since a head may be judged twice.
What 1 to 3 found is remembered on the head that it was derived from.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from gateway.core.canonical import Json
from gateway.core.exchange import Head, Principal
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route
from gateway.core.tokens import ReadProof
from gateway.identity.challenge import Challenges
from gateway.identity.replays import Memory, Use

PROOF_LIMIT_BYTES = 8 * 1024  # a real one is below 1 KiB
AHEAD_SECONDS = 15.0  # a caller's clock may be so far ahead
JTI_LIMIT = 512  # characters
NONCE_SECONDS = 120.0  # a nonce is good for at least so long, at most twice

_URL = re.compile(r"(https?)://([^/?#@\\\s]+)([^?#\\\s]*)(?:[?#].*)?", re.IGNORECASE)
_STANDARD = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a head's proof says, once it is known to be right under its own key."""

    key: str
    jti: str
    method: str
    url: str
    issued: float
    token: str
    nonce: str


class Nonces:
    """Nonces that need no memory: the span of time they were given in, under a key that only this process has."""

    __slots__ = ("_clock", "_secret")

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def give(self) -> str:
        return self._of(self._span())

    def takes(self, nonce: str) -> bool:
        given = nonce.encode("utf-8", "surrogatepass")
        span = self._span()
        return any(hmac.compare_digest(given, self._of(when).encode()) for when in (span, span - 1))

    def _span(self) -> int:
        return int(self._clock.monotonic() // NONCE_SECONDS)

    def _of(self, span: int) -> str:
        made = hmac.digest(self._secret, b"dpop nonce %d" % span, "sha256")
        return base64.urlsafe_b64encode(made[:18]).decode()


class Dpop:
    """`max_age` is seconds; `nonces` None: proofs need none."""

    __slots__ = ("_challenges", "_clock", "_max_age", "_nonces", "_read", "_replays")

    def __init__(
        self,
        read: ReadProof,
        challenges: Challenges,
        replays: Memory,
        clock: Clock,
        *,
        max_age: float = 60.0,
        nonces: Nonces | None = None,
    ) -> None:
        self._read = read
        self._challenges = challenges
        self._replays = replays
        self._clock = clock
        self._max_age = max_age
        self._nonces = nonces

    def judge(self, head: Head, route: Route, principal: Principal, token: bytes) -> Refusal | None:
        """Rules 1 to 9. `token` is the SHA-256 of the access token."""
        shown = self._shown(head)
        if isinstance(shown, str):
            return self._no(route, shown, "dpop_malformed")
        if shown.method != head.method:
            return self._no(route, "it is for another method", "dpop_method")  # 4
        if not same_address(shown.url, self._challenges.address(route, head.path)):
            return self._no(route, "it is for another address: htu is the address that callers use", "dpop_url")  # 5
        now = self._clock.time()
        if not now - self._max_age <= shown.issued <= now + AHEAD_SECONDS:
            return self._no(route, "it was not made just now: look at the clock", "dpop_time")  # 6
        if not hmac.compare_digest(shown.token.encode(), _base64url(token)):
            return self._no(route, "it is for another token", "dpop_token")  # 7
        if not hmac.compare_digest(shown.key, principal.proof):
            return self._no(route, "it is not by the key that the token is bound to", "dpop_key", "invalid_token")  # 8
        if self._nonces is not None and not self._nonces.takes(shown.nonce):
            text = "Put the nonce of this answer's DPoP-Nonce into the proof and try again"
            return self._challenges.proof(route, text, "use_dpop_nonce", "dpop_nonce", self._nonces.give())  # 9
        return None

    def missing(self, route: Route) -> Refusal:
        """The token is bound, and nothing proves that its sender has the key (section 7.1)."""
        text = "The access token is bound to a key: send it as Authorization: DPoP, with a proof in the DPoP header"
        return self._challenges.proof(route, text, "invalid_token", "dpop_missing")

    def unbound(self, route: Route) -> Refusal:
        text = "The access token is not bound to a key: send it as Authorization: Bearer, or get a bound one"
        return self._challenges.proof(route, text, "invalid_token", "dpop_unbound")

    def once(self, head: Head, route: Route) -> Refusal | Awaitable[Refusal | None] | None:
        """Rule 10, for a head that `judge` found right."""
        shown = self._shown(head)
        if isinstance(shown, str):
            return self._no(route, shown, "dpop_malformed")
        use = self._replays.use(shown.key, shown.jti, shown.issued, shown.issued + self._max_age)
        return refused_use(use, lambda why: self._no(route, why, "dpop_replay"))

    def _shown(self, head: Head) -> Shown | str:
        found: Shown | str | None = head.facts.get("dpop")
        if found is None:
            found = head.facts["dpop"] = self._look(head)
        return found

    def _look(self, head: Head) -> Shown | str:
        values = head.values(b"dpop")
        if len(values) != 1:
            return "there must be exactly one DPoP header"  # 1
        if len(values[0]) > PROOF_LIMIT_BYTES:
            return f"it is larger than {PROOF_LIMIT_BYTES} bytes"  # 1
        try:
            proof = self._read(values[0])  # 2
            return _said(proof.key, proof.claims)  # 3
        except Malformed as error:
            return str(error)

    def _no(self, route: Route, why: str, rule: str, error: str = "invalid_dpop_proof") -> Refusal:
        return self._challenges.proof(route, f"The DPoP proof is refused: {why}", error, rule)


def refused_use(
    use: Use | Awaitable[Use], refused: Callable[[str], Refusal]
) -> Refusal | Awaitable[Refusal | None] | None:
    """What comes of using something once."""
    return _outcome(use, refused) if isinstance(use, Use) else _awaited(use, refused)


async def _awaited(use: Awaitable[Use], refused: Callable[[str], Refusal]) -> Refusal | None:
    return _outcome(await use, refused)


def _outcome(use: Use, refused: Callable[[str], Refusal]) -> Refusal | None:
    if use is Use.FRESH:
        return None
    if use is Use.AGAIN:
        return refused("it was used before: make a new one for each request")
    if use is Use.EARLY:
        return refused("it was made before the gateway began: make a new one")
    text = "Too many proofs at a time: what counts once can be remembered of so many only"
    return Refusal(Reason.OVERLOADED, text, rule="replays_full", retry_after=5)


def same_address(said: str, wanted: str) -> bool:
    """Rule 5. Both are compared as they stand, but for what RFC 9110 section 4.2.3 calls the same."""
    one, other = _address(said), _address(wanted)
    return one is not None and one == other


def _address(url: str) -> tuple[str, str, str] | None:
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found[1].lower()
    return scheme, found[2].lower().removesuffix(_STANDARD[scheme]), found[3] or "/"


def _said(key: str, claims: dict[str, Json]) -> Shown:
    texts = {name: claims.get(name, "") for name in ("jti", "htm", "htu", "ath", "nonce")}
    for name, value in texts.items():
        if not isinstance(value, str) or len(value) > 4096 or (not value and name != "nonce"):
            raise Malformed(f"{name} is missing or not a text")
    issued = claims.get("iat")
    if not isinstance(issued, int | float) or isinstance(issued, bool) or not 0 <= issued < 2**53:
        raise Malformed("iat is missing or not a date")
    jti, method, url, token, nonce = (str(texts[name]) for name in ("jti", "htm", "htu", "ath", "nonce"))
    if len(jti) > JTI_LIMIT:
        raise Malformed(f"jti is longer than {JTI_LIMIT} characters")
    return Shown(key, jti, method, url, float(issued), token, nonce)


def _base64url(digest: bytes) -> bytes:
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def token_digest(token: bytes) -> str:
    """What `ath` must be for this token."""
    return _base64url(sha256(token).digest()).decode()
