"""Prices where there is no price list: none. What a call may take in tokens is known without one.

The bound on a model's input is one token for each `BYTES_PER_TOKEN` bytes of the request, rounded up; on its output
what the caller asks for at most, in whatever spelling, else `MOST_OUTPUT`, for each of the answers that it wants.
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import Worst
from gateway.core.canonical import Json
from gateway.core.exchange import Exchange

BYTES_PER_TOKEN: Final = 3
MOST_OUTPUT: Final = 16_384
_BOUNDS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class Free:
    """Nothing has a price."""

    listed: Final = False

    def worst(self, exchange: Exchange, output: int = 0) -> Worst:
        call = exchange.call
        if not call.action.startswith("llm."):
            return Worst(usd=None, tokens=0)
        body = call.body if call.body is not None else exchange.body
        tokens = -(-len(body or b"") // BYTES_PER_TOKEN)
        if call.action == "llm.embeddings":
            return Worst(usd=None, tokens=tokens)
        asked: dict[str, Json] = call.arguments if isinstance(call.arguments, dict) else {}
        bounds = [found for name in _BOUNDS if (found := _count(asked.get(name))) is not None]
        choices = max(1, _count(asked.get("n")) or 1)
        return Worst(usd=None, tokens=tokens + choices * max(bounds, default=MOST_OUTPUT), assumed=not bounds)

    def cost(self, exchange: Exchange) -> int | None:
        return None


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
