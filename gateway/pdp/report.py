"""Report mode: decisions are made and recorded as they are, and a no of the policy is not obeyed.

The rule: this only says so on the decision (`mode: report`); who obeys decisions reads it there. It changes no answer.
A fault of the engine stays what it is, a refusal: an engine that cannot answer has not said what it would deny.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Final

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint


class Reporting:
    """A DecisionPoint around another."""

    def __init__(self, engine: DecisionPoint) -> None:
        self.engine: Final = engine
        self.name = engine.name
        self.revision = engine.revision
        self.reads = engine.reads

    @property
    def inner(self) -> tuple[DecisionPoint, ...]:
        return (self.engine,)

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        answer = self.engine.decide(request)
        return _reported(answer) if isinstance(answer, Decision) else self._later(answer)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        answers = self.engine.decide_many(requests)
        return [_reported(answer) for answer in answers] if isinstance(answers, list) else self._many(answers)

    async def check(self) -> None:
        await self.engine.check()

    async def _later(self, pending: Awaitable[Decision]) -> Decision:
        return _reported(await pending)

    async def _many(self, pending: Awaitable[list[Decision]]) -> list[Decision]:
        return [_reported(answer) for answer in await pending]


def _reported(decision: Decision) -> Decision:
    return replace(decision, mode="report")
