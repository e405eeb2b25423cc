"""WebSockets through the pipeline: the opening is an exchange, and so is each message that policy judges (ruling 14).

1. The upstream is asked before the caller is upgraded; what it declines, the caller gets as an HTTP answer.
2. A judged message is a child exchange with the newest Snapshot. It is recorded before it goes on, and settled whatever
   becomes of it. A denied JSON-RPC request is answered in place; what cannot be answered closes the socket.
3. The caller's right to the open socket is asked for each message and twice a second (relay.py).
4. A judged message is charged as a call of its own. All others count as bytes of the opening: where a budget has no
   room for one, it is not passed on, and the socket is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from gateway.core.exchange import Call, Exchange, Header
from gateway.core.ids import Ids
from gateway.core.pipeline import Pipeline
from gateway.core.ports import Answered, Clock, Messages
from gateway.core.reasons import Reason, Refusal, UpstreamFailed
from gateway.core.snapshot import Snapshot
from gateway.wire.ration import grown
from gateway.wire.relay import Answer, Close, Forward, Tally, Verdict, WebSockets
from gateway.wire.streams import Streams
from gateway.wire.websocket import Declined, UpstreamSocket

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class Sockets:
    """Opens upstream sockets for the Forward stage and relays them once the caller is upgraded."""

    def __init__(
        self,
        *,
        relays: WebSockets,
        messages: Mapping[str, Messages],
        request_headers: Callable[[Exchange], list[Header]],
        answer_headers: Callable[[Exchange, Answered], list[Header]],
        pipeline: Pipeline,
        current: Callable[[], Snapshot],
        streams: Streams,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._relays = relays
        self._messages = messages
        self._request_headers = request_headers
        self._answer_headers = answer_headers
        self._pipeline = pipeline
        self._current = current
        self._streams = streams
        self._ids = ids
        self._clock = clock

    async def connect(self, exchange: Exchange, target: str) -> None:
        """Puts the upstream's socket on the exchange, or its answer that declined. Raises UpstreamFailed."""
        if exchange.protocol.name not in self._messages:
            raise UpstreamFailed("it speaks no WebSocket", error="http_upgrade_failed", sent=False)
        offered: list[str] = []
        for value in exchange.head.values(b"sec-websocket-protocol"):
            offered += [item.strip() for item in value.decode("latin-1").split(",") if item.strip()]
        found = await self._relays.connect(exchange.upstream, target, self._request_headers(exchange), offered)
        if isinstance(found, Declined) and found.status == 401 and exchange.upstream.source is not None:
            exchange.upstream.source.rejected(exchange)
        exchange.socket = found
        exchange.upstream_address = found.address

    async def __call__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        socket = exchange.socket
        if isinstance(socket, Declined):
            await self._declined(exchange, socket, send)
            return
        if not isinstance(socket, UpstreamSocket):
            raise RuntimeError("there is no socket to relay")
        tally = Tally()
        exchange.status = 101
        talk = _Talk(self, exchange, self._messages[exchange.protocol.name])
        try:
            ended = await self._relays.relay(
                receive,
                send,
                socket,
                headers=self._answer_headers(exchange, socket),
                on_client_message=talk.from_client,
                on_upstream_message=talk.from_upstream if exchange.charges else _pass,
                barred=lambda: self._streams.ended(exchange),
                tally=tally,
                idle_seconds=exchange.upstream.timeouts.stream_idle,
            )
        finally:
            talk.close()
            exchange.usage.calls = max(1, tally.to_upstream)
            if not exchange.charges:  # else they were counted, without those of judged messages (4)
                exchange.usage.bytes_in, exchange.usage.bytes_out = tally.to_upstream_bytes, tally.to_client_bytes
        if ended.by == "upstream" and ended.code == 1006:
            exchange.result = "upstream_gone"
        elif ended.by == "client" and ended.code == 1006:
            exchange.result = "client_gone"  # without a close frame
        elif ended.by == "gateway":
            exchange.result = "timeout" if ended.idle else "error"
            if exchange.refusal is None:
                exchange.fault = f"closed by the gateway: {ended.code} {ended.reason}"

    def child(self, parent: Exchange, asked: Call | Refusal, body: bytes) -> Exchange:
        """A message as an exchange of its own, by the rules in force now."""
        snapshot, ident = self._current(), self._ids.new()
        route = snapshot.routes.match(parent.head.authority, parent.head.path)
        upstream = snapshot.upstreams.get(route.upstream) if route is not None else None
        if route is None or route.name != parent.route.name or upstream is None or not upstream.means(parent.upstream):
            asked = Refusal(
                Reason.ROUTE_UNKNOWN, "This route was taken away, or led elsewhere, while the socket was open"
            )
        child = Exchange(
            id=ident,
            time=self._clock.time(),
            started=self._clock.monotonic(),
            head=parent.head,
            snapshot=snapshot,
            route=parent.route,
            upstream=parent.upstream,
            protocol=parent.protocol,
            parent=parent.id,
            body=body,
            asked=asked,
            principal=parent.principal,
            trace_id=parent.trace_id,
            span_id=ident.replace("-", "")[16:],
            parent_span_id=parent.span_id,
        )
        child.held = parent.places
        return child

    async def admit(self, exchange: Exchange) -> Refusal | None:
        return await self._pipeline.admit(exchange)

    def settle(self, exchange: Exchange) -> None:
        self._pipeline.settle(exchange)

    async def _declined(self, exchange: Exchange, answer: Declined, send: Send) -> None:
        exchange.status = answer.status
        exchange.usage.bytes_out = len(answer.body)
        headers = [pair for pair in self._answer_headers(exchange, answer) if pair[0] not in _FRAMING]
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": answer.body})


class _Talk:
    """The caller's half of one open socket. `_open` is the message that is on its way: at most one (relay, rule 3)."""

    __slots__ = ("_asking", "_messages", "_open", "_parent", "_sockets")

    def __init__(self, sockets: Sockets, parent: Exchange, messages: Messages) -> None:
        self._sockets = sockets
        self._parent = parent
        self._messages = messages
        self._open: Exchange | None = None
        self._asking = asyncio.Lock()  # both directions grow one reservation

    async def from_client(self, message: str | bytes) -> Verdict:
        asked = self._messages.classify_message(self._parent, message)
        if asked is None:
            return await self._room(0, _size(message)) if self._parent.charges else Forward()
        body = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
        child = self._open = self._sockets.child(self._parent, asked, body)
        child.result = "client_gone"  # until it is known better
        refusal = await self._sockets.admit(child)
        if refusal is None:
            child.sent = True
            return Forward(self._sent)
        child.status = refusal.http_status
        text = self._messages.refuse_message(child, refusal)
        self.close()
        if text is None:
            return Close(self._messages.close_code(refusal), refusal.text)
        return Answer(text)

    async def from_upstream(self, message: str | bytes) -> Verdict:
        return await self._room(_size(message), 0)

    async def _room(self, out: int, back: int) -> Verdict:
        """Whether a budget of the opening has room for so many bytes to the caller, or from it (4)."""
        parent, usage = self._parent, self._parent.usage
        async with self._asking:
            usage.bytes_out += out
            usage.bytes_in += back
            refusal = await grown(parent)
            if refusal is None:
                return Forward()
            usage.bytes_out -= out
            usage.bytes_in -= back
        parent.refusal, parent.stopped = refusal, "answer"
        return Close(self._messages.close_code(refusal), refusal.text)

    def _sent(self, done: bool) -> None:
        if self._open is not None:
            self._open.sent = done
            self._open.result = "ok" if done else "upstream_gone"
            self._open.status = 101
        self.close()

    def close(self) -> None:
        """Settles what is still open. Idempotent."""
        child, self._open = self._open, None
        if child is not None:
            self._sockets.settle(child)


async def _pass(message: str | bytes) -> Verdict:
    """What the upstream says is counted by the relay; its right was judged when the socket was opened."""
    return Forward()


def _size(message: str | bytes) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode("utf-8", "surrogatepass"))
