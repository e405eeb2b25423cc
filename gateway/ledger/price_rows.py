"""The rows of a price list: what a token, or a call, costs. Prices are whole numbers (prices.py, rule 1).

A row says for which calls it is, when it is in force, and what its defaults come to where somebody asks (`document`).
Which row counts for a call is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.accounts import MOST, Worst
from gateway.core.canonical import Json
from gateway.core.exchange import Usage
from gateway.core.records import second
from gateway.ledger.estimates import Reach

PICO: Final = 1_000_000  # of a micro-dollar

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
        self.reach: Final = reach or UNSAID
        self.hidden: Final = hidden
        self.reported: Final = reported
        self.fixed: Final = reported is None and not levels and kind != "models"
        self.call: Final = Worst(micro(max(per_call, reported or 0)), 0, fixed=self.fixed)

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


UNSAID: Final = Reach()


def micro(pico: int) -> int:
    """Rounded up."""
    return min(-(-pico // PICO), MOST)


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
