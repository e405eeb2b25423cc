"""The pipeline: the only loop through which a request passes.

1. `admit` asks each stage in order. A stage answers CONTINUE or a Refusal; anything else, `None` and exceptions
   included, is a fault and refuses: a forgotten `return` fails closed.
2. A stage that must wait returns an awaitable; one that need not is a plain call and costs no task switch.
3. `settle` always runs every one of its stages, shielded from cancellation, whatever happened before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Final, Literal, TypeAlias
from typing import Protocol as Port

from gateway.core.exchange import Exchange
from gateway.core.reasons import Reason, Refusal


class _Verdict(Enum):
    CONTINUE = "continue"


CONTINUE: Final = _Verdict.CONTINUE
Verdict: TypeAlias = "Literal[_Verdict.CONTINUE] | Refusal"

_log = logging.getLogger("tollgate.pipeline")


class Stage(Port):
    """One step. `name` is what faults and metrics call it."""

    name: str

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]: ...


class Settler(Port):
    """One closing step: never refuses, always runs."""

    name: str

    def __call__(self, exchange: Exchange) -> None: ...


class Pipeline:
    """`admit` before anything leaves, `settle` when the exchange is over."""

    __slots__ = ("admit_stages", "settle_stages")

    def __init__(self, admit: Sequence[Stage], settle: Sequence[Settler]) -> None:
        self.admit_stages = tuple(admit)
        self.settle_stages = tuple(settle)

    async def admit(self, exchange: Exchange) -> Refusal | None:
        """None when every stage continued: `exchange.answer` is there. Else the refusal, also on the exchange."""
        for stage in self.admit_stages:
            try:
                verdict = stage(exchange)
                if verdict is CONTINUE:
                    continue
                if not isinstance(verdict, Refusal):
                    verdict = await verdict  # what cannot be waited for is a TypeError: a fault
                    if verdict is CONTINUE:
                        continue
            except asyncio.CancelledError:
                if exchange.result == "ok":
                    exchange.result = "client_gone"
                raise
            except Exception as error:  # noqa: BLE001 (rule 1: a fault refuses)
                return self.faulted(exchange, stage.name, error)
            if not isinstance(verdict, Refusal):
                return self.faulted(exchange, stage.name, TypeError("no verdict"))
            exchange.refusal = verdict
            exchange.stopped = stage.name
            return verdict
        return None

    def faulted(self, exchange: Exchange, where: str, error: Exception) -> Refusal:
        """What an exception is for the caller: `fault`. The record keeps its place and kind; its text, which may quote
        what it failed on, is for the operator's log line only."""
        _log.error("%s failed on exchange %s", where, exchange.id, exc_info=error)
        exchange.fault = f"{where}: {type(error).__name__}"
        if exchange.result == "ok":
            exchange.result = "error"
        refusal = Refusal(Reason.FAULT, "The gateway failed; the exchange is recorded", rule=where)
        exchange.refusal = refusal
        exchange.stopped = where
        return refusal

    def settle(self, exchange: Exchange) -> None:
        """Synchronous on purpose: nothing can cancel it half way. Waiting for durability is nobody's business here."""
        for stage in self.settle_stages:
            try:
                stage(exchange)
            except Exception:  # noqa: BLE001 (rule 3)
                _log.exception("settling %s failed on exchange %s", stage.name, exchange.id)
