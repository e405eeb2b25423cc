"""How much output of a model goes by in a stream of events, counted from what is seen of it.

1. Each piece (delta) is at least one token, and one for each `BYTES_PER_TOKEN` bytes of its text or part of that: with
the usual tokenizers that is above the truth for most languages. 2. What a stream says again (a finished item, the whole
response) is not counted again. 3. A piece in a shape that is not known is counted by its bytes beyond an event's usual
ones. An escape like \\u00e9 is three bytes of text.
It must not depend on how the stream was cut into chunks: it is given whole events, one by one.
"""

from __future__ import annotations

import re
from typing import Final

BYTES_PER_TOKEN: Final = 3
_FRAME_BYTES: Final = 1024  # ids, names, filters' verdicts around a piece
_STRING: Final = rb'"\s*:\s*"((?:[^"\\]|\\.)*)"'

# What marks an event that has a piece of output, and the members that hold its text.
_CHAT: Final = (
    b'"delta"',
    re.compile(rb'"(?:content|refusal|arguments|name|reasoning_content|reasoning|thinking|text|transcript)' + _STRING),
)
_RESPONSES: Final = (b'.delta"', re.compile(rb'"delta' + _STRING))
_MESSAGES: Final = (b'"content_block_delta"', re.compile(rb'"(?:text|partial_json|thinking)' + _STRING))
_OF_API: Final = {"chat.completions": _CHAT, "responses": _RESPONSES, "messages": _MESSAGES}
_DRAFT: Final = b"partial_image"  # a picture as it comes into being: its tokens are said at the end


class Seen:
    """The count of one stream."""

    __slots__ = ("_after", "_mark", "_text", "tokens")

    def __init__(self, api: str) -> None:
        self._mark, self._text = _OF_API.get(api, _CHAT)
        self._after = self._mark == b'"delta"'  # the others mark an event by its type, which may follow the text
        self.tokens = 0

    def event(self, event: bytes) -> None:
        at = event.find(self._mark)
        if at < 0:
            return
        found = 0
        for text in self._text.findall(event, at if self._after else 0):
            length = len(text)
            if text.find(b"\\u") >= 0:
                length -= 3 * text.count(b"\\u")
            found += -(-length // BYTES_PER_TOKEN)
        if not found and len(event) > _FRAME_BYTES:
            found = max(0, -(-(len(event.strip(b"\r\n")) - _FRAME_BYTES) // BYTES_PER_TOKEN))  # 3
        self.tokens += found or 1

    def oversize(self, begins: bytes, length: int) -> None:
        """An event too large to keep, of which no usage was read."""
        if begins.find(_DRAFT) < 0:
            self.tokens += -(-length // BYTES_PER_TOKEN)
