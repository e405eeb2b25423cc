"""Engines that do what a test says, and a shadow beside one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint
from gateway.pdp.shadow import Comparisons, Shadow, ShadowSettings

YES = Decision(True, "may", "all", "first", "r1")
NO = Decision(False, "may not", "none", "second", "r2")


class Saying:
    """A DecisionPoint whose answers are a test's; it keeps the documents it was asked about."""

    def __init__(
        self, answer: Callable[[AccessRequest], Any] | Decision, name: str = "said", reads: Any = frozenset({()})
    ) -> None:
        self.answer = answer
        self.name = name
        self.revision = f"of {name}"
        self.reads = reads
        self.asked: list[Any] = []

    def decide(self, request: AccessRequest) -> Any:
        self.asked.append(request.document)
        return self.answer if isinstance(self.answer, Decision) else self.answer(request)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        return [self.decide(request) for request in requests]

    async def check(self) -> None:
        return None


def beside(engine: DecisionPoint, second: DecisionPoint, **settings: Any) -> tuple[Shadow, Comparisons]:
    comparisons = Comparisons(lambda: 1_700_000_000.0)
    return Shadow(engine, second, ShadowSettings(**settings), comparisons), comparisons


def listed(comparisons: Comparisons, **wanted: Any) -> list[Any]:
    whole = {"before": None, "limit": 500, "kind": None, "subject": None} | wanted
    return list(comparisons.page(**whole).differences)
