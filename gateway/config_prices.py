"""The price list: a file of its own (`prices:` names it), read as strictly as the configuration.

1. Prices are decimal numbers, read from their very digits: no float is ever made of one. Tokens are priced by the
   million, with at most six digits behind the point; calls with at most twelve. What is finer than that is an error.
2. Every row says what it costs: a price that is left out is never nothing, `free` lists what costs nothing.
3. Rows of one pattern and upstream must not be in force at the same time; levels ascend.
The types here are the file's; ledger/prices.py has those that are reckoned with.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gateway import config_values as values
from gateway.config_schema import BROKEN, Choice, ListOf, MapOf, Of, Reading, Text, Whole, option
from gateway.config_yaml import ConfigError, Node, Problem, read_text
from gateway.core.canonical import Json

_NUMBER: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Dollars:
    """A decimal number of dollars with at most `digits` behind the point; read as a whole number of 10^-`digits`."""

    digits: int

    def read(self, node: Node, key: str, at: Reading) -> Any:
        plain = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        text = node.raw if plain else node.value
        found = _NUMBER.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return at.fail(node, key, "not a decimal number of dollars", "write it like 0.15, without an exponent")
        if len((found[2] or "").rstrip("0")) > self.digits:
            return at.fail(node, key, f"more than {self.digits} digits behind the point")
        return int(Decimal(found[0]).scaleb(self.digits))

    def schema(self) -> dict[str, Json]:
        return {"type": ["number", "string"], "minimum": 0, "pattern": r"^[0-9]{1,9}(\.[0-9]+)?$"}


@dataclass(frozen=True, slots=True)
class Reasoning:
    """`true`: there is output that is not seen, at the price of output; a price: at that."""

    price: Dollars

    def read(self, node: Node, key: str, at: Reading) -> Any:
        return True if node.value is True else False if node.value is False else self.price.read(node, key, at)

    def schema(self) -> dict[str, Json]:
        return {"anyOf": [{"type": "boolean"}, self.price.schema()]}


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ValueError("not a day") from None


_TOKENS = Dollars(6)
_CALL = Dollars(12)
_DAY = Text("a day like 2026-01-31", r"\d{4}-\d{2}-\d{2}", _day)
_PATTERN = Text("a name, in which * stands for anything", r"[^\x00-\x1f]{1,256}")
_UPSTREAM = Text("the name of an upstream", values.UPSTREAM_NAME)
_TIER = r"[a-z0-9][a-z0-9_-]{0,31}"


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a whole call whose input is longer; dollars for a million tokens, read as 10^-12 dollars for one."""

    above: int = option(Whole(1, 10**9), why="for calls of more input tokens than this: all of the call", shown="")
    input: int = option(_TOKENS, why="of input")
    output: int = option(_TOKENS, why="of output")
    cached: int | None = option(_TOKENS, None, "read from a cache; default as input")
    cache_write: int | None = option(_TOKENS, None, "written to one; default as input")
    cache_write_1h: int | None = option(_TOKENS, None, "written to one for an hour; default as cache_write")
    reasoning: int | None = option(_TOKENS, None, "of reasoning; default as output")
    image: int | None = option(_TOKENS, None, "of pictures in the input; default as input")
    image_output: int | None = option(_TOKENS, None, "of pictures in the output; default as output")
    audio: int | None = option(_TOKENS, None, "of sound in the input; default as input")
    audio_output: int | None = option(_TOKENS, None, "of sound in the output; default as output")


@dataclass(frozen=True, slots=True)
class Service:
    """The same for a service tier, as the vendor names it."""

    input: int = option(_TOKENS, why="of input")
    output: int = option(_TOKENS, why="of output")
    cached: int | None = option(_TOKENS, None, "read from a cache; default as input")
    cache_write: int | None = option(_TOKENS, None, "written to one; default as input")
    cache_write_1h: int | None = option(_TOKENS, None, "written to one for an hour; default as cache_write")
    reasoning: int | None = option(_TOKENS, None, "of reasoning; default as output")
    image: int | None = option(_TOKENS, None, "of pictures in the input; default as input")
    image_output: int | None = option(_TOKENS, None, "of pictures in the output; default as output")
    audio: int | None = option(_TOKENS, None, "of sound in the input; default as input")
    audio_output: int | None = option(_TOKENS, None, "of sound in the output; default as output")
    tiers: tuple[Tier, ...] = option(ListOf(Of(Tier)), (), "its prices of long calls")


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """A model, or all whose name fits. Token prices are dollars for a million."""

    model: str = option(_PATTERN, why="its name as callers write it, * for anything")
    upstream: str = option(_UPSTREAM, "", "only there; default everywhere")
    valid_from: date | None = option(_DAY, None, "the first day of this price, UTC")
    valid_until: date | None = option(_DAY, None, "its last day")
    input: int = option(_TOKENS, why="of input")
    output: int = option(_TOKENS, why="of output; 0 for embeddings")
    cached: int | None = option(_TOKENS, None, "read from a cache; default as input")
    cache_write: int | None = option(_TOKENS, None, "written to one; default as input")
    cache_write_1h: int | None = option(_TOKENS, None, "written to one for an hour; default as cache_write")
    reasoning: int | bool = option(Reasoning(_TOKENS), False, "true, or its price: output that nobody sees is paid for")
    image: int | None = option(_TOKENS, None, "of pictures in the input; default as input")
    image_output: int | None = option(_TOKENS, None, "of pictures in the output; default as output")
    audio: int | None = option(_TOKENS, None, "of sound in the input; default as input")
    audio_output: int | None = option(_TOKENS, None, "of sound in the output; default as output")
    per_call: int = option(_CALL, 0, "dollars of each call besides")
    tiers: tuple[Tier, ...] = option(ListOf(Of(Tier)), (), "other prices for long calls")
    services: Mapping[str, Service] = option(
        MapOf(Of(Service), _TIER, "the tier as requests and answers name it"), {}, "other prices for service tiers"
    )
    default_service: str = option(Text("the name of a tier", _TIER), "", "which one a call is of that names none")
    max_input_tokens: int | None = option(Whole(1, 10**9), None, "its window: what a call may read that only names it")
    max_output_tokens: int | None = option(Whole(1, 10**9), None, "what one answer has at most")
    bytes_per_token: int = option(Whole(1, 16), 3, "of a request, to estimate its input")
    image_tokens: int = option(Whole(0, 10**6), 4096, "of one picture, to estimate its input")


@dataclass(frozen=True, slots=True)
class ToolPrice:
    """A tool, prompt or resource of MCP, by its id in records."""

    tool: str = option(_PATTERN, why="its id as records have it, like weather/get_forecast; * for anything")
    upstream: str = option(_UPSTREAM, "", "only there; default everywhere")
    valid_from: date | None = option(_DAY, None, "the first day of this price, UTC")
    valid_until: date | None = option(_DAY, None, "its last day")
    per_call: int = option(_CALL, why="dollars of each call")
    reported_up_to: int | None = option(_CALL, None, "what its answer says it cost counts instead, up to this")


@dataclass(frozen=True, slots=True)
class AgentPrice:
    """An A2A agent: a message to it."""

    agent: str = option(_PATTERN, why="the name of its upstream; * for anything")
    valid_from: date | None = option(_DAY, None, "the first day of this price, UTC")
    valid_until: date | None = option(_DAY, None, "its last day")
    per_call: int = option(_CALL, why="dollars of each message")
    reported_up_to: int | None = option(_CALL, None, "what its answer says it cost counts instead, up to this")


@dataclass(frozen=True, slots=True)
class HttpPrice:
    """A path, without its query; of a WebSocket that is judged, each message."""

    path: str = option(_PATTERN, why="as records have it; * for anything")
    upstream: str = option(_UPSTREAM, "", "only there; default everywhere")
    valid_from: date | None = option(_DAY, None, "the first day of this price, UTC")
    valid_until: date | None = option(_DAY, None, "its last day")
    per_call: int = option(_CALL, why="dollars of each call")


@dataclass(frozen=True, slots=True)
class FreeOfCharge:
    """What costs nothing. It has to be said: what is not listed has no price."""

    models: tuple[str, ...] = option(ListOf(_PATTERN), (), "names of models")
    tools: tuple[str, ...] = option(ListOf(_PATTERN), (), "ids of tools, prompts and resources")
    agents: tuple[str, ...] = option(ListOf(_PATTERN), (), "names of upstreams")
    http: tuple[str, ...] = option(ListOf(_PATTERN), (), "paths")


@dataclass(frozen=True, slots=True)
class PriceList:
    currency: str = option(Choice(("usd",)), why="of all prices")
    note: str = option(Text("a text"), "", "where the numbers are from")
    models: tuple[ModelPrice, ...] = option(ListOf(Of(ModelPrice)), (), "models, by tokens")
    tools: tuple[ToolPrice, ...] = option(ListOf(Of(ToolPrice)), (), "tools, prompts and resources, by call")
    agents: tuple[AgentPrice, ...] = option(ListOf(Of(AgentPrice)), (), "agents, by message")
    http: tuple[HttpPrice, ...] = option(ListOf(Of(HttpPrice)), (), "other calls")
    free: FreeOfCharge = option(Of(FreeOfCharge), FreeOfCharge(), "what costs nothing")


def read_prices(data: bytes, source: str) -> PriceList:
    """The checked list. Raises ConfigError with everything that is wrong."""
    problems: list[Problem] = []
    root = read_text(data.decode("utf-8", "replace").removeprefix("\ufeff"), source, problems)
    if root is None:
        raise ConfigError(problems)
    reading = Reading({}, problems, secrets=False)
    found = Of(PriceList).read(root, "", reading)
    if problems or found is BROKEN or not isinstance(found, PriceList):
        raise ConfigError(problems)
    _check(found, reading)
    if problems:
        raise ConfigError(problems)
    return found


def prices_schema() -> dict[str, Json]:
    """JSON Schema 2020-12 of the file."""
    head: dict[str, Json] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tollgate price list"}
    return head | Of(PriceList).schema()


def seconds(day: date | None, *, last: bool = False) -> int:
    """Epoch seconds of a day's beginning, or (`last`) of its end; 0 for none."""
    if day is None:
        return 0
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1 if last else 0)
    return int(begins.timestamp())


def _check(found: PriceList, at: Reading) -> None:
    for place, row in enumerate(found.models):
        key = f"models[{place}]"
        _ascending(f"{key}.tiers", row.tiers, at)
        for name, service in row.services.items():
            _ascending(f"{key}.services.{name}.tiers", service.tiers, at)
        if row.default_service and row.default_service not in row.services:
            at.at(f"{key}.default_service", "no service tier has that name", "write its prices under services")
    _apart("models", [(row.model, row.upstream, row.valid_from, row.valid_until) for row in found.models], at)
    _apart("tools", [(row.tool, row.upstream, row.valid_from, row.valid_until) for row in found.tools], at)
    _apart("agents", [(row.agent, "", row.valid_from, row.valid_until) for row in found.agents], at)
    _apart("http", [(row.path, row.upstream, row.valid_from, row.valid_until) for row in found.http], at)
    priced = {
        "models": {row.model for row in found.models if not row.upstream},
        "tools": {row.tool for row in found.tools if not row.upstream},
        "agents": {row.agent for row in found.agents},
        "http": {row.path for row in found.http if not row.upstream},
    }
    for kind, names in priced.items():
        for name in getattr(found.free, kind):
            if name in names:  # 3
                at.at(f"free.{kind}", f"{name} has a price as well", "keep one of the two")


def _ascending(key: str, tiers: Iterable[Tier], at: Reading) -> None:
    bounds = [tier.above for tier in tiers]
    if sorted(set(bounds)) != bounds:  # 3
        at.at(key, "above does not ascend", "write them in the order of above, each once")


_Span = tuple[str, str, "date | None", "date | None"]


def _apart(kind: str, rows: list[_Span], at: Reading) -> None:
    """Rule 3: no two prices for the same thing on the same day."""
    for place, (name, upstream, begins, ends) in enumerate(rows):
        if begins is not None and ends is not None and ends < begins:
            at.at(f"{kind}[{place}].valid_until", "before valid_from", "turn them round")
        for other, (known, where, first, last) in enumerate(rows[:place]):
            if (known, where) != (name, upstream):
                continue
            if (begins or date.min) <= (last or date.max) and (first or date.min) <= (ends or date.max):
                what = f"{name} has a price for the same days in {kind}[{other}]"
                at.at(f"{kind}[{place}]", what, "let one end (valid_until) before the next begins")


__all__ = [
    "AgentPrice",
    "FreeOfCharge",
    "HttpPrice",
    "ModelPrice",
    "PriceList",
    "Service",
    "Tier",
    "ToolPrice",
    "prices_schema",
    "read_prices",
    "seconds",
]
