"""The list of models as this caller may see it: each item asked of the same policy as a call would be.

A model is shown where `llm.chat` or `llm.embeddings` on it is allowed with `context.listing`. The rule it keeps: what
is no list that can be read item by item is not shown at all; where nothing is hidden the bytes are the upstream's own.
"""

from __future__ import annotations

import json
from typing import Literal

from gateway.core.canonical import Json, parse_answer
from gateway.core.exchange import Call, Exchange
from gateway.core.ports import Ask
from gateway.core.reasons import Malformed

_ACTIONS = ("llm.chat", "llm.embeddings")


class ModelList:
    """The answer filter of GET /models, for both vendors' shapes."""

    __slots__ = ("_ask", "_exchange")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, ask: Ask) -> None:
        self._exchange = exchange
        self._ask = ask

    async def rewrite(self, body: bytes) -> bytes:
        document = parse_answer(body)
        items = document.get("data") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(items, list):
            raise Malformed("a list of models has no data")
        names = [_name(item) for item in items]
        questions = [_question(name, action) for name in names for action in _ACTIONS]
        decisions = await self._ask(questions) if questions else []
        allowed = [decision.allow is True and not decision.obligations for decision in decisions]
        per = len(_ACTIONS)
        shown = [item for place, item in enumerate(items) if any(allowed[place * per : (place + 1) * per])]
        self._exchange.filtered = (len(shown), len(items) - len(shown))
        if len(shown) == len(items):
            return body
        return json.dumps(_shortened(document, shown), separators=(",", ":")).encode()


def _shortened(document: dict[str, Json], shown: list[Json]) -> dict[str, Json]:
    """Anthropic's page bounds follow the items, but for the cursor of a page that has a next one."""
    document = {**document, "data": shown}
    if "first_id" in document:
        document["first_id"] = _name(shown[0]) if shown else None
    if "last_id" in document and document.get("has_more") is not True:
        document["last_id"] = _name(shown[-1]) if shown else None
    return document


def _name(item: Json) -> str:
    name = item.get("id") if isinstance(item, dict) else None
    if not isinstance(name, str):
        raise Malformed("a model without an id")
    return name


def _question(name: str, action: str) -> Call:
    return Call(action, "model", name, context={"listing": True, "api": "models"})
