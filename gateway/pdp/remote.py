"""An engine that is asked over a network, as a DecisionPoint: what all of them have in common.

The rules:
1. A question is made whole before the first wait; then its answer is there within the deadline, or it is a deny.
2. Whatever goes wrong (down, slow, nonsense) is a Decision marked `fault`, whose `rule` says what went wrong and whose
   reason tells the caller nothing of the engine.
3. A breaker stands before it: while the engine is known to fail, the answer is that deny, at once.
4. A list is one question with one deadline: it counts as failed for the breaker only if none of it was answered, so
   that an upstream's long list cannot cut everybody off.
5. No decision is kept: nobody here can promise that the same question would be answered the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as Port
from typing import TypeAlias

from gateway.core.access import AccessRequest
from gateway.core.breaking import Breaker, BreakerSettings, End, State
from gateway.core.canonical import Json, digest
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from gateway.pdp.answer import Reader

CANNOT_ANSWER = "The policy engine cannot answer"
WAS_LATE = "The policy engine did not answer in time"
NOT_SHOWN = "The request cannot be shown to the policy engine"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said, in the form that policies answer in (contract, section 5). `id` is the engine's own name for
    this decision, `revision` that of the policy it was made of, where it says so."""

    value: Json = None
    undefined: bool = False
    id: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no answer, for the record. `sick`: it tells something about the engine, not about the question."""

    why: str
    sick: bool = True


LATE = Unanswered("late")

Found: TypeAlias = "list[Answer | Unanswered]"
Ask: TypeAlias = "Callable[[Found], Awaitable[None]]"
"""Fills in one answer for each question, in their order. What it did not come to stays as it was. Raises nothing but
CancelledError: every failure is an Unanswered."""


class Asker(Port):
    """One engine's protocol (opa.py, cerbos.py, authzen.py)."""

    name: str

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        """The questions in the engine's form; `documents` are theirs as JSON. Does not wait. Raises TypeError or
        ValueError for what it cannot take."""
        ...

    async def check(self) -> None:
        """Returns when the engine says that it can decide. Raises EngineFault."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """`revision` names what is asked, where an answer names none; `obligations` as for the embedded engine."""

    revision: str
    deadline_s: float = 0.25
    obligations: frozenset[str] = frozenset()
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class RemoteEngine:
    """A DecisionPoint. Nothing is asked when it is made."""

    def __init__(
        self, asker: Asker, settings: RemoteSettings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = asker.name
        self.revision = settings.revision
        self.reads: frozenset[tuple[str, ...]] = frozenset({()})
        self._asker = asker
        self._excerpts = Excerpts(self.reads)
        self._settings = settings
        self._reader = Reader(self.name, self.revision, settings.obligations)
        self._breaker = Breaker(settings.breaker)
        self._monotonic = monotonic
        self._last = ""

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        found = self._question((request,))
        return found if isinstance(found, Decision) else self._one(*found)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        if not requests:
            return []
        found = self._question(requests)
        if isinstance(found, Decision):
            return [found] * len(requests)
        return self._asked(*found)

    async def check(self) -> None:
        if self._breaker.state(self._monotonic()) is State.OPEN:
            raise EngineFault(f"{self.name} does not answer ({self._last}); it is asked again in a moment")
        try:
            async with asyncio.timeout(max(self._settings.deadline_s, CHECK_SECONDS)):
                await self._asker.check()
        except TimeoutError:
            raise EngineFault(f"{self.name} does not answer") from None

    async def aclose(self) -> None:
        await self._asker.aclose()

    def breaker(self) -> State:
        """For metrics."""
        return self._breaker.state(self._monotonic())

    def _question(self, requests: Sequence[AccessRequest]) -> tuple[Ask, list[str]] | Decision:
        """How to ask, and the digests of what is asked, which records have."""
        try:
            documents = [self._excerpts.of(request) for request in requests]
            return self._asker.prepare(requests, documents), [digest(document) for document in documents]  # 1
        except (TypeError, ValueError) as error:
            return self._reader.fault(NOT_SHOWN, f"input: {error}", 0.0)

    async def _one(self, ask: Ask, inputs: list[str]) -> Decision:
        return (await self._asked(ask, inputs))[0]

    async def _asked(self, ask: Ask, inputs: list[str]) -> list[Decision]:
        started = self._monotonic()
        admitted = self._breaker.admit(started)
        if admitted is None:  # 3
            closed = self._reader.fault(CANNOT_ANSWER, f"breaker_open: {self._last}", 0.0)
            return [replace(closed, input=name) for name in inputs]
        found: Found = [LATE] * len(inputs)
        end = End.UNKNOWN
        try:
            try:
                async with asyncio.timeout(self._settings.deadline_s):
                    await ask(found)
            except TimeoutError:
                pass  # what is missing is late
            end = self._end(found)
        finally:
            self._breaker.ended(admitted, end, self._monotonic())
        ms = (self._monotonic() - started) * 1000
        return [self._decision(item, name, ms) for item, name in zip(found, inputs, strict=True)]

    def _end(self, found: Found) -> End:
        if any(isinstance(item, Answer) for item in found):
            return End.ANSWERED  # 4
        sick = [item.why for item in found if isinstance(item, Unanswered) and item.sick]
        if sick:
            self._last = sick[0]
        return End.FAILED if sick else End.UNKNOWN

    def _decision(self, found: Answer | Unanswered, name: str, ms: float) -> Decision:
        if isinstance(found, Unanswered):
            fault = self._reader.fault(WAS_LATE if found is LATE else CANNOT_ANSWER, found.why, ms)  # 2
            return replace(fault, input=name)
        decision = self._reader.undefined(ms) if found.undefined else self._reader.read(found.value, ms)
        return replace(decision, input=name, id=found.id, revision=found.revision or decision.revision)


CHECK_SECONDS = 2.0  # a health question may take longer than a decision; readiness has a deadline of its own
