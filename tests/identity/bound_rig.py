"""A gateway's door and a caller whose token is bound to its key: for tests of proofs."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Exchange, Head, Header, Principal
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.identity.bearer import Bearer
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.identity.dpop import Dpop, Nonces
from gateway.identity.possession import Possession
from gateway.identity.replays import Replays
from gateway.trust.jose import read_token
from gateway.trust.proofs import read_proof
from tests.identity.issuer import ROUTE, HandClock, Issuer, ask
from tests.identity.prover import Prover
from tests.stages.exchanges import exchange

URL = "https://gw.example/weather"


class Bound:
    """A gateway's door and a caller with a key."""

    def __init__(self, prover: Prover | None = None, *, nonces: bool = False, share: int = 1000) -> None:
        self.idp = Issuer()
        self.clock: HandClock = self.idp.clock
        self.prover = prover or Prover()
        challenges = Challenges("https://gw.example")
        self.nonces = Nonces(b"s" * 32, self.clock)
        dpop = Dpop(
            read_proof, challenges, Replays(self.clock, share=share), self.clock,
            nonces=self.nonces if nonces else None,
        )  # fmt: skip
        tokens = Bearer([(self.idp.settings(), self.idp.source)], read_token, self.clock)
        self.caller = Caller(tokens, None, challenges, self.clock, Possession(dpop, None, challenges))

    def token(self, **claims: Any) -> str:
        return self.idp.token(**({"cnf": {"jkt": self.prover.thumbprint}} | claims)).decode()

    def headers(self, token: str, **changed: Any) -> list[Header]:
        given = {"method": "POST", "url": URL} | {
            name: changed.pop(name) for name in ("method", "url") if name in changed
        }
        proof = self.prover.proof(given["method"], given["url"], token, self.clock.time(), **changed)
        return [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]

    def ask(self, *headers: Header, query: str = "", route: Route = ROUTE) -> Principal | Refusal:
        return ask(self.caller, *headers, query=query, route=route)

    def once(self, given: Head, principal: Principal) -> Refusal | None:
        taken: Exchange = exchange(principal=None, authenticator=self.caller)
        taken.head, taken.route = given, ROUTE
        return self.caller.once(taken, principal)
