"""What a protocol file meets: exchanges as the wire opens them, answers, a policy to ask, handles to bind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings

from gateway.core.exchange import Call, Decision, Exchange, Handle, Head, Header, Obligation, Principal
from gateway.core.ports import AnswerFilter, Protocol, UsageReader, WholeFilter
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route, RouteTable, Snapshot, Upstream
from gateway.ledger.prices import PriceTable
from gateway.trust.card_cache import CardCache, CardSettings
from gateway.trust.jose import signer
from gateway.trust.signers import NamedSets, Signers

settings.register_profile("shared_machine", deadline=None)  # a busy core is no failure
settings.load_profile("shared_machine")

EXCHANGE_ID = "0197c000-0000-7000-8000-000000000001"
PUBLIC_URL = "https://gw.example"
NO_PRICES = PriceTable()


@dataclass
class Answer:
    """An upstream's answer head, as filters and readers see it."""

    status: int = 200
    headers: list[Header] = field(default_factory=list)


@dataclass
class Policy:
    """Allows what `allows` says and keeps what it was asked."""

    allows: Callable[[Call], bool] = lambda call: True
    obligations: tuple[Obligation, ...] = ()
    asked: list[Call] = field(default_factory=list)

    async def __call__(self, calls: Sequence[Call]) -> list[Decision]:
        self.asked += calls
        return [Decision(self.allows(call), "because", "a_rule", "test", "1", self.obligations) for call in calls]


@dataclass
class Bindings:
    """Handles of one route and upstream, bound for one principal."""

    subject: str = "user:idp/ann"
    owners: dict[Handle, str] = field(default_factory=dict)
    bound: list[Handle] = field(default_factory=list)

    async def __call__(self, handle: Handle) -> None:
        self.owners[handle] = self.subject
        self.bound.append(handle)

    async def owner(self, handle: Handle) -> str | None:
        return self.owners.get(handle)


async def _nothing() -> AsyncIterator[bytes]:
    yield b"unseen"


async def _unfetched(asked: object) -> Any:
    raise AssertionError(f"nothing is fetched here: {asked}")


class Wire:
    """Does with a protocol what the wire does."""

    Answer = Answer
    Policy = Policy
    Bindings = Bindings
    exchange_id = EXCHANGE_ID
    public_url = PUBLIC_URL

    def __init__(self) -> None:
        """The agent's cards are signed by the gateway; nobody is asked to vouch for them."""
        self.signer = signer(Ed25519PrivateKey.generate(), "gw")
        self.cards: Any = CardCache(
            CardSettings("up"), _unfetched, Signers((), NamedSets(_unfetched, time)), lambda: self.signer,
            lambda: None, time,
        )  # fmt: skip

    def exchange(
        self,
        protocol: Protocol,
        method: str = "POST",
        target: str = "/r",
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
        *,
        typed: bool = True,
        upstream_path: str = "",
        websocket: bool = False,
        host: str = "",
        principal: str = "user:idp/ann",
        reads: str = "json",
        prices: PriceTable = NO_PRICES,
        **route: Any,
    ) -> Exchange:
        """An exchange before its protocol has looked at it. The route is /r unless told otherwise; a body is JSON
        unless the headers say what it is or it goes without a type."""
        path, _, query = target.partition("?")
        found = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
        if body is not None and typed and not any(name == b"content-type" for name, _ in found):
            found = (*found, (b"content-type", b"application/json"))
        head = Head(method, target, path, query, "gw.example", "https", found, "127.0.0.1", websocket=websocket)
        wanted = {"name": "r", "path": "/r", "host": host, "upstream": "up", "auth": "required", "body": reads}
        chosen = Route(**(wanted | route))
        upstream = Upstream("up", protocol.name, "http", "agent.internal", 9001, "agent.internal:9001", upstream_path)
        nobody: Any = None
        snapshot = Snapshot(
            revision="1", routes=RouteTable((chosen,)), upstreams={"up": upstream}, authenticator=nobody, engine=nobody,
            ledger=nobody, prices=prices, public_url=PUBLIC_URL, hosts=frozenset(), origins=frozenset(),
            policy_headers=(), judged_body_bytes=4096, body_bytes=1 << 20, cards={"up": self.cards},
        )  # fmt: skip
        exchange = Exchange(EXCHANGE_ID, 0.0, 0.0, head, snapshot, chosen, upstream, protocol)
        exchange.principal = Principal(principal, "user")
        return exchange

    def asked(self, protocol: Protocol, *args: Any, **kwargs: Any) -> Call | Refusal:
        """What the protocol makes of a request."""
        asked = self.classified(protocol, *args, **kwargs).asked
        assert asked is not None
        return asked

    def classified(
        self, protocol: Protocol, method: str = "POST", target: str = "/r", body: bytes | None = None, *args: Any,
        **kwargs: Any,
    ) -> Exchange:  # fmt: skip
        """An exchange whose body was read or left, as the protocol wished, and classified."""
        exchange = self.exchange(protocol, method, target, body, *args, **kwargs)
        if exchange.head.websocket:
            exchange.asked = protocol.classify(exchange)
            return exchange
        reads = protocol.reads_body(exchange.head, exchange.route)
        if isinstance(reads, Refusal):
            exchange.asked = reads
            return exchange
        if reads:
            exchange.body = body or b""
        elif body:
            exchange.body_stream, exchange.body_bytes = _nothing(), len(body)
        exchange.asked = protocol.classify(exchange)
        return exchange

    def filtered(
        self,
        exchange: Exchange,
        answer: Answer,
        chunks: Iterable[bytes],
        *,
        policy: Policy | None = None,
        bindings: Bindings | None = None,
    ) -> list[bytes]:
        """What the caller gets of an answer in these chunks, piece by piece; `b""` pieces are kept."""

        async def run() -> list[bytes]:
            seen: Any = answer
            found: AnswerFilter | WholeFilter | None = await exchange.protocol.filter(
                exchange, seen, policy or Policy(), bindings or Bindings()
            )
            if found is None:
                return list(chunks)
            if found.whole is True:
                return [await found.rewrite(b"".join(chunks))]
            shown = [await found.feed(chunk) for chunk in chunks]
            return [*shown, await found.finish()]

        return asyncio.run(run())

    def reader(self, exchange: Exchange, answer: Answer) -> UsageReader | None:
        seen: Any = answer
        return exchange.protocol.usage(exchange, seen)


@pytest.fixture(scope="session")
def wire() -> Wire:
    return Wire()
