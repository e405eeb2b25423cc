"""What calls cost: one immutable revision of the price list, asked before a call and after it.

1. Prices are whole numbers: micro-dollars of a million tokens, which is 10^-12 dollars of one. All of a call is summed
   up exactly and rounded up to a micro-dollar once, at the very end.
2. The most specific pattern decides alone: one that names the upstream before one that does not, an exact name before a
   wildcard, the longer wildcard before the shorter. Where none of its rows is in force at the call's time, there is no
   price: what has run out is not replaced by something more general.
3. A call's input decides its level (`above`) for the whole of it. Which level and service tier it will be billed at is
   not known before: the worst that can be reached is reserved, never less than the plain price. A service tier without
   a price has none.
4. Settled is by what the vendor said: its tier, its counts. Tokens that are part of others (cached, written to a cache,
   reasoning, pictures, sound) are taken out of those and priced apart, without a price of their own as what they are
   part of.
It must never answer 0 for what it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.accounts import MOST, STEP_TOKENS, Worst
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange, Usage
from gateway.core.settlement import charged
from gateway.ledger.estimates import input_tokens, output_tokens, sent_bytes
from gateway.ledger.price_rows import PICO, UNSAID, Level, Rates, Row, document, micro

KNOWN_NAMES: Final = 4096  # that are remembered: callers may make up names of models

_PLAIN_TIERS: Final = frozenset({"default", "standard", "standard_only"})
_NOTHING: Final = Worst(0, 0)


class _Looked:
    """Which rows are for the calls of a resource, as they were made last."""

    __slots__ = ("action", "always", "charged", "rows", "upstream")

    def __init__(self, action: str, upstream: str, rows: Sequence[Row]) -> None:
        self.action: Final = action
        self.charged: Final = charged(action)
        self.always: Final = _always(list(rows))
        self.upstream: Final = upstream
        self.rows: Final = list(rows)


class PriceTable:
    """The price list in force; implements core.ledger.Pricing. Without rows nothing has a price, and tokens are
    estimated as ever. `revision` names what it was read from."""

    __slots__ = ("_known", "_last", "listed", "revision", "rows")

    def __init__(self, rows: Sequence[Row] = (), revision: str = "") -> None:
        self.rows: Final = tuple(rows)
        self.listed: Final = bool(revision)
        self.revision: Final = revision
        self._known: dict[tuple[str, str, str], Sequence[Row]] = {}
        self._last: dict[str, _Looked] = {}  # by the resource's id

    def listing(self) -> list[Json]:
        return [document(row) for row in self.rows]

    def worst(self, exchange: Exchange, output: int = 0) -> Worst:
        call = exchange.call
        row = self.row(exchange, call)
        if row is not None and row.fixed and self._last[call.resource_id].charged:
            return row.call
        if not charged(call.action):
            return _NOTHING
        if not call.action.startswith("llm."):
            if row is None:
                return _UNPRICED
            return row.call
        body = sent_bytes(exchange)
        before = exchange.worst
        if before is not None:
            asked, most = before.input, before.output
            stepwise, assumed, hidden = before.stepwise, before.assumed, before.hidden
        else:
            reach = row.reach if row is not None else UNSAID
            asked = input_tokens(call, body, reach)
            bound, told, kept = output_tokens(call, reach)
            hidden = row is not None and (row.hidden or _thinks(call))
            stepwise = row is not None and call.stream and not hidden and call.action == "llm.chat"
            assumed, most = not told, 0 if stepwise and not kept else bound
        reckoned = most
        if stepwise:
            reckoned = output + STEP_TOKENS if not most else min(output + STEP_TOKENS, most)
        usd = None if row is None else _worst_usd(row, call, exchange.upstream.protocol, body, asked, reckoned)
        return Worst(usd, min(asked + reckoned, MOST), stepwise, assumed, asked, most, hidden)

    def cost(self, exchange: Exchange) -> int | None:
        call, usage = exchange.call, exchange.usage
        if not charged(call.action):
            return 0
        row = self.row(exchange, call)
        if row is None:
            return None
        if not row.levels:
            return micro(_fixed(row, usage))
        if usage.input_tokens is None and usage.output_tokens is None:
            return 0  # an error that says nothing of usage
        asked = usage.input_tokens or 0
        return micro(row.per_call + max(_at(levels, asked).of(usage) for levels in _billed(row, call, usage.tier)))

    def reads(self, exchange: Exchange) -> bool:
        worst = exchange.worst
        if worst is not None and worst.fixed:
            return False
        call = exchange.call
        if not self.listed or not charged(call.action):
            return False
        row = self.row(exchange, call)
        return row is not None and row.reported is not None

    def row(self, exchange: Exchange, call: Call) -> Row | None:
        """The row in force for this call (2)."""
        if not self.rows:
            return None
        upstream, last = exchange.upstream.name, self._last.get(call.resource_id)
        if last is None or last.action != call.action or last.upstream != upstream:
            rows = self._best(_kind(call.action), upstream, call.resource_id)
            if len(self._last) >= KNOWN_NAMES:
                self._last.clear()
            last = self._last[call.resource_id] = _Looked(call.action, upstream, rows)
        if last.always is not None:
            return last.always
        for found in last.rows:
            if found.in_force(exchange.time):
                return found
        return None

    def _best(self, kind: str, upstream: str, name: str) -> Sequence[Row]:
        key = (kind, upstream, name)
        known = self._known.get(key)
        if known is None:
            matching = [row for row in self.rows if row.kind == kind and row.matches(upstream, name)]
            best = max((row.rank for row in matching), default=None)
            known = [row for row in matching if row.rank == best]
            known = [row for row in known if row.pattern == known[0].pattern]
            if len(self._known) >= KNOWN_NAMES:
                self._known.clear()
            self._known[key] = known
        return known


_UNPRICED: Final = Worst(None, 0)


def _always(rows: list[Row]) -> Row | None:
    """The row that is in force whenever it is asked for."""
    if len(rows) != 1:
        return None
    row = rows[0]
    return None if row.begins or row.ends else row


def _kind(action: str) -> str:
    if action.startswith("llm."):
        return "models"
    if action.startswith("mcp."):
        return "tools"
    return "agents" if action.startswith("a2a.") else "http"


def _fixed(row: Row, usage: Usage) -> int:
    """What the answer said counts up to the row's cap; of one that could not be read the cap itself."""
    if row.reported is None:
        return row.per_call
    if usage.reported is not None:
        return min(usage.reported * PICO, row.reported)
    return max(row.per_call, row.reported) if usage.estimated else row.per_call


def _at(levels: Sequence[Level], asked: int) -> Rates:
    found = levels[0].rates
    for level in levels:
        if asked > level.above:
            found = level.rates
    return found


def _wanted(row: Row, call: Call) -> str:
    """The service tier that the caller named, "" for the plain one."""
    arguments = call.arguments
    if not isinstance(arguments, dict):
        return row.assumed
    if arguments.get("speed") not in (None, "standard"):
        return str(arguments["speed"])
    tier = arguments.get("service_tier")
    if tier is None or tier == "auto":
        return row.assumed
    return "" if tier in _PLAIN_TIERS else str(tier)


def _thinks(call: Call) -> bool:
    """Whether Anthropic's models are asked to think first: of that a summary is shown, and all of it paid for."""
    arguments = call.arguments
    thinking = arguments.get("thinking") if isinstance(arguments, dict) else None
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _worst_usd(row: Row, call: Call, vendor: str, body: bytes, asked: int, output: int) -> int | None:
    """Rule 3."""
    if not row.levels:
        return micro(row.per_call)
    tier = _wanted(row, call)
    if tier and tier not in row.services:
        return None
    found = 0
    for levels in (row.levels, row.services[tier]) if tier else (row.levels,):
        for place, level in enumerate(levels):
            if place and asked <= level.above:
                break
            most = levels[place + 1].above if place + 1 < len(levels) else asked
            into, out = level.rates.dearest(body, vendor)
            found = max(found, min(asked, most) * into + output * out)
    return micro(row.per_call + found)


def _billed(row: Row, call: Call, told: str) -> Sequence[Sequence[Level]]:
    """The levels that the vendor billed by; of a tier that nobody has a price for all there are, the dearest counts."""
    if told in _PLAIN_TIERS:
        return (row.levels,)
    tier = told if told not in ("", "auto") else _wanted(row, call)
    if not tier:
        return (row.levels,)
    found = row.services.get(tier)
    return (found,) if found is not None else (row.levels, *row.services.values())
