"""What OpenAI's Responses API keeps for later calls: responses and conversations, each its caller's own (ruling 13).

1. `previous_response_id`, `conversation` and the ids in paths below /responses and /conversations are handles: another
caller's is refused, and so is one that nobody got through this route. 2. An answer that mints one is read for its id
alone, which is bound before a byte of it is shown; the bytes stay. 3. An answer that cannot be read binds nothing, and
what is not bound can be named by nobody: it passes. Of a stream the first event has the id; what follows is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from gateway.core.canonical import Json
from gateway.core.exchange import Exchange, Handle
from gateway.core.ports import Bind
from gateway.core.reasons import Malformed
from gateway.core.sse import Scanner
from gateway.protocols.claims import Claims

RESPONSE = "llm-response"
CONVERSATION = "llm-conversation"

_NAMES = frozenset({RESPONSE, CONVERSATION})
_KEPT = {"responses": RESPONSE, "conversations": CONVERSATION}


def named(arguments: Mapping[str, Json]) -> tuple[Handle, ...]:
    """The handles that a request's body names. Raises Malformed for one that could be read in two ways."""
    found: list[Handle] = []
    previous = arguments.get("previous_response_id")
    if previous is not None:
        found.append(_handle(RESPONSE, previous, "previous_response_id"))
    conversation = arguments.get("conversation")
    if isinstance(conversation, dict):
        if len({name.casefold() for name in conversation}) != len(conversation):
            raise Malformed("two members of conversation differ in case only")
        conversation = conversation.get("id")
    if conversation is not None:
        found.append(_handle(CONVERSATION, conversation, "conversation"))
    return tuple(found)


def in_path(method: str, path: str) -> tuple[tuple[Handle, ...], bool]:
    """The handle that a path below the route names, and whether the request ends it. Raises Malformed."""
    first, *rest = path.removeprefix("/").split("/")
    kind = _KEPT.get(first)
    if kind is None or not rest or (method == "POST" and len(rest) == 1 and kind == RESPONSE):
        return (), False
    try:
        ident = unquote(rest[0], errors="strict")
    except UnicodeDecodeError:
        raise Malformed(f"the id below /{first} cannot be read") from None
    return (_handle(kind, ident, f"the id below /{first}"),), method == "DELETE" and len(rest) == 1


def _handle(kind: str, ident: Json, what: str) -> Handle:
    if not isinstance(ident, str) or not ident:
        raise Malformed(f"{what} must be the id of something")
    return Handle(kind, ident)


class KeptAnswer:
    """A JSON answer that is, or belongs to, what is kept. `kind` is what its own id names."""

    __slots__ = ("_claims", "_kind")

    whole: Literal[True] = True

    def __init__(self, exchange: Exchange, bind: Bind, kind: str) -> None:
        self._claims = Claims(exchange, bind, _NAMES)
        self._kind = kind

    async def rewrite(self, body: bytes) -> bytes:
        await self._claims.claim(_shown(_read(body), self._kind))
        return body


class KeptEvents:
    """The same as a stream: read until its response has an id."""

    __slots__ = ("_claims", "_over", "_scanner")

    whole: Literal[False] = False

    def __init__(self, exchange: Exchange, bind: Bind) -> None:
        self._claims = Claims(exchange, bind, _NAMES)
        self._scanner = Scanner()
        self._over = False

    async def feed(self, chunk: bytes) -> bytes:
        if self._over:
            return chunk
        shown = b""
        for event in self._scanner.feed(chunk):
            shown += event.raw
            found = list(_shown(_response(event.data), RESPONSE)) if event.data and not self._over else []
            if found:
                await self._claims.claim(found)
                self._over = True
        return shown + self._scanner.rest if self._over else shown

    async def finish(self) -> bytes:
        return b"" if self._over else self._scanner.rest

    def outbox(self) -> list[bytes]:
        return []


def _response(data: bytes) -> Any:
    event = _read(data)
    return event.get("response") if isinstance(event, dict) else None


def _read(body: bytes) -> Any:
    """As a client's library reads it: nothing is judged by it but the id."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # 3


def _shown(document: Any, kind: str) -> Iterator[Handle]:
    if not isinstance(document, dict):
        return
    ident = document.get("id")
    if isinstance(ident, str) and ident:
        yield Handle(kind, ident)
    conversation = document.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str) and conversation:
        yield Handle(CONVERSATION, conversation)
