"""The way back: from the upstream's answer to the caller, byte for byte unless policy judges it.

1. An answer that is here in one piece is one message to the front, whose `whole` is the body, and nothing else.
2. A stream passes chunk by chunk as it arrives; usage is read beside it, never in its way.
3. A judged answer passes through its protocol's filter; what the filter cannot read is not shown.
4. Handles that an answer mints are bound to the caller before a byte of it is released.
5. A caller who has left is sent nothing more; where its answer is read on, that has an end (left.py).
6. Under a budget a stream ends where it may not go on, in its protocol's own way, else by being cut (ration.py). What
   is here in one piece was paid for in one piece: it is not taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from gateway.core import records
from gateway.core.access import ask
from gateway.core.attempts import lives_at, place
from gateway.core.exchange import Call, Decision, Exchange, Handle, Header
from gateway.core.ids import Ids
from gateway.core.obligations import mark
from gateway.core.ports import (
    Answered,
    AnswerFilter,
    Clock,
    Handles,
    RecordLog,
    UpstreamAnswer,
    UpstreamTargets,
    WholeFilter,
)
from gateway.core.reasons import LogUnavailable, Malformed, Reason, Refusal, UpstreamFailed, Withheld
from gateway.wire.origins import shared
from gateway.wire.ration import Ration, within
from gateway.wire.streams import Streams

Redact: TypeAlias = (
    "Callable[[Exchange, UpstreamAnswer, AnswerFilter | WholeFilter | None], AnswerFilter | WholeFilter | None]"
)
"""Puts what hides behind what judges. Raises Malformed for an answer that cannot be read."""
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Binding:
    """The handles of one exchange: what its answer mints belongs to its caller (ruling 13). `marks`: the answer is
    redacted, and what it mints is marked as that first. `address`: where it lives, of an upstream that has several."""

    __slots__ = ("_address", "_handles", "_marks", "_route", "_subject", "_upstream")

    def __init__(
        self, handles: Handles, route: str, subject: str, upstream: str, marks: bool, address: str = ""
    ) -> None:
        self._handles = handles
        self._route = route
        self._subject = subject
        self._upstream = upstream
        self._marks = marks
        self._address = address

    async def __call__(self, handle: Handle) -> None:
        if self._marks:
            await self._handles.bind(mark(handle), route=self._route, subject=self._subject, upstream=self._upstream)
        await self._handles.bind(handle, route=self._route, subject=self._subject, upstream=self._upstream)
        if self._address:
            await self._settle_down(handle)

    async def _settle_down(self, handle: Handle) -> None:
        """Whoever names it is sent to this address from now on (attempts.py)."""
        home, wanted = lives_at(handle), place(self._address, self._subject)
        known = await self._handles.owner(home, route=self._route, upstream=self._upstream)
        if known == wanted:
            return
        if known is not None:  # where it was before has left the configuration
            await self._handles.forget(home, route=self._route, upstream=self._upstream)
        await self._handles.bind(home, route=self._route, subject=wanted, upstream=self._upstream)

    async def owner(self, handle: Handle) -> str | None:
        return await self._handles.owner(handle, route=self._route, upstream=self._upstream)


class Answers:
    def __init__(
        self,
        *,
        targets: UpstreamTargets,
        request_headers: Callable[[Exchange], list[Header]],
        answer_headers: Callable[[Answered, Exchange], list[Header]],
        target: Callable[[Exchange], str],
        redact: Redact,
        streams: Streams,
        handles: Handles,
        log: RecordLog,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._request_headers = request_headers
        self._answer_headers = answer_headers
        self._target = target
        self._redact = redact
        self._streams = streams
        self._handles = handles
        self._log = log
        self._ids = ids
        self._clock = clock

    async def respond(self, exchange: Exchange, send: Send) -> None:
        """Sends the answer. Raises Malformed or UpstreamFailed; `exchange.status` tells whether it had begun."""
        answer = exchange.answer
        if answer is None:
            raise RuntimeError("there is no answer to send")
        call = exchange.call
        filtering: AnswerFilter | WholeFilter | None = None
        if call.judged:
            filtering = await exchange.protocol.filter(exchange, answer, self._ask(exchange), self._bind(exchange))
        if exchange.hides is not None:
            filtering = self._redact(exchange, answer, filtering)
        if call.metered:
            exchange.reader = exchange.protocol.usage(exchange, answer)
        if call.ends and answer.status < 300:
            await self._forget(exchange)
        if filtering is None:
            whole = answer.complete
            if whole is not None:
                await self._at_once(exchange, answer.status, self.headers(exchange, answer), whole, send)
            else:
                await self._stream(exchange, answer, None, self.headers(exchange, answer), send)
        elif filtering.whole is True:
            await self._rewritten(exchange, answer, filtering, send)
        else:
            headers = [item for item in self.headers(exchange, answer) if item[0] != b"content-length"]
            await self._stream(exchange, answer, filtering, headers, send)

    def headers(self, exchange: Exchange, answer: Answered) -> list[Header]:
        """Of any answer to a caller: the upstream's own, ours, what the limits say, what a browser's page may see."""
        headers = self._answer_headers(answer, exchange)
        if exchange.limit_headers:
            headers.extend(exchange.limit_headers)
        if exchange.head.first(b"origin") is not None:
            _share(exchange, headers)
        return headers

    async def _at_once(self, exchange: Exchange, status: int, headers: list[Header], body: bytes, send: Send) -> None:
        exchange.status = status
        if exchange.reader is not None:
            exchange.reader.feed(body)
        if exchange.left:
            return
        exchange.usage.bytes_out = len(body)
        exchange.response_digest = "sha256:" + hashlib.sha256(body).hexdigest()
        await send({"type": "http.response.start", "status": status, "headers": headers, "whole": body})

    async def _stream(
        self, exchange: Exchange, answer: UpstreamAnswer, filtering: AnswerFilter | None, headers: list[Header],
        send: Send,
    ) -> None:  # fmt: skip
        """Piece by piece; a judged one event by event. The head leaves first: a client of a stream waits for it."""
        reader, usage, digest, drained = exchange.reader, exchange.usage, hashlib.sha256(), 0
        ration = Ration(exchange, headers) if exchange.charges else None
        refusal: Refusal | None = None
        more = True
        exchange.status = answer.status
        with self._streams.watched(exchange):
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            try:
                while more and refusal is None:
                    piece = await answer.chunk()
                    more = bool(piece)
                    if exchange.left:
                        drained += len(piece)
                        if drained > exchange.upstream.drain_bytes:
                            return  # 5
                    self._still_alive(exchange)
                    if filtering is not None:
                        piece = await filtering.feed(piece) if more else await filtering.finish()
                    if ration is not None:
                        piece, refusal = await ration.let(piece, more)  # 6
                    elif piece:
                        if reader is not None:
                            reader.feed(piece)
                        if not exchange.left:
                            usage.bytes_out += len(piece)
                    if piece and not exchange.left:
                        digest.update(piece)
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                        if exchange.first_byte_ms is None:
                            exchange.first_byte_ms = (self._clock.monotonic() - exchange.started) * 1000
                    if filtering is not None:
                        for message in filtering.outbox():
                            await self._post(exchange, message)
            except UpstreamFailed as error:
                exchange.result = "timeout" if error.timeout else "upstream_gone"
                raise
            finally:
                exchange.response_digest = "sha256:" + digest.hexdigest()
            words = b"" if refusal is None or ration is None else _ended(exchange, refusal, ration)
            await send({"type": "http.response.body", "body": words})

    async def _rewritten(self, exchange: Exchange, answer: UpstreamAnswer, filtering: WholeFilter, send: Send) -> None:
        """In one piece, after all of it was judged: the filter may have changed the head too."""
        limit = exchange.snapshot.body_bytes
        size = 0
        parts: list[bytes] = []
        while chunk := await answer.chunk():
            size += len(chunk)
            if size > limit:
                raise _too_large(exchange, f"a judged answer may have {limit} bytes")
            if exchange.left and size > exchange.upstream.drain_bytes:
                return  # 5
            parts.append(chunk)
            if exchange.charges and (refusal := await within(exchange, size)) is not None:
                exchange.stopped = "answer"
                raise Withheld(refusal)
        body = await filtering.rewrite(parts[0] if len(parts) == 1 else b"".join(parts))
        headers = [item for item in self.headers(exchange, answer) if item[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._at_once(exchange, answer.status, headers, body, send)

    def _still_alive(self, exchange: Exchange) -> None:
        if why := self._streams.ended(exchange):
            exchange.revoked = True
            exchange.result = "error"
            raise Malformed(why)

    def _ask(self, exchange: Exchange) -> Callable[[Sequence[Call]], Awaitable[list[Decision]]]:
        async def asked(calls: Sequence[Call]) -> list[Decision]:
            decisions = await ask(exchange, calls)
            for call, decision in zip(calls, decisions, strict=True):
                if not decision.allow and call.context.get("direction") == "server":
                    self._note(exchange, call, decision)
            return decisions

        return asked

    def _note(self, exchange: Exchange, call: Call, decision: Decision) -> None:
        """A denied request of the upstream's is an exchange of its own: it leaves a refusal that names its parent."""
        child = exchange.child(self._ids.new(), call, decision)
        child.refusal = Refusal(Reason.DENIED, decision.reason, rule=decision.rule)
        try:
            self._log.submit(records.terminal(child, self._ids.new(), self._clock.time()))
        except LogUnavailable as error:
            raise UpstreamFailed(f"no record: {error}", error="proxy_internal_error", sent=True) from error

    def _bind(self, exchange: Exchange) -> Binding:
        if exchange.principal is None:
            raise RuntimeError("an answer belongs to an identified caller")
        return Binding(
            self._handles,
            exchange.route.name,
            exchange.principal.id,
            exchange.upstream.name,
            exchange.hides is not None,
            exchange.address,
        )

    async def _forget(self, exchange: Exchange) -> None:
        for handle in exchange.call.handles:
            await self._handles.forget(handle, route=exchange.route.name, upstream=exchange.upstream.name)
            if exchange.address:
                home = lives_at(handle)
                await self._handles.forget(home, route=exchange.route.name, upstream=exchange.upstream.name)

    async def _post(self, exchange: Exchange, message: bytes) -> None:
        """Answers the upstream's own request in the caller's session; what it says to that is not for anybody."""
        headers = [
            item
            for item in self._request_headers(exchange)
            if item[0] not in (b"content-length", b"content-type", b"accept", b"last-event-id")
        ]
        headers += [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        answer = await self._targets.client(exchange.upstream).send("POST", self._target(exchange), headers, message)
        await answer.aclose()


def _ended(exchange: Exchange, refusal: Refusal, ration: Ration) -> bytes:
    """The last words of a stream that may not go on. Raises Withheld where it has none: it is cut."""
    exchange.refusal, exchange.stopped = refusal, "answer"
    if not exchange.left:
        exchange.result = "error"
    words = exchange.protocol.last_words(exchange, refusal) if ration.between_events else b""
    if not words:
        raise Withheld(refusal)
    return words


def _too_large(exchange: Exchange, text: str) -> Malformed:
    if exchange.hides is None:
        return Malformed(text)
    return Withheld(Refusal(Reason.DENIED, f"The answer cannot be shown: {text}", rule="redact"))


def _share(exchange: Exchange, headers: list[Header]) -> None:
    """Our CORS words replace the upstream's for a listed origin."""
    ours = shared(exchange)
    if ours:
        headers[:] = [item for item in headers if not item[0].startswith(b"access-control-")]
        headers.extend(ours)
