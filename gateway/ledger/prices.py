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

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.accounts import MOST, STEP_TOKENS, Worst
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange, Usage
from gateway.core.records import second
from gateway.core.settlement import charged
from gateway.ledger.estimates import Reach, input_tokens, output_tokens, sent_bytes

KNOWN_NAMES: Final = 4096  # that are remembered: callers may make up names of models

_PICO: Final = 1_000_000  # of a micro-dollar
_PLAIN_TIERS: Final = frozenset({"default", "standard", "standard_only"})
_NOTHING: Final = Worst(0, 0)


_KINDS: Final = (
    "input", "output", "cached", "cache_write", "cache_write_1h", "reasoning", "image", "image_output", "audio",
    "audio_output",
)  # fmt: skip


class Rates:
    """Prices of one token, in 10^-12 dollars."""

    __slots__ = (
        "_into", "_out", "audio", "audio_output", "cache_write", "cache_write_1h", "cached", "image", "image_output",
        "input", "output", "reasoning",
    )  # fmt: skip

    def __init__(
        self,
        input: int,
        output: int,
        *,
        cached: int | None = None,
        cache_write: int | None = None,
        cache_write_1h: int | None = None,
        reasoning: int | None = None,
        image: int | None = None,
        image_output: int | None = None,
        audio: int | None = None,
        audio_output: int | None = None,
    ) -> None:
        self.input: Final = input
        self.output: Final = output
        self.cached: Final = input if cached is None else cached
        self.cache_write: Final = input if cache_write is None else cache_write
        self.cache_write_1h: Final = self.cache_write if cache_write_1h is None else cache_write_1h
        self.reasoning: Final = output if reasoning is None else reasoning
        self.image: Final = input if image is None else image
        self.image_output: Final = output if image_output is None else image_output
        self.audio: Final = input if audio is None else audio
        self.audio_output: Final = output if audio_output is None else audio_output
        self._into: Final = max(input, self.cached)  # the dearest that tokens of text can be
        self._out: Final = max(output, self.reasoning)

    def of(self, usage: Usage) -> int:
        """Rule 4, in 10^-12 dollars."""
        write, long = usage.cache_write_tokens or 0, usage.cache_write_1h_tokens or 0
        cached, image, audio = usage.cached_tokens or 0, usage.image_tokens or 0, usage.audio_tokens or 0
        reasoning, drawn = usage.reasoning_tokens or 0, usage.image_output_tokens or 0
        spoken = usage.audio_output_tokens or 0
        long = min(long, write)
        read = max(0, (usage.input_tokens or 0) - cached - write - image - audio)
        said = max(0, (usage.output_tokens or 0) - reasoning - drawn - spoken)
        found = read * self.input + cached * self.cached + image * self.image + audio * self.audio
        found += (write - long) * self.cache_write + long * self.cache_write_1h
        found += said * self.output + reasoning * self.reasoning
        return found + drawn * self.image_output + spoken * self.audio_output

    def dearest(self, body: bytes, vendor: str) -> tuple[int, int]:
        """The dearest that a token of input and one of output can be in a call of this body."""
        into, out = self._into, self._out
        if (self.cache_write > into or self.cache_write_1h > into) and (
            vendor != "anthropic" or body.find(b"cache_control") >= 0  # others write to their caches unasked
        ):
            into = max(into, self.cache_write)
            if self.cache_write_1h > into and body.find(b'"1h"') >= 0:
                into = self.cache_write_1h
        if (self.image > into or self.image_output > out) and body.find(b"image") >= 0:
            into, out = max(into, self.image), max(out, self.image_output)
        if (self.audio > into or self.audio_output > out) and body.find(b"audio") >= 0:
            into, out = max(into, self.audio), max(out, self.audio_output)
        return into, out


class Level:
    """The rates of a whole call whose input is more than `above` tokens."""

    __slots__ = ("above", "rates")

    def __init__(self, above: int, rates: Rates) -> None:
        self.above: Final = above
        self.rates: Final = rates


class Row:
    """One row of the price list. `kind`: models, tools, agents, http. `begins` and `ends` are epoch seconds, 0 for
    none. `levels` by `above`, the first of them 0; () for what costs `per_call` alone (10^-12 dollars). `services` are
    the levels of service tiers; `assumed` the one that is meant where a caller names none. `hidden`: not all of the
    output is seen. `reported`: what the answer itself says it cost counts up to this, None: not at all. `call` is what
    one that costs no tokens may come to; `fixed`: each comes to just that."""

    __slots__ = (
        "assumed", "begins", "call", "ends", "fixed", "hidden", "kind", "levels", "pattern", "per_call", "reach",
        "reported", "services", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        pattern: str,
        *,
        upstream: str = "",
        begins: int = 0,
        ends: int = 0,
        levels: Sequence[Level] = (),
        services: Mapping[str, Sequence[Level]] | None = None,
        assumed: str = "",
        per_call: int = 0,
        reach: Reach | None = None,
        hidden: bool = False,
        reported: int | None = None,
    ) -> None:
        self.kind: Final = kind
        self.pattern: Final = pattern
        self.upstream: Final = upstream
        self.begins: Final = begins
        self.ends: Final = ends
        self.levels: Final = levels
        self.services: Final[Mapping[str, Sequence[Level]]] = services or {}
        self.assumed: Final = assumed
        self.per_call: Final = per_call
        self.reach: Final = reach or _UNSAID
        self.hidden: Final = hidden
        self.reported: Final = reported
        self.fixed: Final = reported is None and not levels and kind != "models"
        self.call: Final = Worst(_micro(max(per_call, reported or 0)), 0, fixed=self.fixed)

    def in_force(self, time: float) -> bool:
        return self.begins <= time and (not self.ends or time < self.ends)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Rule 2."""
        literal = self.pattern.replace("*", "")
        return bool(self.upstream), "*" not in self.pattern, len(literal)

    def matches(self, upstream: str, name: str) -> bool:
        if self.upstream and self.upstream != upstream:
            return False
        if "*" not in self.pattern:
            return self.pattern == name
        parts = [re.escape(part) for part in self.pattern.split("*")]
        return re.fullmatch(".*".join(parts), name, re.DOTALL) is not None


_UNSAID: Final = Reach()


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
            reach = row.reach if row is not None else _UNSAID
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
            return _micro(_fixed(row, usage))
        if usage.input_tokens is None and usage.output_tokens is None:
            return 0  # an error that says nothing of usage
        asked = usage.input_tokens or 0
        return _micro(row.per_call + max(_at(levels, asked).of(usage) for levels in _billed(row, call, usage.tier)))

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


def _micro(pico: int) -> int:
    return min(-(-pico // _PICO), MOST)


def _fixed(row: Row, usage: Usage) -> int:
    """What the answer said counts up to the row's cap; of one that could not be read the cap itself."""
    if row.reported is None:
        return row.per_call
    if usage.reported is not None:
        return min(usage.reported * _PICO, row.reported)
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
        return _micro(row.per_call)
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
    return _micro(row.per_call + found)


def _billed(row: Row, call: Call, told: str) -> Sequence[Sequence[Level]]:
    """The levels that the vendor billed by; of a tier that nobody has a price for all there are, the dearest counts."""
    if told in _PLAIN_TIERS:
        return (row.levels,)
    tier = told if told not in ("", "auto") else _wanted(row, call)
    if not tier:
        return (row.levels,)
    found = row.services.get(tier)
    return (found,) if found is not None else (row.levels, *row.services.values())


def document(row: Row) -> dict[str, Json]:
    """A row as it is written, with what its defaults come to."""
    found: dict[str, Json] = {"kind": row.kind, "pattern": row.pattern}
    if row.upstream:
        found["upstream"] = row.upstream
    if row.begins:
        found["valid_from"] = second(row.begins)[:10]
    if row.ends:
        found["valid_until"] = second(row.ends - 1)[:10]
    if row.levels:
        found |= _levels(row.levels)
        found["reasoning_hidden"] = row.hidden
        found["services"] = {name: _levels(levels) for name, levels in row.services.items()}
    if row.per_call or not row.levels:
        found["per_call"] = _decimal(row.per_call, 12)
    if row.reported is not None:
        found["reported_up_to"] = _decimal(row.reported, 12)
    for name, bound in (("max_input_tokens", row.reach.max_input), ("max_output_tokens", row.reach.max_output)):
        if bound is not None:
            found[name] = bound
    return found


def _levels(levels: Sequence[Level]) -> dict[str, Json]:
    plain, *others = levels
    found: dict[str, Json] = {name: _decimal(getattr(plain.rates, name), 6) for name in _KINDS}
    if others:
        found["tiers"] = [{"above": level.above} | _levels([Level(0, level.rates)]) for level in others]
    return found


def _decimal(value: int, digits: int) -> str:
    whole, part = divmod(value, 10**digits)
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".")
