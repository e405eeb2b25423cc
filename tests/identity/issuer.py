"""An issuer of tokens for tests: real keys, real signatures, a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.canonical import parse
from gateway.core.exchange import Head, Header, Principal
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.identity.apikey import ApiKeys
from gateway.identity.bearer import Bearer, IssuerSettings, Mapped
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.trust.jose import PrivateKey, Signer, read_jwks, read_token, sign_compact, signer

URL = "https://idp.example"
NOW = 1_795_000_000.0
ROUTE = Route("weather", "/weather", "", "weather", "required", "json")
OPEN_ROUTE = Route("open", "/open", "", "weather", "anonymous", "json")


@dataclass
class HandClock:
    """Wall and monotonic time, moved apart or together."""

    wall: float = NOW
    mono: float = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@dataclass
class Keys:
    """A key source that answers from memory; `later` is what a refresh brings, None when it is too early for one."""

    keys: Any
    later: Any = None
    refreshes: int = 0

    def usable(self) -> Any:
        return self.keys

    def refresh(self) -> Awaitable[None] | None:
        if self.later is None:
            return None
        self.refreshes += 1
        return self._bring()

    async def _bring(self) -> None:
        await asyncio.sleep(0)
        self.keys, self.later = self.later, None


def key_set(*signers: Signer) -> Any:
    return read_jwks(json.dumps({"keys": [one.jwk() for one in signers]}).encode())


@dataclass
class Issuer:
    """Signs what it is told to."""

    name: str = "idp"
    url: str = URL
    clock: HandClock = field(default_factory=HandClock)
    private: PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    kid: str = "k1"

    def __post_init__(self) -> None:
        self.signer = signer(self.private, self.kid)
        self.source = Keys(key_set(self.signer))

    def settings(self, **changed: Any) -> IssuerSettings:
        given: dict[str, Any] = {
            "name": self.name,
            "issuer": self.url,
            "audiences": frozenset({"tollgate"}),
            "algorithms": frozenset({self.signer.algorithm}),
            "org": Mapped(claim="org"),
            "roles": Mapped(claim="roles"),
        }
        return IssuerSettings(**{**given, **changed})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """`None` takes a claim out."""
        given = {"iss": self.url, "aud": "tollgate", "sub": "planner", "exp": int(self.clock.time()) + 600, **changed}
        return {name: value for name, value in given.items() if value is not None}

    def token(self, *, typ: str = "at+jwt", **changed: Any) -> bytes:
        return sign_compact(self.claims(**changed), self.signer, typ=typ).encode()

    def raw(self, header: bytes, payload: bytes) -> bytes:
        """A token whose parts are the given bytes, correctly signed."""
        signed = encode(header) + b"." + encode(payload)
        assert isinstance(self.private, Ed25519PrivateKey)
        return signed + b"." + encode(self.private.sign(signed))


def encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def caller(*issuers: Issuer, clock: HandClock | None = None, api_keys: ApiKeys | None = None, **changed: Any) -> Caller:
    """An authenticator that knows the issuers, with changed settings for the first."""
    time = clock or (issuers[0].clock if issuers else HandClock())
    listed = [(one.settings(**(changed if index == 0 else {})), one.source) for index, one in enumerate(issuers)]
    return Caller(Bearer(listed, read_token, time), api_keys, Challenges("https://gw.example"), time)


def api_keys(path: Path, entries: object, clock: HandClock) -> ApiKeys:
    path.write_text(json.dumps(entries))
    return ApiKeys(path, parse, clock)


def head(*headers: Header, query: str = "") -> Head:
    target = f"/weather?{query}" if query else "/weather"
    return Head("POST", target, "/weather", query, "gw.example", "https", (*headers, (b"accept", b"*/*")), "192.0.2.1")


def bearer(token: bytes) -> Header:
    return b"authorization", b"Bearer " + token


def ask(who: Caller, *headers: Header, query: str = "", route: Route = ROUTE) -> Principal | Refusal:
    """The verdict, waited for if it takes a refresh."""
    found = who.authenticate(head(*headers, query=query), route)
    if isinstance(found, Principal | Refusal):
        return found

    async def wait() -> Principal | Refusal:
        return await found

    return asyncio.run(wait())


def known(found: Principal | Refusal) -> Principal:
    assert isinstance(found, Principal), found
    return found


def refused(found: Principal | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


def challenge(found: Principal | Refusal) -> str:
    return dict(refused(found).headers)[b"www-authenticate"].decode()
