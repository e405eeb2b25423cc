"""A gateway that knows callers by their signatures, and what they sign: for tests of message signatures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from gateway.core.exchange import Exchange, Head, Header, Principal
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.identity.bearer import Bearer
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.identity.dpop import Dpop
from gateway.identity.possession import Possession
from gateway.identity.replays import Replays
from gateway.identity.signature import Signatures, SignatureSettings
from gateway.trust.jose import read_jwks, read_token
from gateway.trust.proofs import read_proof
from tests.identity.issuer import ROUTE, HandClock, Issuer, Keys
from tests.identity.prover import Prover
from tests.stages.exchanges import exchange

REQUEST = [('"@method"', "POST"), ('"@authority"', "gw.example"), ('"@path"', "/weather"), ('"@query"', "?")]
AGENT = "https://signer.example"


def keys(*provers: Prover) -> Any:
    return read_jwks(json.dumps({"keys": [prover.jwk for prover in provers]}).encode())


class Door:
    """A gateway that knows one signer's keys; `settings` changes what it asks of them."""

    def __init__(
        self, prover: Prover | None = None, *more: SignatureSettings, source: Any = None, **settings: Any
    ) -> None:
        self.prover = prover or Prover()
        self.idp = Issuer()
        self.clock: HandClock = self.idp.clock
        self.source = source or Keys(keys(self.prover))
        given: dict[str, Any] = {"name": "partners"} | settings
        if "directories" not in given:
            given["keys"] = self.source
        challenges = Challenges("https://gw.example")
        replays = Replays(self.clock)
        self.signatures = Signatures([SignatureSettings(**given), *more], challenges, replays, self.clock, "https")
        dpop = Dpop(read_proof, challenges, replays, self.clock)
        tokens = Bearer([(self.idp.settings(), self.idp.source)], read_token, self.clock)
        possession = Possession(dpop, self.signatures, challenges)
        self.caller = Caller(tokens, None, challenges, self.clock, possession)

    def head(
        self, components: list[tuple[str, str]], *more: Header, target: str = "/weather", method: str = "POST",
        authority: str = "gw.example", by: Prover | None = None, **parameters: Any,
    ) -> Head:  # fmt: skip
        signed = (by or self.prover).signature(components, self.clock.time(), **parameters)
        headers = (*more, *((name.encode(), value.encode()) for name, value in signed.items()))
        path, _, query = target.partition("?")
        return Head(method, target, path, query, authority, "https", headers, "192.0.2.1")

    def ask(self, given: Head, route: Route = ROUTE) -> Principal | Refusal:
        found = self.caller.authenticate(given, route)
        if isinstance(found, Principal | Refusal):
            return found

        async def wait() -> Principal | Refusal:
            return await found

        return asyncio.run(wait())

    def once(self, given: Head, body: bytes | None = None, stream: AsyncIterator[bytes] | None = None) -> Any:
        """The refusal, or the exchange that may go on."""
        taken: Exchange = exchange(principal=None, authenticator=self.caller)
        taken.head, taken.route, taken.body, taken.body_stream = given, ROUTE, body, stream
        found = self.ask(given)
        assert isinstance(found, Principal), found
        return self.caller.once(taken, found) or taken


def rule(found: Any) -> str:
    assert isinstance(found, Refusal), found
    return found.rule


def bot(**settings: Any) -> Door:
    prover = Prover()
    source = Keys(keys(prover))
    return Door(prover, source=source, **({"directories": {AGENT: source}, "whole": False, "nonce": False} | settings))


def agent_head(door: Door, value: str = f'sig1="{AGENT}"', member: str = "sig1", **parameters: Any) -> Head:
    inside = value.partition("=")[2] if "=" in value.split('"')[0] else value
    component = (f'"signature-agent";key="{member}"', inside)
    given: dict[str, Any] = {"tag": "web-bot-auth", "expires": int(door.clock.time()) + 60} | parameters
    return door.head([('"@authority"', "gw.example"), component], (b"signature-agent", value.encode()), **given)
