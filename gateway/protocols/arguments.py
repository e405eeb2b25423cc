"""What policy sets in a request's body: the arguments it saw, at the place where the protocol has them.

The rule it keeps: only the arguments are touched, never what says which call it is; the stage that asks for it has the
result classified again. What is not touched keeps its bytes (core/merging.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.canonical import Json
from gateway.core.exchange import Exchange
from gateway.core.merging import merged, nested
from gateway.core.obligations import Duties
from gateway.core.reasons import Malformed, Reason, Refusal


def set_arguments(
    exchange: Exchange, duties: Duties, at: tuple[str, ...] = (), *, kept: str = ""
) -> bytes | Refusal | None:
    """The body with the arguments merged in below `at`. `kept` is a member there that is no argument."""
    if duties.arguments is None:
        return None
    for name in duties.arguments:
        if kept and name.casefold() == kept:
            return refused(f"{name[:40]} is not among the arguments")
    return into(exchange, nested(at, duties.arguments))


def into(exchange: Exchange, patch: Mapping[str, Json]) -> bytes | Refusal:
    if not exchange.body:
        return refused("this request has no body that was judged")
    try:
        return merged(exchange.body, patch)
    except Malformed as error:
        return refused(str(error))


def refused(why: str) -> Refusal:
    return Refusal(Reason.DENIED, f"The policy sets arguments that this request cannot have: {why}", rule="obligation")
