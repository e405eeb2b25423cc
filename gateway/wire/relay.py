"""A caller's WebSocket and an upstream's, joined: message by message, each judged before it goes on.

Rules, numbered as in the code:
1. A message goes on only when whoever judges it says so, as it came: text stays text, bytes stay bytes.
2. The caller's right is asked for each message, and twice a second for sockets where nothing moves: one timer for all.
3. Each direction waits for its receiver, and neither for the other.
4. Whichever side ends first ends the other, with its code where a close frame may carry it. Both tasks are over and
   both sockets closed before `relay` returns, also when it is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakSet

from gateway.core.exchange import Header
from gateway.core.snapshot import Upstream
from gateway.wire.websocket import CLOSE_SECONDS, Closed, Declined, UpstreamSocket, connect, fitting, sendable

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TICK_SECONDS = 0.5  # a revocation reaches an idle socket within a second (ruling 4)
PING_SECONDS = 20.0  # between pings to a silent upstream, and how long its answer may take


@dataclass(frozen=True, slots=True)
class Forward:
    """The message goes on; `sent` is told whether it did."""

    sent: Callable[[bool], None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The message goes no further; its sender gets this text instead, nothing where it is empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """The message goes no further and both sockets are closed with this."""

    code: int
    reason: str


Verdict: TypeAlias = "Forward | Answer | Close"
Judge: TypeAlias = "Callable[[str | bytes], Awaitable[Verdict]]"


@dataclass(slots=True)
class Tally:
    """What went on, while it goes on: messages and payload bytes of each direction."""

    to_upstream: int = 0
    to_upstream_bytes: int = 0
    to_client: int = 0
    to_client_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """Who ended it (`client`, `upstream` or `gateway`) and how; `idle` when nothing moved for too long."""

    by: str
    code: int
    reason: str
    idle: bool = False


class WebSockets:
    """All open relays of the process. `tls` gives the context of an upstream (`Clients.tls`)."""

    def __init__(
        self,
        tls: Callable[[Upstream], ssl.SSLContext | None],
        *,
        max_message_bytes: int,
        entropy: Callable[[int], bytes] = os.urandom,
        tick_seconds: float = TICK_SECONDS,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self._tls = tls
        self._max_message_bytes = max_message_bytes
        self._entropy = entropy
        self._tick_seconds = tick_seconds
        self._ping_seconds = ping_seconds
        self._open: set[_Relay] = set()
        self._sockets: WeakSet[UpstreamSocket] = WeakSet()  # a relay's end does not wait for the upstream's goodbye
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def connect(
        self, upstream: Upstream, target: str, headers: Sequence[Header], subprotocols: Sequence[str]
    ) -> UpstreamSocket | Declined:
        """As `websocket.connect`."""
        found = await connect(
            upstream, target, headers, subprotocols,
            tls=self._tls(upstream), max_message_bytes=self._max_message_bytes, entropy=self._entropy,
        )  # fmt: skip
        if isinstance(found, UpstreamSocket):
            self._sockets.add(found)
        return found

    async def relay(
        self,
        receive: Receive,
        send: Send,
        socket: UpstreamSocket,
        *,
        headers: Sequence[Header],
        on_client_message: Judge,
        on_upstream_message: Judge,
        barred: Callable[[], str],
        tally: Tally,
        idle_seconds: float | None = None,
    ) -> Ended:
        """Accepts the caller's upgrade with `headers` and the upstream's subprotocol; joins the two until one ends.
        `barred` tells why the caller's right to the socket is gone, "" while it is there.

        Raises what a judge raises, after closing both with 1011."""
        relay = _Relay(receive, send, socket, on_client_message, on_upstream_message, barred, tally, idle_seconds)
        self._open.add(relay)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)
        try:
            return await relay.run(headers)
        finally:
            self._open.discard(relay)
            if not self._open and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def sweep(self) -> None:
        """Asks now for every open socket (2): called by the timer, and by whoever revokes and does not want to wait."""
        now = asyncio.get_running_loop().time()
        for relay in tuple(self._open):
            relay.look(now, self._ping_seconds)

    async def aclose(self) -> None:
        """Nobody is waited for any more: the process ends."""
        for socket in tuple(self._sockets):
            socket.abort()
        await asyncio.sleep(0)  # lets the transports close

    def close(self) -> None:
        """Ends all of them with 1012: the drain period is over."""
        for relay in tuple(self._open):
            relay.finish(Ended("gateway", 1012, "the gateway restarts"))

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)
        self.sweep()


class _Relay:
    __slots__ = ("_barred", "_down", "_ended", "_idle", "_moved", "_pinged", "_receive", "_send", "_socket", "_tally",
                 "_up")  # fmt: skip

    def __init__(
        self, receive: Receive, send: Send, socket: UpstreamSocket, up: Judge, down: Judge, barred: Callable[[], str],
        tally: Tally, idle: float | None,
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self._receive = receive
        self._send = send
        self._socket = socket
        self._up = up
        self._down = down
        self._barred = barred
        self._tally = tally
        self._idle = idle
        self._moved = loop.time()  # the last message in either direction
        self._pinged = socket.touched
        self._ended: asyncio.Future[Ended] = loop.create_future()

    async def run(self, headers: Sequence[Header]) -> Ended:
        tasks: list[asyncio.Task[None]] = []
        closing = Ended("gateway", 1011, "the gateway failed")
        try:
            accept = {"type": "websocket.accept", "subprotocol": self._socket.subprotocol, "headers": list(headers)}
            if await self._tell(accept):
                directions = (self._upwards(), self._downwards())
                tasks = [asyncio.get_running_loop().create_task(self._guarded(each)) for each in directions]
            closing = await self._ended
            return closing
        except asyncio.CancelledError:
            closing = Ended("gateway", 1001, "")
            raise
        finally:  # 4
            for task in tasks:
                task.cancel()
            self._socket.close(closing.code, closing.reason)
            if tasks:
                await asyncio.wait(tasks)
                await self._say_goodbye(closing)

    def finish(self, ended: Ended) -> None:
        """The first word stands."""
        if not self._ended.done():
            self._ended.set_result(ended)

    def look(self, now: float, ping_seconds: float) -> None:
        socket = self._socket
        if why := self._barred():  # 2
            self.finish(Ended("gateway", 1008, why))
        elif self._idle is not None and now - self._moved > self._idle:
            self.finish(Ended("gateway", 1001, "idle for too long", idle=True))
        elif not socket.held and now - max(socket.touched, self._pinged) > ping_seconds:
            if self._pinged > socket.touched:
                self.finish(Ended("upstream", 1006, "no sign of life"))
            else:
                self._pinged = now
                socket.ping()

    async def _guarded(self, direction: Awaitable[None]) -> None:
        try:
            await direction
        except Exception as error:  # noqa: BLE001 (a background loop: `run` raises it)
            if not self._ended.done():
                self._ended.set_exception(error)

    async def _tell(self, event: MutableMapping[str, Any]) -> bool:
        """One event for the caller; False when it is gone, which is what the server raises OSError for."""
        try:
            await self._send(event)
        except OSError:
            self.finish(Ended("client", 1006, ""))
            return False
        return True

    async def _upwards(self) -> None:
        tally, socket = self._tally, self._socket
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                code = event.get("code")
                self.finish(Ended("client", 1005 if code is None else code, event.get("reason") or ""))
                return
            if event["type"] != "websocket.receive":
                continue
            text = event.get("text")
            message: str | bytes = text if text is not None else event["bytes"]
            verdict = await self._judged(self._up, message)
            if isinstance(verdict, Forward):  # 1
                went = await socket.send(message)
                if verdict.sent is not None:
                    verdict.sent(went)
                if not went:
                    return  # the other direction says how it ended
                tally.to_upstream += 1
                tally.to_upstream_bytes += _size(message)
            elif isinstance(verdict, Answer):
                if verdict.text:
                    await self._tell({"type": "websocket.send", "text": verdict.text})
            else:
                return

    async def _downwards(self) -> None:
        tally, socket = self._tally, self._socket
        while True:
            message = await socket.receive()
            if isinstance(message, Closed):
                self.finish(Ended("upstream", message.code, message.reason))
                return
            verdict = await self._judged(self._down, message)
            if isinstance(verdict, Forward):
                kind = "text" if isinstance(message, str) else "bytes"
                if not await self._tell({"type": "websocket.send", kind: message}):
                    return
                tally.to_client += 1
                tally.to_client_bytes += _size(message)
            elif isinstance(verdict, Answer):
                await socket.send(verdict.text)
            else:
                return

    async def _judged(self, judge: Judge, message: str | bytes) -> Verdict:
        """Anything but Forward and Answer has ended the relay when it comes back; no verdict is a fault."""
        self._moved = asyncio.get_running_loop().time()
        if why := self._barred():  # 2
            self.finish(Ended("gateway", 1008, why))
            return Close(1008, "")
        verdict = await judge(message)
        if isinstance(verdict, Close):
            self.finish(Ended("gateway", verdict.code, verdict.reason))
        elif not isinstance(verdict, Forward | Answer):
            raise TypeError("a message was judged without a verdict")
        return verdict

    async def _say_goodbye(self, ended: Ended) -> None:
        """The caller's half, in bounded time: it may not be reading, or be gone already."""
        if ended.by == "client":
            return
        code = ended.code if sendable(ended.code) else (1000 if ended.code == 1005 else 1014)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send({"type": "websocket.close", "code": code, "reason": fitting(ended.reason)})
        except (OSError, RuntimeError):  # TimeoutError is one; so is what the server raises when the caller is gone
            pass


def _size(message: str | bytes) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())
