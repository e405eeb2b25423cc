"""Usage of chat streams that nobody asked for: the route asks for it, and the caller never sees that (`include_usage`).

1. Only a stream of OpenAI's chat completions whose caller did not ask for usage is changed; all else keeps its bytes.
2. The request goes on with `stream_options.include_usage: true` merged in, and nothing else of it is touched.
3. Of the answer exactly one kind of event is taken out: the chunk whose `choices` is an empty list and that has usage.
All other events pass with their bytes, as they come; what is taken out is read for its usage all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import orjson

from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange
from gateway.core.merging import merged
from gateway.core.snapshot import Route
from gateway.core.sse import Event, Scanner

_WANTED: Mapping[str, Json] = {"stream_options": {"include_usage": True}}


def wanted(route: Route, api: str, arguments: Mapping[str, Json]) -> bool:
    """Rule 1."""
    if route.include_usage != "inject" or api != "chat.completions" or arguments.get("stream") is not True:
        return False
    options = arguments.get("stream_options")
    return not (isinstance(options, dict) and options.get("include_usage") is True)


def including(body: bytes) -> bytes:
    """Rule 2. Raises Malformed for what is no JSON object."""
    return merged(body, _WANTED)


def included(call: Call, route: Route) -> bool:
    """Whether this call's request was changed."""
    api, arguments = call.context.get("api"), call.arguments
    return isinstance(api, str) and isinstance(arguments, dict) and wanted(route, api, arguments)


class Swallowed:
    """Rule 3."""

    __slots__ = ("_exchange", "_halved", "_scanner", "_shown")

    whole: Literal[False] = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._scanner = Scanner()
        self._halved = False  # the last event ended with a CR whose LF may be still to come
        self._shown = False  # whether that event was, with which its LF goes

    async def feed(self, chunk: bytes) -> bytes:
        shown: list[bytes] = []
        if self._halved and chunk:
            self._halved = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
                if self._shown:
                    shown.append(b"\n")
        for event in self._scanner.feed(chunk):
            self._shown = not self._takes(event)
            if self._shown:
                shown.append(event.raw)
            self._halved = event.raw.endswith(b"\r") and not self._scanner.rest
        return b"".join(shown)

    async def finish(self) -> bytes:
        """What is no whole event is shown as it is, unless some reader could take it for the one that is taken out."""
        rest = self._scanner.rest
        if not rest:
            return b""
        [event] = self._scanner.feed(b"\n\n")
        return b"" if self._takes(event) else rest

    def outbox(self) -> list[bytes]:
        return []

    def _takes(self, event: Event) -> bool:
        data = event.data
        if data is None or data.find(b'"usage"') < 0:
            return False
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(found, dict) or found.get("choices") != [] or not isinstance(found.get("usage"), dict):
            return False
        reader = self._exchange.reader
        if reader is not None:
            reader.feed(event.raw if event.raw.endswith((b"\n", b"\r")) else event.raw + b"\n\n")
        return True
