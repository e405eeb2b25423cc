"""How many tokens a model may generate, as policy bounds it: lowered where the caller wants more, set where it says
nothing, never raised.

The rule it keeps: every member that some server takes for the bound is lowered, and a spelling that only a careless
reader would take for one is refused. It must never guess what a bound of another type would mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.canonical import Json
from gateway.core.exchange import Exchange
from gateway.core.obligations import Duties
from gateway.core.reasons import Refusal
from gateway.protocols.arguments import into, refused

_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What counts for an API; the first is what is set where none of them is there.
_OF_API: Mapping[str, tuple[str, ...]] = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}


def rewrite(exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
    """The body of a model's request with its arguments and its bound. One that names another model is another call."""
    patch: dict[str, Json] = dict(duties.arguments or {})
    if duties.max_tokens is not None:
        bounds = _bounds(exchange, patch, duties.max_tokens)
        if isinstance(bounds, Refusal):
            return bounds
        patch.update(bounds)
    return into(exchange, patch) if patch else None


def _bounds(exchange: Exchange, patch: Mapping[str, Json], most: int) -> dict[str, Json] | Refusal:
    """The bounds to be set. What generates nothing (embeddings, counts, lists) is within any bound."""
    api = exchange.call.context.get("api")
    names = _OF_API.get(api) if isinstance(api, str) else None
    if names is None:
        return {}
    arguments = exchange.call.arguments
    wanted: dict[str, Json] = {**arguments, **patch} if isinstance(arguments, dict) else dict(patch)
    found: dict[str, Json] = {}
    for name, value in wanted.items():
        if name.casefold() not in _BOUNDS:
            continue
        if name not in _BOUNDS:
            return refused(f"{name[:40]!r} is a careless spelling of a bound on tokens")
        if value is not None:
            if type(value) is not int or value < 0:
                return refused(f"{name} is not a whole number")
            if value > most:
                found[name] = most
    if all(wanted.get(name) is None for name in names):
        found[names[0]] = most
    return found
