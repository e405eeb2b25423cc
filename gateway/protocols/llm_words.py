"""How a stream of a model's answer ends that may not go on: in the vendor's own words, so that a client's library
raises its own error with our reason instead of taking half an answer for a whole one.

| API | last events |
|---|---|
| chat.completions | a chunk that is an `error`, then `[DONE]` |
| responses | `error`, flat as the vendor documents it, and with an `error` member, which its libraries raise |
| messages | `error` |

It must never look like the end of a whole answer: no finish or stop reason is made up.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.canonical import Json
from gateway.core.sse import encode
from gateway.protocols.problem import dump


def last_words(api: Json, error: Mapping[str, object]) -> bytes:
    """`error` is the body of the refusal as this vendor says it. b"" for an API whose answers are no events."""
    if api == "chat.completions":
        return encode(dump(error)) + encode(b"[DONE]")
    if api == "messages":
        return encode(dump(error), name="error")
    if api == "responses":
        said = error.get("error")
        facts = said if isinstance(said, Mapping) else {}
        flat = {name: facts.get(name) for name in ("code", "message", "param")}
        return encode(dump({"type": "error", **flat, "sequence_number": 0, "error": facts}), name="error")
    return b""
