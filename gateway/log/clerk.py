"""The owner's side of log/remote.py: takes one worker's records down, and closes what a dead worker left open.

1. A record goes to the sequencer as it came; the worker is told once it is durable, or that it is not in the log.
2. What nobody waits for was promised: it is kept while the disk is away.
3. Of each exchange whose intent is there and whose terminal record is not, the intent is remembered. When the worker is
   gone these are closed as `unknown`, once, as recovery would (recovery.py).
4. What a worker says that is no record ends its connection, and with it the worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gateway.core import posting
from gateway.core.canonical import Json
from gateway.core.drawing import Drawn
from gateway.core.posting import Post
from gateway.core.reasons import LogUnavailable, Malformed
from gateway.log.recovery import closing
from gateway.log.remote import unpacked
from gateway.log.writer import Sequencer

_log = logging.getLogger("tollgate.log")


class _Open:
    """The intent of an exchange that is not over."""

    __slots__ = ("drawn", "seq")

    def __init__(self, seq: int, drawn: Drawn) -> None:
        self.seq: Final = seq
        self.drawn: Final = drawn


class LogClerk:
    """One worker's. `over` is told of each exchange whose terminal record was taken."""

    def __init__(self, log: Sequencer, post: Post, over: Callable[[str], None]) -> None:
        self._records = log
        self._post = post
        self._over = over
        self._weather = ""
        self.open: dict[str, _Open] = {}
        post.told(posting.RECORD, self._record)

    def weather(self) -> None:
        """To be called often: tells the worker when the log begins or ceases to take records."""
        now = self._records.refusing
        if now != self._weather:
            self._weather = now
            self._post.tell(posting.WEATHER, 0, now.encode())

    def intents(self) -> list[tuple[str, int, dict[str, Any]]]:
        """3: of what is open, exchange, seq and intent, in the order of the log."""
        found = sorted(self.open.items(), key=lambda item: item[1].seq)
        return [(exchange, one.seq, one.drawn.record()) for exchange, one in found]

    def close(self, closed: Callable[[dict[str, Json]], dict[str, Json]]) -> list[dict[str, Json]]:
        """3, when nothing more can come. `closed` completes each closing record; they are given back as written."""
        made: list[dict[str, Json]] = []
        for _, seq, intent in self.intents():
            record = closed(closing(intent, seq))
            made.append(dict(record))
            try:
                self._records.submit(record, promised=True)
            except LogUnavailable as error:  # the next start finds the intent open, and closes it
                _log.error("no outcome for exchange %s: %s", intent.get("exchange"), error)
        self.open.clear()
        return made

    def _record(self, number: int, said: bytes) -> None:
        drawn, waited = unpacked(said)
        try:
            seq = self._records.submit(drawn, promised=not waited)
            durable = self._records.durable(seq) if waited and seq >= self._records.size else None
        except (LogUnavailable, Malformed) as error:
            if not waited:
                _log.error("no %s for exchange %s: %s", drawn.kind, drawn.exchange, error)
            self._post.tell(posting.REFUSED, number, str(error).encode())
            self.weather()
            return
        if drawn.kind == "intent":
            self.open[drawn.exchange] = _Open(seq, drawn)
        elif drawn.exchange and drawn.kind != "recovery":
            self.open.pop(drawn.exchange, None)
            self._over(drawn.exchange)
        if durable is not None:
            durable.add_done_callback(partial(self._answered, number, drawn.exchange))
        elif waited:
            self._post.tell(posting.DURABLE, number, b"")

    def _answered(self, number: int, exchange: str, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None:
            self._post.tell(posting.DURABLE, number, b"")
        else:
            self.open.pop(exchange, None)  # it was dropped: it has never been
            self._post.tell(posting.REFUSED, number, str(error).encode())
            self.weather()
