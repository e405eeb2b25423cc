"""Who is trusted to sign descriptors, and what a caller presents: for tests of callers' descriptors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.exchange import Exchange, Head, Header, Principal
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route
from gateway.trust.callers import CallerDescriptors, PresentedDescriptors
from gateway.trust.cards import sign_card
from gateway.trust.jose import Signer, read_jwks, sign_compact, signer
from gateway.trust.presented import BINDING, TYPE
from gateway.trust.signers import NamedSets, TrustedSigner
from tests.identity.issuer import NOW, HandClock
from tests.stages.exchanges import exchange

PLANNER = Principal("agent:idp/planner", "agent", issuer="idp", credential="x", key="k")
PROOF, CERTIFICATE = "p" * 43, "c" * 43
ROUTE = Route("tools", "/tools", "", "shop", "required", "json")
STRICT = Route("tools", "/tools", "", "shop", "required", "json", descriptor="required")


class Source:
    """A signer's keys; `later` is what asking again brings."""

    def __init__(self, *signers: Signer, later: Signer | None = None) -> None:
        self.keys: Any = keys(*signers) if signers else None
        self.later = later
        self.asked = 0

    def usable(self) -> Any:
        return self.keys

    def refresh(self) -> Awaitable[None] | None:
        self.asked += 1
        return self._bring() if self.later is not None else None

    async def _bring(self) -> None:
        if self.later is not None:
            self.keys, self.later = keys(self.later), None


def keys(*signers: Signer) -> Any:
    return read_jwks(json.dumps({"keys": [one.jwk() for one in signers]}).encode())


async def _unfetched(url: str) -> bytes:
    raise AssertionError(f"{url} was asked")


class Desk:
    """Who is trusted to sign descriptors (acme), and what a caller presents."""

    def __init__(self, *, issuers: dict[str, str] | None = None, registered: dict[str, bytes] | None = None) -> None:
        self.clock = HandClock()
        self.private = Ed25519PrivateKey.generate()
        self.signer = signer(self.private, "acme-1")
        self.source = Source(self.signer)
        self.named = NamedSets(_unfetched, self.clock)
        self.issuers = issuers if issuers is not None else {"idp": "https://idp.example"}
        self.checker = self.made(registered or {})

    def made(self, registered: dict[str, bytes]) -> CallerDescriptors:
        trusted: Any = [TrustedSigner("acme", self.source)]  # type: ignore[arg-type]
        return CallerDescriptors(trusted, self.named, registered, self.issuers, self.clock)

    def claims(self, **changed: Any) -> dict[str, Any]:
        given = {"sub": PLANNER.id, "name": "planner", "exp": int(NOW) + 3600, "iat": int(NOW)} | changed
        return {name: value for name, value in given.items() if value is not None}

    def jws(self, *, by: Signer | None = None, typ: str = TYPE, **changed: Any) -> bytes:
        return sign_compact(self.claims(**changed), by or self.signer, typ=typ).encode()

    def card(self, **parameters: Any) -> bytes:
        made = sign_card(card(**parameters), self.signer)
        return base64.urlsafe_b64encode(json.dumps(made).encode()).rstrip(b"=")

    def ask(
        self, *values: bytes, principal: Principal = PLANNER, route: Route = ROUTE, connection: str = "",
        head: Head | None = None,
    ) -> tuple[Any, Exchange]:  # fmt: skip
        headers: tuple[Header, ...] = tuple((b"agent-descriptor", value) for value in values)
        given = exchange(principal=principal)
        given.head = head or Head("POST", "/tools", "/tools", "", "gw", "https", headers, "", certificate=connection)
        given.route = route
        given.snapshot = SimpleNamespace(callers=self.checker)  # type: ignore[assignment]

        async def wait() -> Any:
            found = PresentedDescriptors().check(given)
            return await found if isinstance(found, Awaitable) else found

        return asyncio.run(wait()), given


def card(**parameters: Any) -> dict[str, Any]:
    extensions = [{"uri": BINDING, "params": parameters}] if parameters else []
    return {
        "name": "planner", "description": "Plans", "version": "1.2.0",
        "supportedInterfaces": [
            {"url": "https://planner.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        ],
        "capabilities": {"streaming": True, "extensions": extensions},
        "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "plan", "name": "Plan", "description": "Plans", "tags": ["plans"]}],
    }  # fmt: skip


def rule(found: tuple[Any, Exchange]) -> str:
    verdict, given = found
    assert isinstance(verdict, Refusal), verdict
    assert verdict.reason is Reason.DESCRIPTOR_UNVERIFIED
    assert given.vouched is None
    assert given.descriptor is None
    return verdict.rule


def shown(found: tuple[Any, Exchange]) -> dict[str, Any]:
    verdict, given = found
    assert verdict is CONTINUE
    assert given.vouched is not None
    return given.vouched
