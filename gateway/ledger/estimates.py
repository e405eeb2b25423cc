"""What a call may use at most, told from its request alone, before anything is forwarded.

1. Input is the body's bytes by the price's `bytes_per_token`, rounded up. An inline picture counts as `image_tokens`,
   not by its bytes; token ids are counted one by one.
2. What the body only names (an earlier response, a conversation, a stored file, a tool that the vendor runs) brings
   input that nobody can see here: with such a reference it is the model's whole window, where the price list says it.
3. Output is the caller's bound in whatever spelling (of several the largest), never beyond the model's own; without
   one the model's own, else `MOST_OUTPUT_TOKENS`; that many for each choice that is asked for.
4. A bound of a type that servers read in two ways is none.
It errs upwards, and never looks at a word of what is asked beyond how long it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange

BYTES_PER_TOKEN: Final = 3
IMAGE_TOKENS: Final = 4096  # of one picture: what large ones come to with the usual vendors
MOST_OUTPUT_TOKENS: Final = 16_384  # where neither the caller nor the price list says
MOST_TOKENS: Final = 10**12

_BOUNDS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHOICES: Final = ("n", "best_of")
_NUMBER: Final = re.compile(r"\s*([0-9]{1,9})(\.[0-9]*)?\s*")
_PICTURES: Final = frozenset({"image", "image_url", "input_image"})
_FILES: Final = frozenset({"file", "input_file", "document", "container_upload", "item_reference"})
_INPUTS: Final = ("messages", "input", "system")
_DEPTH: Final = 8
_NAMED: Final = (
    "previous_response_id", "conversation", "prompt", "mcp_servers", "container", "web_search_options",
)  # fmt: skip
# Tools that run at the vendor's, whose results are input that is paid for.
_HOSTED: Final = ("web_search", "web_fetch", "file_search", "code_interpreter", "code_execution", "mcp", "tool_search")


def sent_bytes(exchange: Exchange) -> bytes:
    """The body that goes on; b"" where it is not read here."""
    call = exchange.call
    return (call.body if call.body is not None else exchange.body) or b""


class Reach:
    """What bounds one model's calls; the price list's words. None: it does not say."""

    __slots__ = ("bytes_per_token", "image_tokens", "max_input", "max_output")

    def __init__(
        self,
        max_input: int | None = None,
        max_output: int | None = None,
        bytes_per_token: int = BYTES_PER_TOKEN,
        image_tokens: int = IMAGE_TOKENS,
    ) -> None:
        self.max_input: Final = max_input
        self.max_output: Final = max_output
        self.bytes_per_token: Final = bytes_per_token
        self.image_tokens: Final = image_tokens


def input_tokens(call: Call, body: bytes, reach: Reach) -> int:
    """Rules 1 and 2."""
    arguments = call.arguments
    size, tokens = len(body), 0
    if not isinstance(arguments, dict):
        return -(-size // reach.bytes_per_token)
    shown = _Shown(arguments)
    if shown.pictures:
        size, tokens = max(0, size - shown.inline), shown.pictures * reach.image_tokens
    tokens += -(-size // reach.bytes_per_token)
    if call.action == "llm.embeddings":
        return max(tokens, _ids(arguments.get("input")))
    if reach.max_input is not None and tokens < reach.max_input and (shown.stored or _refers(arguments)):
        return reach.max_input
    return tokens


def output_tokens(call: Call, reach: Reach) -> tuple[int, bool, bool]:
    """Rules 3 and 4: the bound on all choices together, whether the caller said it, and whether anybody keeps it."""
    if call.action != "llm.chat":
        return 0, True, True
    arguments = call.arguments
    if not isinstance(arguments, dict):
        return MOST_OUTPUT_TOKENS, False, False
    said, odd = 0, False
    for name in _BOUNDS:
        value = arguments.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool):
                odd = True
            elif said < value <= MOST_TOKENS:
                said = value
    own = reach.max_output
    if said and not odd:
        each, told, kept = said, True, True
        if own is not None and own < said:
            each, told = own, False
    elif own is not None:
        each, told, kept = own, False, True
    else:
        each, told, kept = max(said, MOST_OUTPUT_TOKENS), False, False
    for name in _CHOICES:
        if arguments.get(name) is not None:
            return each * max(1, *[_count(arguments.get(one)) for one in _CHOICES]), told, kept
    return each, told, kept


def _count(value: Json) -> int:
    """A number of choices as the most generous reader takes it."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return min(value, 1_000_000)
    found = _NUMBER.fullmatch(str(value)) if isinstance(value, str | float) else None
    return min(int(found[1]), 1_000_000) if found is not None else 1


def _ids(value: Json) -> int:
    """Token ids of an embedding's input: each is a token, however few bytes it has."""
    if not isinstance(value, list) or not value:
        return 0
    if type(value[0]) is int:
        return len(value)
    return sum(len(item) for item in value if isinstance(item, list))


def _refers(arguments: Mapping[str, Json]) -> bool:
    for name in _NAMED:
        if arguments.get(name) is not None:
            return True
    tools = arguments.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(_HOSTED):
            return True
    return False


class _Shown:
    """What of a model's input is no text: how many pictures, in the body or named, and the bytes of those that are in
    it; whether something is named that is stored elsewhere."""

    __slots__ = ("inline", "pictures", "stored")

    def __init__(self, arguments: Mapping[str, Json]) -> None:
        self.inline, self.pictures, self.stored = 0, 0, False
        for name in _INPUTS:
            found = arguments.get(name)
            if isinstance(found, list):
                self._parts(found, 0)

    def _parts(self, parts: Sequence[Json], depth: int) -> None:
        """Messages, and the parts of their content; nested as deep as vendors take them, with room to spare."""
        for part in parts:
            if not isinstance(part, dict):
                continue
            content, kind = part.get("content"), part.get("type")
            if kind is None and isinstance(content, str):
                continue  # what nearly every message is
            if kind in _PICTURES:
                self.pictures += 1
                self.inline += _longest(part)
            elif kind in _FILES:
                self.stored = True
            elif depth < _DEPTH:
                if isinstance(content, list):
                    self._parts(content, depth + 1)
                elif isinstance(content, dict):
                    self._parts([content], depth + 1)
                if isinstance(output := part.get("output"), list):
                    self._parts(output, depth + 1)


def _longest(part: Mapping[str, Json]) -> int:
    """The length of a picture's own text: its data or its address."""
    best = 0
    waiting: list[Json] = [dict(part)]
    for _ in range(8):
        if not waiting:
            break
        found = waiting.pop()
        if isinstance(found, str):
            best = max(best, len(found))
        elif isinstance(found, dict):
            members: Sequence[Json] = [value for name, value in found.items() if name in _DATA]
            waiting += members
    return best


_DATA: Final = frozenset({"image_url", "url", "source", "data"})
