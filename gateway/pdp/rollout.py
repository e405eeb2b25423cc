"""A candidate that decides for a stable share of the subjects, while the rest stays with the policy in force.

1. Who decides for a subject follows from its id, the salt and the share alone: each of its calls and each item of its
   lists is decided by the same one. All anonymous callers are one subject. 2. A share that grows takes nobody back.
3. Every decision says whose it is by its engine and revision. 4. The candidate's faults are refusals like any other:
   nobody is quietly given to the other engine, which would answer by a policy that the subject is not under.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint
from gateway.core.sharing import among


class Rollout:
    """A DecisionPoint over two. `share` is from 0 to 1; name and revision are those of the policy in force."""

    def __init__(self, current: DecisionPoint, candidate: DecisionPoint, share: float, salt: str) -> None:
        self.current: Final = current
        self.candidate: Final = candidate
        self.share: Final = share
        self.salt: Final = salt
        self.name = current.name
        self.revision = current.revision
        self.reads = current.reads | candidate.reads | {("subject", "id")}

    @property
    def inner(self) -> tuple[DecisionPoint, ...]:
        return (self.current, self.candidate)

    def chosen(self, subject: str) -> DecisionPoint:
        """Who decides for this subject (1)."""
        return self.candidate if among(subject, self.salt, self.share) else self.current

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        return self.chosen(subject_of(request)).decide(request)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        chosen = [self.chosen(subject_of(request)) for request in requests]
        if all(engine is chosen[0] for engine in chosen):
            return chosen[0].decide_many(requests) if chosen else []
        # Questions of several subjects, which only programs that ask for others put together. All are handed over
        # before the first wait: an engine takes a question while its exchange stands still.
        answers: list[tuple[list[int], list[Decision] | Awaitable[list[Decision]]]] = []
        for engine in self.inner:
            places = [place for place, other in enumerate(chosen) if other is engine]
            answers.append((places, engine.decide_many([requests[place] for place in places])))
        return _joined(answers)

    async def check(self) -> None:
        """Ready when both are: each has subjects that nobody else decides for."""
        await asyncio.gather(self.current.check(), self.candidate.check())


async def _joined(answers: Sequence[tuple[list[int], list[Decision] | Awaitable[list[Decision]]]]) -> list[Decision]:
    """In the order in which was asked."""
    found: dict[int, Decision] = {}
    for places, answer in answers:
        decisions = answer if isinstance(answer, list) else await answer
        found.update(zip(places, decisions, strict=True))
    return [found[place] for place in sorted(found)]


def subject_of(request: AccessRequest) -> str:
    """The id of whom a question is about; "" where a document has none."""
    if request.exchange is not None and request.exchange.principal is not None:
        return request.exchange.principal.id
    subject = request.document.get("subject")
    ident = subject.get("id") if isinstance(subject, dict) else None
    return ident if isinstance(ident, str) else ""
