"""The two records of an exchange: the intent before anything leaves, the terminal one when it is over.

1. Nothing is forwarded before its intent is durable (on a `standard` route: queued). 2. If nothing can be sequenced the
call is refused. 3. The terminal record joins the next commit; nobody waits for it, and recovery writes `unknown` if it
never gets there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from gateway.core import records
from gateway.core.drawing import Drawing
from gateway.core.exchange import Exchange
from gateway.core.ids import Ids
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Clock, RecordLog
from gateway.core.reasons import LogUnavailable, Malformed, Reason, Refusal

_log = logging.getLogger("tollgate.record")


class RecordIntent:
    name = "record"

    def __init__(self, log: RecordLog, drawing: Drawing, ids: Ids, clock: Clock) -> None:
        self._records = log
        self._drawing = drawing
        self._ids = ids
        self._clock = clock

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        try:
            ident, now = self._ids.new(), self._clock.time()
            record = self._drawing.intent(exchange, ident, now)
            whole = records.intent(exchange, ident, now) if record is None else record
            seq = self._records.submit(whole, plain=exchange.capture is None)
        except LogUnavailable as error:
            return _unavailable(error)
        exchange.intent_seq = seq
        return CONTINUE if exchange.route.audit == "standard" else self._durable(exchange, seq)

    async def _durable(self, exchange: Exchange, seq: int) -> Verdict:
        try:
            await self._records.sequenced(seq)
        except LogUnavailable as error:
            exchange.intent_seq = None
            return _unavailable(error)
        return CONTINUE


class RecordTerminal:
    name = "record"

    def __init__(self, log: RecordLog, drawing: Drawing, ids: Ids, clock: Clock) -> None:
        self._records = log
        self._drawing = drawing
        self._ids = ids
        self._clock = clock

    def __call__(self, exchange: Exchange) -> None:
        ident, now = self._ids.new(), self._clock.time()
        try:
            try:
                drawn = self._drawing.outcome(exchange, ident, now)
                whole = records.terminal(exchange, ident, now) if drawn is None else drawn
                self._records.submit(whole, plain=exchange.capture is None)
            except Malformed as error:  # whatever got in there, it takes nobody's outcome away
                _log.exception("the record of exchange %s is not one", exchange.id)
                self._records.submit(records.bare(exchange, ident, now, f"record: {error}"))
        except LogUnavailable as unavailable:
            # Recovery closes an intent that stays open as `unknown`; a refusal that nobody can write is told here.
            _log.error("no terminal record for exchange %s: %s", exchange.id, unavailable)


def _unavailable(error: LogUnavailable) -> Refusal:
    return Refusal(
        Reason.AUDIT_UNAVAILABLE, "The audit log cannot be written; nothing was forwarded", str(error), retry_after=1
    )
