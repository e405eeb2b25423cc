"""What a call came to, once it is over: the rules by which reservations are settled (docs/budgets.md tells them).

1. Never sent (refused later, not connected, its body spoiled): nothing.
2. Sent, and no head of an answer came: the whole reservation, marked estimated. Unknown is not free.
3. An upstream's error status without usage: one call and its bytes; no tokens, no money.
4. Answered, also in part: the usage as the upstream said it, else as it was seen, marked estimated. A model's answer of
   which nothing is known comes to what was reckoned with.
5. What policy charges is added to 2 and 4. It is the price where there is no other.
Lists, sessions, streams of events and pings are not charged; an open WebSocket for its bytes only: each judged message
is a call of its own.
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import Charge
from gateway.core.exchange import Call, Exchange

OPEN_SOCKET: Final = "ws.open"
_CHARGED: Final = frozenset(
    {
        "mcp.tools/call", "mcp.resources/read", "mcp.prompts/get", "a2a.SendMessage", "a2a.SendStreamingMessage",
        "llm.chat", "llm.embeddings", "ws.message",
    }
)  # fmt: skip


def charged(action: str) -> bool:
    """Whether such a call is counted as one, and has a price."""
    return action in _CHARGED or action.startswith("http.")


def price(exchange: Exchange) -> None:
    """Puts on the usage what has to be paid."""
    prices, usage = exchange.snapshot.prices, exchange.usage
    if not exchange.sent or not (prices.listed or exchange.charges):
        return
    call = exchange.asked
    if not isinstance(call, Call) or _failed(exchange):  # 3
        return
    usd: int | None = None
    worst = exchange.worst
    if worst is not None and worst.fixed:
        usd = worst.usd
        usage.estimated = usage.estimated or _silent(exchange)  # 2
    elif charged(call.action):
        if _silent(exchange):
            usage.estimated = True
            usd = (worst or prices.worst(exchange)).usd
        else:
            usd = prices.cost(exchange)
    fees = fee(exchange, "usd")
    if usd is not None or fees:
        usage.usd = (usd or 0) + fees  # 5


def settled(exchange: Exchange, charge: Charge) -> int:
    """What one charge came to; `price` was here before."""
    if not exchange.sent:
        return 0  # 1
    if _silent(exchange):
        exchange.usage.estimated = True
        return charge.reserved  # 2
    unit, usage = charge.budget.unit, exchange.usage
    if unit == "usd":
        return usage.usd or 0
    came = fee(exchange, unit) if exchange.fees and not _failed(exchange) else 0  # 5
    action = exchange.call.action
    if unit == "bytes":
        return came + (usage.bytes_in + usage.bytes_out if charged(action) or action == OPEN_SOCKET else 0)
    if unit == "calls":
        return came + (1 if charged(action) else 0)
    return came + (_tokens(exchange) if charged(action) and not _failed(exchange) else 0)


def fee(exchange: Exchange, unit: str) -> int:
    """What policy charges in this unit."""
    if not exchange.fees:
        return 0
    return sum([found.amount for found in exchange.fees if found.unit == unit])


def _tokens(exchange: Exchange) -> int:
    usage = exchange.usage
    if usage.input_tokens is not None or usage.output_tokens is not None:
        return (usage.input_tokens or 0) + (usage.output_tokens or 0)
    if exchange.call.metered and exchange.worst is not None and exchange.worst.tokens:
        usage.estimated = True
        return exchange.worst.tokens  # 4
    return 0


def _silent(exchange: Exchange) -> bool:
    return exchange.answer is None and exchange.socket is None and exchange.call.action != "ws.message"


def _failed(exchange: Exchange) -> bool:
    answer, usage = exchange.answer, exchange.usage
    if answer is None or answer.status < 400:
        return False
    return usage.estimated or (usage.input_tokens is None and usage.output_tokens is None)
