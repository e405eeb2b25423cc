"""The counts of usage as the vendors name them, from one document or from the end of one that was too large to keep.

1. Counts are cumulative: the largest that was said counts, none is ever added up. 2. Input is all input, also what was
read from or written to a cache (Anthropic says those beside it, OpenAI within it); output is all output, also what is
not seen. Where a vendor's total is more than its two halves, the rest is output (some leave reasoning out of it).
3. A count that cannot be one (no whole number, negative, beyond any model) was not said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, TypeGuard

import orjson

from gateway.core.exchange import Usage

TAIL_BYTES = 16 * 1024
MOST_TOKENS = 10**12  # of one answer, a million times what any takes; a record has no number above 2^53-1

SAYS_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_COUNTS: Final = frozenset(
    {
        "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
        "cache_read_input_tokens", "cache_creation_input_tokens", "prompt_cache_hit_tokens",
    }
)  # fmt: skip
_PARTS: Final[Mapping[str, Mapping[str, str]]] = {
    name: {
        "cached_tokens": "cached", "cache_write_tokens": "cache_write",
        "image_tokens": "image", "audio_tokens": "audio",
    }
    for name in ("prompt_tokens_details", "input_tokens_details")
} | {
    name: {"reasoning_tokens": "reasoning", "image_tokens": "image_output", "audio_tokens": "audio_output"}
    for name in ("completion_tokens_details", "output_tokens_details")
} | {"cache_creation": {"ephemeral_1h_input_tokens": "cache_write_1h"}}  # fmt: skip
_TIER: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Tally:
    """The counts as they were last said."""

    __slots__ = ("_counts", "complete", "tier")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.complete = False  # whether a vendor said what it says at the end only
        self.tier = ""  # the service tier that it is billed at

    def load(self, data: bytes) -> None:
        """From one whole document; what the parser does not take (a lone surrogate) may still say its usage."""
        try:
            self.read(orjson.loads(data))
        except orjson.JSONDecodeError:
            self.search(data)

    def search(self, tail: bytes) -> bool:
        """From the end of a document of which the beginning is gone: whether usage was there."""
        found = _tail_usage(tail[-TAIL_BYTES:])
        if found is not None:
            self.take(found, final=True)
        return found is not None

    def read(self, document: object) -> None:
        """Takes the usage of a chat completion, chunk, response, response event, message or message event."""
        if not isinstance(document, dict):
            return
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                self._billed(holder.get("service_tier"))
                self.take(holder["usage"], final=_last(document))

    def take(self, usage: Mapping[str, object], *, final: bool) -> None:
        for name, value in usage.items():
            if name in _COUNTS:
                self._note(name, value)
            elif name in _PARTS:
                if isinstance(value, dict):
                    for part, ours in _PARTS[name].items():
                        self._note(ours, value.get(part))
            elif name == "service_tier":
                self._billed(value)
        self.complete = self.complete or final

    def put(self, usage: Usage) -> None:
        """The parts of input and output; the two themselves are for whoever knows what was not said."""
        counts = self._counts
        usage.cached_tokens = _first(counts, "cached", "cache_read_input_tokens", "prompt_cache_hit_tokens")
        usage.cache_write_tokens = _first(counts, "cache_write", "cache_creation_input_tokens")
        usage.cache_write_1h_tokens = counts.get("cache_write_1h")
        usage.reasoning_tokens = counts.get("reasoning")
        usage.image_tokens, usage.audio_tokens = counts.get("image"), counts.get("audio")
        usage.image_output_tokens, usage.audio_output_tokens = counts.get("image_output"), counts.get("audio_output")
        usage.tier = self.tier

    @property
    def input_tokens(self) -> int | None:
        counts = self._counts
        if "prompt_tokens" in counts:
            return counts["prompt_tokens"]
        if "input_tokens" not in counts:
            return None
        apart = counts.get("cache_read_input_tokens", 0) + counts.get("cache_creation_input_tokens", 0)
        return counts["input_tokens"] + apart

    @property
    def output_tokens(self) -> int | None:
        counts, asked = self._counts, self.input_tokens
        found = _first(counts, "completion_tokens", "output_tokens")
        if found is None or asked is None:
            return found
        return max(found, counts.get("total_tokens", 0) - asked)  # 2

    def _note(self, name: str, value: object) -> None:
        if _is_count(value):
            self._counts[name] = max(value, self._counts.get(name, 0))

    def _billed(self, tier: object) -> None:
        if isinstance(tier, str) and _TIER.fullmatch(tier) is not None:
            self.tier = tier


def _first(counts: Mapping[str, int], *names: str) -> int | None:
    for name in names:
        if name in counts:
            return counts[name]
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_TOKENS


def _last(document: Mapping[str, object]) -> bool:
    """Whether what a document says of usage is final: some events say how things stand before the end."""
    kind = document.get("type")
    if kind == "message_start":
        return False
    if kind == "message_delta":
        delta = document.get("delta")
        return isinstance(delta, dict) and delta.get("stop_reason") is not None
    if document.get("object") == "chat.completion.chunk":
        choices = document.get("choices")
        if isinstance(choices, list) and choices:
            return any(isinstance(choice, dict) and choice.get("finish_reason") is not None for choice in choices)
    return True


def _tail_usage(tail: bytes) -> dict[str, object] | None:
    """The last `"usage": {...}` of a cut document. In JSON text a quote is escaped, so no text of a model can look like
    that; a tool's own input can, but the vendors say usage after it."""
    last = None
    for last in SAYS_USAGE.finditer(tail):  # noqa: B007 (the last one is wanted)
        pass
    if last is None:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(tail[last.end() - 1 :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
