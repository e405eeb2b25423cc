"""What people and programs ask of policy through the admin plane: why it decided, and what it would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import Route as Way

from gateway.control.authzen import AuthZen
from gateway.control.decide import Decide
from gateway.control.explain import explain
from gateway.control.questions import Questions
from gateway.control.recent import Recent
from gateway.core.canonical import Json
from gateway.core.why import Whys


class Asking:
    def __init__(self, questions: Questions, whys: Whys, recent: Recent, public_url: str) -> None:
        self._whys = whys
        self._recent = recent
        self._decide = Decide(questions, whys)
        self._authzen = AuthZen(questions, public_url)

    def ways(self) -> list[Way]:
        return [*self._decide.ways(), *self._authzen.ways()]

    async def explanation(self, records: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """Of one exchange, by all its records, the oldest first."""
        times = self._recent.times(str(records[0].get("exchange", "")))
        found = explain(records, times)
        why = await self._whys.recorded(records)
        return found | {"why": why} if why else found
