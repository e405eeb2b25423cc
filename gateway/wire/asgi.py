"""Bytes in, bytes out: opens an exchange for each request, sends it through the pipeline, answers, settles.

The rule it keeps: whatever happens, a request that made a head ends in exactly one settled exchange. It judges nothing
itself; Host, Origin and routes come from the snapshot the exchange pins. It never builds a task, a span or a second
parse per request, and it never looks at a decoded path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, TypeAlias

from gateway.core.exchange import Exchange, Head
from gateway.core.ids import Ids
from gateway.core.pipeline import Pipeline
from gateway.core.ports import Clock, Protocol
from gateway.core.reasons import (
    Malformed,
    Reason,
    Refusal,
    Spoiled,
    StoreFailed,
    UpstreamFailed,
    Withheld,
    store_refusal,
    upstream_refusal,
)
from gateway.core.snapshot import Route, Snapshot
from gateway.wire.answers import Answers
from gateway.wire.crowd import Crowd
from gateway.wire.cycle import LEFT
from gateway.wire.door import GOING_DOWN
from gateway.wire.front_answer import LEAVING, PROXY
from gateway.wire.left import Left
from gateway.wire.origins import preflight, shared
from gateway.wire.upload import upload
from gateway.wire.ways import Way, Ways, traced

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Scope: TypeAlias = MutableMapping[str, Any]
Sockets: TypeAlias = Callable[[Exchange, Receive, Send], Awaitable[None]]
Metadata: TypeAlias = Callable[[Snapshot, Route], Awaitable[bytes | Refusal]]

UNASKED_BYTES = 64 * 1024  # a judged body up to here is read before its caller is known; the front holds as much anyway


class Gateway:
    """The data plane as one raw ASGI application."""

    def __init__(
        self,
        *,
        current: Callable[[], Snapshot],
        pipeline: Pipeline,
        protocols: Mapping[str, Protocol],
        answers: Answers,
        sockets: Sockets,
        metadata: Metadata,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._current = current
        self._metadata = metadata
        self._pipeline = pipeline
        self._ways = Ways(protocols)
        self._answers = answers
        self._sockets = sockets
        self._ids = ids
        self._clock = clock
        self._crowd = Crowd(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head: Head = scope["extensions"]["tollgate.head"]
        way = self._ways.find(self._current(), head)
        document = way.document
        if document is not None and not way.preflight:
            found = document if isinstance(document, bytes) else await self._metadata(way.snapshot, document)
            if isinstance(found, bytes):
                await _document(found, self._ids.new(), send, kept=found is document)
                return
            way = replace(way, refusal=found)
        exchange = self._open(way, head)
        if way.preflight and way.refusal is None:
            await _reply(send, 204, preflight(exchange), b"")  # the gateway's own answer: nothing was asked of anybody
            return
        exchange.fault = "unfinished"
        shed = self._crowd.enter(way.route)
        try:
            if head.websocket:
                await self._websocket(exchange, way.refusal or shed, receive, send)
            else:
                await self._http(exchange, way, shed, scope, receive, send)
            if exchange.fault == "unfinished":
                exchange.fault = ""
        except asyncio.CancelledError as error:
            self._cut(exchange, GOING_DOWN in error.args)
        except Exception as fault:
            self._pipeline.faulted(exchange, "answer", fault)
            raise  # the front ends the connection; what was sent cannot be taken back
        finally:
            if shed is None:
                self._crowd.leave()
            await self._close(exchange)

    def _cut(self, exchange: Exchange, by_us: bool) -> None:
        """The caller went away, or lost its right to the stream, or we go; nothing more is sent."""
        if by_us:
            exchange.result, exchange.fault = "error", GOING_DOWN
        elif exchange.fault == "unfinished":
            exchange.fault = ""
            exchange.result = "client_gone"
        if exchange.intent_seq is None and exchange.refusal is None:
            exchange.refusal = (
                LEAVING
                if by_us
                else Refusal(Reason.CLIENT_TIMEOUT, "The caller went away before its request was judged")
            )

    async def _http(
        self, exchange: Exchange, way: Way, shed: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if exchange.upstream.on_client_gone == "drain":
            with Left(exchange) as left:
                scope[LEFT] = left.goes_on
                await self._asked(exchange, way, shed, scope, receive, send)
            return
        await self._asked(exchange, way, shed, scope, receive, send)

    async def _asked(
        self, exchange: Exchange, way: Way, shed: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        refusal = way.refusal
        try:
            if refusal is None and shed is not None:
                if way.reads is True and way.length is not None and way.length <= UNASKED_BYTES:
                    await self._read(exchange, way, scope, receive)  # a message is refused under its own id
                refusal = shed
            if refusal is None:
                await self._read(exchange, way, scope, receive)
                refusal = await self._pipeline.admit(exchange)
            if refusal is None:
                await self._answers.respond(exchange, send)
                return
        except Exception as error:  # noqa: BLE001 (a fault refuses, as in the pipeline)
            refusal = self._failed(exchange, error)
            if refusal is None:
                return
        await self.refuse(exchange, refusal, send)

    def _failed(self, exchange: Exchange, error: Exception) -> Refusal | None:
        """What the caller is told instead of an answer; None where one has begun: it is cut, the record says why."""
        if isinstance(error, Withheld) and error.refusal is exchange.refusal and exchange.status:
            return None  # a stream that had to end, and could not say why in its own words
        if isinstance(error, Spoiled) and exchange.status:
            exchange.refusal, exchange.stopped, exchange.result = error.refusal, "answer", "error"
            return None  # the answer came before the end of a request that may not go on
        if exchange.answer is None or not isinstance(error, Malformed | StoreFailed | UpstreamFailed):
            refusal = self._pipeline.faulted(exchange, "request" if exchange.answer is None else "answer", error)
            return None if exchange.status else refusal
        if not exchange.status:
            return self._unusable(exchange, error)
        exchange.fault = "answer: StoreFailed" if isinstance(error, StoreFailed) else f"answer: {error}"
        if exchange.result == "ok":
            exchange.result = "error"
        return None

    async def _websocket(self, exchange: Exchange, refusal: Refusal | None, receive: Receive, send: Send) -> None:
        if refusal is None:
            try:
                exchange.asked = exchange.protocol.classify(exchange)
                refusal = await self._pipeline.admit(exchange)
            except Exception as error:  # noqa: BLE001 (as above)
                refusal = self._pipeline.faulted(exchange, "request", error)
        if refusal is None:
            await self._sockets(exchange, receive, send)
            return
        status, headers, body = self._refusal(exchange, refusal)
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})

    def _open(self, way: Way, head: Head) -> Exchange:
        ident = self._ids.new()
        plain = ident.replace("-", "")
        trace_id, parent_span_id = way.traced or (plain, "")
        return Exchange(
            id=ident,
            time=self._clock.time(),
            started=self._clock.monotonic(),
            head=head,
            snapshot=way.snapshot,
            route=way.route,
            upstream=way.upstream,
            protocol=way.protocol,
            client_id=way.client_id,
            refusal=way.refusal,
            trace_id=trace_id,
            span_id=plain[16:],
            parent_span_id=parent_span_id,
        )

    async def _read(self, exchange: Exchange, way: Way, scope: Scope, receive: Receive) -> None:
        """Reads the body that is judged, or prepares the stream of one that is not, and lets the protocol classify."""
        length, reads = way.length, way.reads
        if isinstance(reads, Refusal):
            exchange.asked = reads
            return
        chunked = length is None and scope["extensions"].get("tollgate.chunked")
        if reads:
            if (chunked or (length or 0) > UNASKED_BYTES) and (refusal := await _stranger(exchange)) is not None:
                exchange.asked = refusal  # which Identify is going to say as well
                return
            body = await _whole(receive, exchange.snapshot.judged_body_bytes, length)
            if isinstance(body, Refusal):
                exchange.asked = body
                return
            exchange.body = body
        elif chunked or length:
            exchange.body_bytes = length
            exchange.body_stream = upload(exchange, receive)
        exchange.asked = asked = exchange.protocol.classify(exchange)
        if not isinstance(asked, Refusal) and asked.traceparent:
            found = traced(asked.traceparent.encode("latin-1", "replace"))
            if found is not None:
                exchange.trace_id, exchange.parent_span_id = found

    async def refuse(self, exchange: Exchange, refusal: Refusal, send: Send) -> None:
        exchange.refusal = refusal
        status, headers, body = self._refusal(exchange, refusal)
        if exchange.head.method == "HEAD":
            headers = [(b"content-length", b"0"), *headers[1:]] if not body else headers
        await _reply(send, status, headers, body)

    def _refusal(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        status, headers, body = exchange.protocol.refuse(exchange, refusal)
        exchange.status = status
        names = {name for name, _ in headers}
        headers = [
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", exchange.id.encode()),
            *headers,
            *((name, value) for name, value in refusal.headers if name not in names),
            *exchange.limit_headers,
            *shared(exchange),
        ]
        if b"proxy-status" not in names and not any(name == b"proxy-status" for name, _ in refusal.headers):
            error = "proxy_internal_error" if refusal.reason is Reason.FAULT else "http_request_denied"
            headers.append((b"proxy-status", f'{PROXY}; error={error}; details="{refusal.reason}"'.encode()))
        if refusal.retry_after is not None and b"retry-after" not in names:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        if refusal.close:
            headers.append((b"connection", b"close"))
        return status, headers, body

    def _unusable(self, exchange: Exchange, error: Malformed | StoreFailed | UpstreamFailed) -> Refusal:
        name = exchange.upstream.name
        if isinstance(error, StoreFailed):
            exchange.result = "error"
            return store_refusal(error)
        if isinstance(error, UpstreamFailed):
            exchange.result = "timeout" if error.timeout else "upstream_gone"
        elif isinstance(error, Withheld):
            exchange.result = "error"
            return error.refusal
        else:
            exchange.result = "error"
            text = f"it answered what cannot be judged: {error}"
            error = UpstreamFailed(text, error="http_protocol_error", sent=True)
        return upstream_refusal(name, error, PROXY)

    async def _close(self, exchange: Exchange) -> None:
        """Settle first (synchronous, nothing can cut it), then let the connection go."""
        self._pipeline.settle(exchange)
        answer, exchange.answer = exchange.answer, None
        if answer is not None:
            await answer.aclose()


async def _stranger(exchange: Exchange) -> Refusal | None:
    """Whether nobody knows the caller: its body is not asked for, and no memory is given to it."""
    found = exchange.snapshot.authenticator.authenticate(exchange.head, exchange.route)
    known = await found if isinstance(found, Awaitable) else found
    return known if isinstance(known, Refusal) else None


async def _whole(receive: Receive, limit: int, declared: int | None) -> bytes | Refusal:
    """The body in one piece, at most `limit` bytes; larger ones are refused without being kept."""
    if declared is not None and declared > limit:
        return Refusal(Reason.TOO_LARGE, f"A judged body may have {limit} bytes", close=True)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        return body if len(body) <= limit else Refusal(Reason.TOO_LARGE, f"A judged body may have {limit} bytes")
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            if isinstance(spoiled := message.get("refusal"), Refusal):
                return spoiled  # the front found the body malformed, late or too large
            raise asyncio.CancelledError("the caller went away")
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            return Refusal(Reason.TOO_LARGE, f"A judged body may have {limit} bytes", close=True)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def _reply(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers, "whole": body})


async def _document(document: bytes, ident: str, send: Send, *, kept: bool) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(document)).encode()),
        (b"cache-control", b"max-age=300" if kept else b"no-store"),
        (b"access-control-allow-origin", b"*"),
        (b"x-request-id", ident.encode()),
    ]
    await _reply(send, 200, headers, document)
