"""The question of the Verify stage about agent cards: nothing is forwarded to an agent whose card must be verified and
is not.

With a verified card it looks at three attributes. It waits for the first fetch only; after that an agent whose card is
not verified is refused at once, whatever the reason, until it is (card_cache.py sees to that).
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.descriptors import AgentCards
from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Reason, Refusal


class CardCheck:
    """A DescriptorCheck."""

    def check(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        cards = exchange.snapshot.cards.get(exchange.upstream.name)
        if cards is None:
            return CONTINUE
        described = cards.described
        if described is not None:
            if exchange.descriptor is None:
                exchange.descriptor = {"agent": described}
            else:
                exchange.descriptor["agent"] = described
            exchange.item_digest = cards.digest
            return CONTINUE
        if not cards.required:
            return CONTINUE
        pending = cards.pending()
        return _refused(cards) if pending is None else self._later(exchange, cards, pending)

    async def _later(self, exchange: Exchange, cards: AgentCards, pending: Awaitable[None]) -> Verdict:
        await pending
        if cards.described is None:
            return _refused(cards)
        verdict = self.check(exchange)
        return await verdict if isinstance(verdict, Awaitable) else verdict


def _refused(cards: AgentCards) -> Refusal:
    """The caller learns that it is so; why is for the record and the registry."""
    return Refusal(Reason.DESCRIPTOR_UNVERIFIED, "The agent's card is not verified", rule=f"card: {cards.why}"[:500])
