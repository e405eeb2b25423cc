"""Answers that the gateway has at hand: the card of an agent and its originals. The upstream is not asked for them.

They pass through the same stages and filters as an answer that came over the wire: who may see what of a card is judged
there. An original that is not kept is not looked for elsewhere: whatever the agent has at that path is no original.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs

from gateway.core.descriptors import CARD_PATHS, ORIGINAL_CARD_PATH
from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import Reason, Refusal

MAX_AGE_SECONDS = 60  # of a kept card: how long a client may go without asking whether it changed


class KeptAnswer:
    """The port UpstreamAnswer, all of whose body is here."""

    __slots__ = ("_body", "headers", "status")

    def __init__(self, body: bytes, headers: Sequence[Header]) -> None:
        self.status = 200
        self.headers: list[Header] = [(b"content-type", b"application/json"), *headers]
        self._body = body

    @property
    def address(self) -> str:
        return ""

    @property
    def complete(self) -> bytes | None:
        return self._body

    async def chunk(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def aclose(self) -> None:
        self._body = b""


def kept(exchange: Exchange) -> KeptAnswer | Refusal | None:
    """The answer to a request for a card, None where the upstream must be asked."""
    cards = exchange.snapshot.cards.get(exchange.upstream.name)
    head = exchange.head
    rest = exchange.route.rest(head.path)
    found: bytes | None = None
    headers: list[Header] = []
    if rest == ORIGINAL_CARD_PATH:
        named = parse_qs(head.query).get("digest", [""])[0]
        found = cards.original(named) if cards is not None else None
        if found is None:
            text = "No such original is kept; a card's signature names the one it was made from"
            return Refusal(Reason.DENIED, text, rule="original", status=404)
    elif cards is not None and rest in CARD_PATHS:
        found = cards.held()
        headers.append((b"cache-control", f"max-age={MAX_AGE_SECONDS}".encode()))
    if found is None:
        return None
    return KeptAnswer(b"" if head.method == "HEAD" else found, headers)
