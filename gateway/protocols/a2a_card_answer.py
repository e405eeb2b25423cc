"""An agent card on its way to a caller: what was verified of it, leading through the gateway, signed by the gateway.

1. Only what the upstream's signature covers goes on, where the configuration names who may sign; where it requires a
card and none verifies, nothing does. 2. URLs are the gateway's (a2a_cards.py), skills are those the caller may use.
3. What was changed is signed anew: a card without the gateway's signature is not shown. The signature names the digest
of the original, which is shown at `ORIGINAL_CARD_PATH` to whom nothing in it is hidden. 4. With `preserve` the card
goes on as it came, or not at all. 5. It is this caller's: private, with a validator of its own by which If-None-Match
is answered; an extended card is not stored anywhere, and neither is its original.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from gateway.core.canonical import Json, encode, parse
from gateway.core.descriptors import ORIGINAL_CARD_PATH, AgentCards, TakenCard
from gateway.core.exchange import Call, Exchange
from gateway.core.ports import Ask, UpstreamAnswer
from gateway.core.reasons import Malformed, Reason, Refusal, Unverified, Withheld
from gateway.protocols.a2a_cards import older, rewritten, way
from gateway.protocols.jsonrpc import payload

EXTENDED = "a2a.GetExtendedAgentCard"


class Card:
    """The filter of an answer that is a card, well-known or extended, or one's original. `enveloped`: it is the result
    of a JSON-RPC response."""

    __slots__ = ("_answer", "_ask", "_enveloped", "_exchange", "_extended")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, *, enveloped: bool) -> None:
        self._exchange = exchange
        self._answer = answer
        self._ask = ask
        self._enveloped = enveloped
        self._extended = exchange.call.action == EXTENDED
        if self._extended:
            unstored(answer)

    async def rewrite(self, body: bytes) -> bytes:
        document = parse(body)
        card = payload(document, self._enveloped)
        if card is None:
            return body  # an error of JSON-RPC
        cards = self._exchange.snapshot.cards.get(self._exchange.upstream.name)
        if cards is None:
            raise Malformed("nobody here signs the cards of this agent")  # 3
        if self._exchange.call.context.get("original"):
            return await self._original(body, card)
        try:
            taken = await cards.take(card, encode(card) if self._enveloped else body, keep=not self._extended)
        except Unverified as error:
            raise _withheld("The agent's card is not verified", f"card: {error}"[:500]) from None  # 1
        found = rewritten(taken.card, way(self._exchange))
        hidden = await self._filter(found)
        if cards.preserve:
            made = self._preserved(taken, found != taken.card or hidden > 0, hidden)
        else:
            made = self._signed(cards, taken, found, card)
        if self._enveloped and isinstance(document, dict):
            document["result"] = made
            return _dump(document)
        shown = body if cards.preserve and taken.whole else _dump(made)
        return b"" if not self._extended and self._validated(shown) else shown

    def _signed(self, cards: AgentCards, taken: TakenCard, found: dict[str, Json], card: Json) -> Json:
        if isinstance(card, dict) and "url" in card and "url" not in found:
            older(found)  # its signature did not cover what readers of v0.3 look at
        snapshot = self._exchange.snapshot
        if not self._extended:
            place = f"{way(self._exchange).public}{ORIGINAL_CARD_PATH}?digest={taken.original}"
            self._answer.headers.append((b"link", f'<{place}>; rel="original"'.encode("ascii", "replace")))
        jku = snapshot.public_url.rstrip("/") + "/.well-known/jwks.json"
        return cards.sign(found, jku=jku, original=taken.original)  # 3

    def _preserved(self, taken: TakenCard, changed: bool, hidden: int) -> Json:
        if not taken.verified:
            raise _withheld("The agent's card is not verified", "card: nothing to preserve")  # 4
        if hidden:
            raise Withheld(Refusal(Reason.DENIED, "This card can only be shown whole", rule="skills"))
        if changed:
            raise _withheld("The agent's card leads elsewhere and may not be changed", "preserve")
        return {**taken.card, "signatures": taken.signatures}

    async def _original(self, body: bytes, card: Json) -> bytes:
        """As it came, to whom nothing in it is hidden."""
        if isinstance(card, dict) and await self._filter(dict(card)):
            raise Withheld(Refusal(Reason.DENIED, "This card can only be shown whole", rule="skills"))
        return b"" if self._validated(body) else body

    async def _filter(self, card: dict[str, Json]) -> int:
        """Leaves the skills that the caller may use; how many were hidden."""
        skills = card.get("skills")
        if skills is None:
            return 0
        if not isinstance(skills, list):
            raise Malformed("the card's skills are not a list")
        decisions = await self._ask([self._question(skill) for skill in skills]) if skills else []
        shown = [
            skill
            for skill, decision in zip(skills, decisions, strict=True)
            if decision.allow is True and not decision.obligations
        ]
        self._exchange.filtered = (len(shown), len(skills) - len(shown))
        card["skills"] = shown
        return len(skills) - len(shown)

    def _question(self, skill: Json) -> Call:
        """Would this caller's message for the skill be allowed?"""
        ident = skill.get("id") if isinstance(skill, dict) else None
        if not isinstance(ident, str) or not ident:
            raise Malformed("a skill has no id")
        tags = skill.get("tags") if isinstance(skill, dict) else None
        name = self._exchange.route.upstream
        described: dict[str, Json] = {"id": ident, "tags": tags if isinstance(tags, list) else []}
        context: dict[str, Json] = {"listing": True, "skill": ident}
        return Call("a2a.SendMessage", "agent", name, resource={"skill": described}, context=context)

    def _validated(self, body: bytes) -> bool:
        """Gives the card its ETag; True where the caller has just that one and needs no body."""
        if self._answer.status != 200:
            return False
        tag = b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'
        self._answer.headers.append((b"etag", tag))
        for value in self._exchange.head.values(b"if-none-match"):
            if any(item.strip().removeprefix(b"W/") in (tag, b"*") for item in value.split(b",")):
                self._answer.status = 304
                return True
        return False


def unstored(answer: UpstreamAnswer) -> None:
    answer.headers[:] = [item for item in answer.headers if item[0] not in (b"cache-control", b"expires", b"etag")]
    answer.headers.append((b"cache-control", b"private, no-store"))


def _withheld(text: str, rule: str) -> Withheld:
    return Withheld(Refusal(Reason.DESCRIPTOR_UNVERIFIED, text, rule=rule))


def _dump(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
