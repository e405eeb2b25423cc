"""A caller who leaves before its answer is over, where the upstream is to be read on for what it says of its usage.

1. Only what was forwarded is read on; a request that was not is given up as ever. 2. The exchange goes on in its own
task, with its place and its reservation; what it sends is dropped by the front. 3. It ends with the answer, after
`drain_bytes` more of it (answers.py counts), or after `drain_for` seconds, whatever comes first. 4. It is recorded as
`client_gone`, with what the caller got of it and what the upstream said it used.
It must never keep an exchange open that nobody would ever end.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from gateway.core.exchange import Exchange


class Left:
    """Around one exchange, in its task. `goes_on` is asked once, when the caller is gone."""

    __slots__ = ("_exchange", "_task", "_timer")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Final = exchange
        self._task: Final = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None

    def goes_on(self) -> bool:
        exchange, task = self._exchange, self._task
        if exchange.intent_seq is None or exchange.result != "ok" or task is None:  # 1
            return False
        exchange.left = True
        exchange.result = "client_gone"  # 4
        self._timer = asyncio.get_running_loop().call_later(exchange.upstream.drain_for, task.cancel)  # 3
        return True

    def __enter__(self) -> Left:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
