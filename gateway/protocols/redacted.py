"""Answers of which policy wants something hidden, behind whatever else judges them (core/redaction.py says what).

1. Which kind an answer is must be said once and plainly: JSON, or an event stream of JSON; in no content coding, and
   whole. All else is not shown. 2. JSON is read strictly (no name twice, bounded depth) and written again where
   something was hidden; else its bytes pass. 3. Events are read one by one; one in which nothing is hidden passes with
   its bytes and at once. One that cannot be read ends the stream. 4. What some readers take for a line end, or for an
   event although it is none, hides nothing from us: such an event is written anew, a half one is not shown.
5. Events lose their id in a session: a stream that is resumed would show them as they were.
It must never show a byte of what it could not read. Text that a stream brings in pieces is hidden by place, piece by
piece; nothing is searched for by value.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Final, Literal

from gateway.core.canonical import Json, parse_answer
from gateway.core.exchange import Exchange
from gateway.core.ports import AnswerFilter, UpstreamAnswer, WholeFilter
from gateway.core.reasons import Malformed, Reason, Refusal, Withheld
from gateway.core.redaction import Tree, below, hide
from gateway.core.sse import Event, Scanner
from gateway.protocols.media import is_json
from gateway.protocols.rewritten import describe_anew, must_be_plain

_LINE: Final = re.compile(rb"\r\n|\n|\r")
_SOFT_BREAK: Final = re.compile(rb"[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")  # line ends for some readers only
_KNOWN: Final = frozenset({b"data", b"event", b"id", b"retry", b""})  # "": a comment
_ENDS: Final = frozenset({b"[DONE]", b""})  # data that is no document: how OpenAI's streams end
_EMPTY: Final = frozenset({204, 205, 304})
_EVENTS: Final = "text/event-stream"


def redacting(
    exchange: Exchange, answer: UpstreamAnswer, inner: AnswerFilter | WholeFilter | None
) -> AnswerFilter | WholeFilter | None:
    """The filter that hides, with `inner` before it. Raises Malformed for an answer that is not shown."""
    if exchange.hides is None:
        return inner
    describe_anew(answer.headers)
    if exchange.head.method == "HEAD" or answer.status in _EMPTY:
        answer.headers[:] = [item for item in answer.headers if item[0] != b"content-length"]
        return inner
    places = exchange.protocol.answers_in(exchange)
    if isinstance(places, Refusal):
        raise Withheld(places)
    tree = below(exchange.hides, *places)
    enveloped = tree is not exchange.hides
    try:
        kind = _kind(answer)
        if inner is not None and inner.whole is (kind == _EVENTS):
            raise Malformed("its content type can be read in two ways")
    except Malformed as error:
        raise _withheld(error) from None  # 1
    hiding = _Hiding(exchange, tree, enveloped)
    if kind == _EVENTS:
        return RedactedEvents(hiding, inner if inner is not None and inner.whole is False else None)
    return Redacted(hiding, kind, inner if inner is not None and inner.whole is True else None)


class _Hiding:
    """The places, and a document for which they are meant."""

    __slots__ = ("_enveloped", "_exchange", "_tree", "ids")

    def __init__(self, exchange: Exchange, tree: Tree, enveloped: bool) -> None:
        self._exchange = exchange
        self._tree = tree
        self._enveloped = enveloped
        self.ids = not any(handle.kind.endswith("-session") for handle in exchange.call.handles)

    def of(self, data: bytes) -> bytes:
        """The document with its places hidden; the very bytes where there were none. Raises Malformed."""
        document: Json = parse_answer(data)
        if self._enveloped and not isinstance(document, dict):
            raise Malformed("a JSON-RPC message is an object")
        count = hide(document, self._tree)
        if count and self._exchange.call.listing == "skills":
            raise Malformed("a card is signed, and shown whole or not at all")
        self._exchange.hidden += count
        return _dump(document) if count else data


class Redacted:
    """A JSON answer."""

    __slots__ = ("_hiding", "_inner", "_kind")

    whole: Literal[True] = True

    def __init__(self, hiding: _Hiding, kind: str, inner: WholeFilter | None) -> None:
        self._hiding = hiding
        self._kind = kind
        self._inner = inner

    async def rewrite(self, body: bytes) -> bytes:
        if self._inner is not None:
            body = await self._inner.rewrite(body)
        if not body:
            return body
        try:
            if not is_json(self._kind):
                raise Malformed("it is neither JSON nor an event stream")
            return self._hiding.of(body)
        except Malformed as error:
            raise _withheld(error) from None


class RedactedEvents:
    """An event stream."""

    __slots__ = ("_hiding", "_inner", "_scanner")

    whole: Literal[False] = False

    def __init__(self, hiding: _Hiding, inner: AnswerFilter | None) -> None:
        self._hiding = hiding
        self._inner = inner
        self._scanner = Scanner()

    async def feed(self, chunk: bytes) -> bytes:
        if self._inner is not None:
            chunk = await self._inner.feed(chunk)
        return b"".join([self._event(event) for event in self._scanner.feed(chunk)])

    async def finish(self) -> bytes:
        """A half event is shown where it can be read as a whole one: some readers take it for that."""
        rest = await self._inner.finish() if self._inner is not None else b""
        shown = [self._event(event) for event in self._scanner.feed(rest)]
        if self._scanner.rest:
            with contextlib.suppress(Malformed):  # 4
                shown += [self._event(event) for event in self._scanner.feed(b"\n\n")]
        return b"".join(shown)

    def outbox(self) -> list[bytes]:
        return self._inner.outbox() if self._inner is not None else []

    def _event(self, event: Event) -> bytes:
        raw, data = event.raw, event.data
        shown = data if data is None or data in _ENDS else self._hiding.of(data)  # 3
        lines = _LINE.split(raw.removeprefix(b"\xef\xbb\xbf"))
        names = {line.partition(b":")[0] for line in lines}
        odd = not names <= _KNOWN or _SOFT_BREAK.search(raw) is not None
        if not odd and shown is data and (self._hiding.ids or b"id" not in names):
            return raw
        if odd and shown is data and data is not None and data not in _ENDS:
            shown = _dump(parse_answer(data))  # 4
        kept = (b"event", b"retry", b"id") if self._hiding.ids else (b"event", b"retry")  # 5
        said = [line for line in lines if line.partition(b":")[0] in kept and _SOFT_BREAK.search(line) is None]
        if shown is not None:
            said += [b"data: " + line for line in _LINE.split(shown)]
        return b"\n".join(said) + b"\n\n" if said else b""


def _kind(answer: UpstreamAnswer) -> str:
    """The media type, "" where none is said (then there must be no body). Raises Malformed."""
    must_be_plain(answer.headers)
    if answer.status == 206:
        raise Malformed("it is a part of something")
    types = [value for name, value in answer.headers if name == b"content-type"]
    if len(types) > 1:
        raise Malformed("it has two content types")
    text = types[0].decode("latin-1").lower() if types else ""
    essence = text.partition(";")[0].strip()
    charset = re.search(r'charset\s*=\s*"?([^\s;"]*)', text)
    if charset is not None and charset.group(1) not in ("utf-8", "utf8", "us-ascii"):
        raise Malformed("it is not in UTF-8")
    if (_EVENTS in text) != (essence == _EVENTS) or ("json" in text and not is_json(essence)):
        raise Malformed("its content type can be read in two ways")
    return essence


def _withheld(error: Malformed) -> Withheld:
    if isinstance(error, Withheld):
        return error
    return Withheld(Refusal(Reason.DENIED, f"The answer cannot be redacted and is not shown: {error}", rule="redact"))


def _dump(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
