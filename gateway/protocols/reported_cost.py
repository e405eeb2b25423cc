"""What an answer itself says it cost: `"tollgate/cost": {"usd": "0.12"}` in the `_meta` of an MCP result, or in the
`metadata` of what an A2A agent answers with (a message, a task).

1. Only the answer to the call counts (its JSON-RPC id), and only at that place: a tool may show what others wrote.
2. The amount is a decimal string of dollars, not negative; anything else was not said. 3. Of several, the largest.
4. An answer too large to keep, or in a coding, is not read: its usage is marked estimated, the price list's cap counts.
Nothing is held back, and only what has the word in it is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from gateway.core.accounts import amount
from gateway.core.canonical import Json
from gateway.core.exchange import Exchange, Usage
from gateway.core.ports import UpstreamAnswer, UsageReader
from gateway.core.reasons import Malformed
from gateway.core.sse import Scanner

KEY: Final = "tollgate/cost"
KEPT_BYTES = 1024 * 1024  # of an event or a document

_WRAPPED: Final = ("task", "message", "statusUpdate")
_WORD: Final = (b"tollgate/cost", b"tollgate\\/cost", b"\\u00")  # as it is, or as some writers escape it


def reported(exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
    """The reader for an answer whose word on its cost counts by the price list; None for all others."""
    if not 200 <= answer.status < 300 or not exchange.snapshot.prices.reads(exchange):
        return None
    kind, coded = b"", False
    for name, value in answer.headers:
        if name == b"content-type":
            kind = value.lower()
        elif name == b"content-encoding":
            coded = value.strip().lower() not in (b"", b"identity")
    call = exchange.call
    tool = call.action.startswith("mcp.")
    member = "_meta" if tool else "metadata"
    return ReportedCost(call.message_id, member, tool or call.era == "JSONRPC", b"text/event-stream" in kind, coded)


class ReportedCost:
    """Reads one answer, a document or a stream of events. `member` holds the word, `enveloped`: in JSON-RPC."""

    __slots__ = ("_enveloped", "_found", "_ident", "_kept", "_lost", "_member", "_scanner")

    def __init__(self, ident: Json, member: str, enveloped: bool, events: bool, coded: bool) -> None:
        self._ident = ident
        self._enveloped = enveloped
        self._member = member
        self._found: int | None = None
        self._lost = coded  # 4
        self._scanner = Scanner(KEPT_BYTES) if events else None
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> None:
        if self._lost:
            return
        if self._scanner is None:
            self._kept += chunk
            if len(self._kept) > KEPT_BYTES:
                self._lost = True
                self._kept.clear()
            return
        try:
            for event in self._scanner.feed(chunk):
                if len(event.raw) > KEPT_BYTES:
                    self._lost = True
                elif event.data is not None:
                    self._document(event.data)
        except Malformed:
            self._lost = True

    def seen(self) -> int:
        return 0

    def finish(self, usage: Usage) -> None:
        if self._scanner is not None and not self._lost and self._scanner.rest:
            self.feed(b"\n\n")
        elif self._kept:
            self._document(bytes(self._kept))
        usage.reported = self._found
        if self._lost:
            usage.estimated = True

    def _document(self, data: bytes) -> None:
        if not any(data.find(word) >= 0 for word in _WORD):
            return
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(found, dict):
            return
        if not self._enveloped:
            self._result(found)
        elif found.get("id") == self._ident and type(found.get("id")) is type(self._ident):
            self._result(found.get("result"))

    def _result(self, result: object) -> None:
        if not isinstance(result, dict):
            return
        holders = [result]
        if self._member == "metadata":  # A2A wraps what it answers with (1.0), or does not (0.3)
            holders += [found for name in _WRAPPED if isinstance(found := result.get(name), dict)]
        for holder in holders:
            self._note(holder.get(self._member))

    def _note(self, meta: object) -> None:
        cost = meta.get(KEY) if isinstance(meta, Mapping) else None
        usd = cost.get("usd") if isinstance(cost, Mapping) else None
        if not isinstance(usd, str):
            return
        try:
            found = amount(usd, "usd")
        except ValueError:
            return  # 2
        self._found = max(found, self._found or 0)
