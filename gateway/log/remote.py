"""The log from a worker: records go to the process that owns the sequencer, and durability comes back.

1. A record is made canonical where it came up; the owner puts `node` and `seq` in and nothing else. So a record that
   has no canonical form is the worker's fault, at once.
2. `submit` gives a ticket of the worker's own; tickets are never in a record. `sequenced` must be called in the same
   step of the loop, so that the owner learns with the record whether somebody waits for it.
3. Whoever waits is told `durable` after the owner's fsync, or `refused`: then the record is not in the log.
4. What nobody waits for was promised: the owner takes it also while its disk is away. So that no new call is let
   through then, it tells the weather, and `submit` refuses everything but outcomes.
5. Without its owner a worker's log is unavailable, for good.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from typing import Final

from gateway.core import posting
from gateway.core.canonical import Json
from gateway.core.drawing import Drawn
from gateway.core.posting import Post
from gateway.core.reasons import LogUnavailable, Malformed
from gateway.log.entry import encode

KINDS: Final = ("intent", "outcome", "refusal", "admin", "activation", "recovery")
BACKLOG_BYTES: Final = 32 * 1024 * 1024  # that the owner has not read yet; beyond it nobody is let through
_OF_AN_EXCHANGE: Final = frozenset({"intent", "outcome"})
_HEAD: Final = struct.Struct(">BBHII")  # waited for, kind; lengths of exchange, before, middle


class _Sent:
    """A record on its way."""

    __slots__ = ("drawn", "ticket", "waited")

    def __init__(self, ticket: int, drawn: Drawn) -> None:
        self.ticket: Final = ticket
        self.drawn: Final = drawn
        self.waited = False


class RemoteLog:
    """Implements `RecordLog`. Belongs to one event loop."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._next = 1
        self._out: list[_Sent] = []
        self._waiting: OrderedDict[int, asyncio.Future[None]] = OrderedDict()
        self._down = ""
        self._lost = False
        post.told(posting.DURABLE, self._durable)
        post.told(posting.REFUSED, self._refused)
        post.told(posting.WEATHER, self._weather)

    @property
    def healthy(self) -> bool:
        return not self._down

    @property
    def unsequenced(self) -> int:
        """Records that somebody waits for."""
        return len(self._waiting)

    def submit(self, record: dict[str, Json] | Drawn, *, plain: bool = False) -> int:
        drawn = record if isinstance(record, Drawn) else parted(record, plain=plain)
        if self._lost or (drawn.kind != "outcome" and (self._down or self._post.backlog > BACKLOG_BYTES)):
            raise LogUnavailable(self._down or "more records are waiting to be written than the queue holds")  # 4
        ticket = self._next
        self._next = ticket + 1
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(_Sent(ticket, drawn))
        return ticket

    async def sequenced(self, seq: int) -> None:
        if not self._out or seq < self._out[0].ticket:
            raise LogUnavailable("nobody waited for this record when it was sent")  # 2
        self._out[seq - self._out[0].ticket].waited = True
        future = self._waiting[seq] = self._loop.create_future()
        await future

    def flush(self) -> None:
        """What was submitted goes out."""
        out, self._out = self._out, []
        for sent in out:
            self._post.tell(posting.RECORD, sent.ticket, packed(sent.drawn, waited=sent.waited))

    def lost(self) -> None:
        """5."""
        self._lost, self._down = True, "the process that writes the audit log is gone"
        waiting, self._waiting = self._waiting, OrderedDict()
        for future in waiting.values():
            if not future.done():
                future.set_exception(LogUnavailable(self._down))

    def _durable(self, number: int, said: bytes) -> None:
        waiting = self._waiting
        while waiting:
            ticket = next(iter(waiting))
            if ticket > number:
                return
            future = waiting.pop(ticket)
            if not future.done():
                future.set_result(None)

    def _refused(self, number: int, said: bytes) -> None:
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_exception(LogUnavailable(said.decode()))

    def _weather(self, number: int, said: bytes) -> None:
        if not self._lost:
            self._down = said.decode()


def parted(record: dict[str, Json], *, plain: bool = False) -> Drawn:
    """The canonical form of a record with the gaps where `node` and `seq` go (1). Raises Malformed. Names of members
    are ASCII here, whose order is RFC 8785's."""
    kind, exchange = record.get("kind"), record.get("exchange", "")
    if kind not in KINDS or type(exchange) is not str or (not exchange and kind in _OF_AN_EXCHANGE):
        raise Malformed(f"a record of kind {kind!r} with exchange {exchange!r}")
    whole = {**record, "v": 1}
    before = {name: value for name, value in whole.items() if name < "node"}
    middle = {name: value for name, value in whole.items() if "node" < name < "seq"}
    after = {name: value for name, value in whole.items() if name > "seq"}
    parts = encode(before, plain=plain), encode(middle, plain=plain) if middle else b"", encode(after, plain=plain)
    # `kind` and `v` are always there, so the first and the last part are never empty
    return Drawn(str(kind), exchange, parts[0][:-1] + b",", parts[1][1:-1] or b"", b"," + parts[2][1:])


def packed(drawn: Drawn, *, waited: bool) -> bytes:
    exchange = drawn.exchange.encode()
    kind = KINDS.index(drawn.kind)
    head = _HEAD.pack(waited, kind, len(exchange), len(drawn.before), len(drawn.middle))
    return b"".join((head, exchange, drawn.before, drawn.middle, drawn.after))


def unpacked(said: bytes) -> tuple[Drawn, bool]:
    """And whether somebody waits for it. Raises ValueError."""
    try:
        waited, kind, named, before, middle = _HEAD.unpack_from(said)
        ends = [_HEAD.size + named]
        ends.append(ends[0] + before)
        ends.append(ends[1] + middle)
        if ends[2] > len(said):
            raise ValueError("a record that ends before its end")
        exchange = said[_HEAD.size : ends[0]].decode("ascii")
        drawn = Drawn(KINDS[kind], exchange, said[ends[0] : ends[1]], said[ends[1] : ends[2]], said[ends[2] :])
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"no record: {error}") from None
    return drawn, bool(waited)
