"""A second engine that is asked on the side: compared, counted, listed, never obeyed and never waited for.

1. An exchange pays for a copy of what the second engine reads, and for nothing else: no wait, no task, no exception.
The copy is taken by value while the exchange stands still; what comes of it later is no exchange's business.
2. Copies wait in a queue with a bound on their number and their bytes. Where there is no room, or the body is larger
than `INPUT_BYTES`, the question is dropped and counted.
3. One background task asks, one question after the other, each with a deadline. Whatever the engine does then (hang,
raise, answer nonsense) is a `fault` in the count.
4. What is kept of a difference is bounded, and holds no argument: subject, action, resource, both decisions, a digest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json, digest
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint
from gateway.core.shadow import KINDS, Asked, Difference, DifferencePage, kinds_of
from gateway.core.sharing import among

INPUT_BYTES = 256 * 1024  # above it the copy itself would take the exchange a millisecond
QUEUE_BYTES = 32 * 1024 * 1024
KEPT = 1000  # different differences; some KiB each at most
NAME_CHARACTERS = 300
GRACE_S = 0.1  # an engine keeps its deadline itself, and learns from it; this is for one that does not
TEXT_CHARACTERS = 1000
OBLIGATION_BYTES = 4096

TOTALS = ("same", "different", "fault", "dropped", "skipped")

_log = logging.getLogger("tollgate.shadow")


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """`sample`: share of the exchanges whose questions are asked, from 0 to 1, chosen by the exchange's id. `queue`:
    how many questions may wait. `timeout_s`: a later answer is a fault."""

    sample: float = 1.0
    queue: int = 256
    timeout_s: float = 0.25


@dataclass(frozen=True, slots=True)
class _Question:
    shadow: Shadow
    asked: Asked
    copied: bytes
    enforced: Decision


class Comparisons:
    """The queue, the task and the list of a gateway: they outlive the snapshots whose engines are asked."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives epoch seconds."""
        self._now = now
        self._waiting: deque[_Question] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._totals = dict.fromkeys(TOTALS, 0)
        self._kinds = dict.fromkeys(KINDS, 0)
        self._kept: OrderedDict[tuple[object, ...], Difference] = OrderedDict()
        self._numbers = 0
        self.last_fault = ""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def totals(self) -> Mapping[str, int]:
        return dict(self._totals)

    def by_kind(self) -> Mapping[str, int]:
        return dict(self._kinds)

    def count(self, total: str) -> None:
        self._totals[total] += 1

    def has_room(self, queue: int) -> bool:
        return len(self._waiting) < queue and self._bytes < QUEUE_BYTES

    def put(self, question: _Question, queue: int) -> None:
        """2"""
        if question.enforced.fault:
            self.count("skipped")
        elif self.has_room(queue):
            self._waiting.append(question)
            self._bytes += len(question.copied)
            self._more.set()
        else:
            self.count("dropped")

    async def watch(self) -> None:
        """Runs until cancelled: the background task (3)."""
        while True:
            await self._more.wait()
            await self.drain()

    async def drain(self) -> None:
        """Asks all that waits. Never raises."""
        while self._waiting:
            question = self._waiting.popleft()
            self._bytes -= len(question.copied)
            if question.shadow.closed:
                self.count("dropped")
                continue
            answer = await self._answer(question)
            if isinstance(answer, Decision) and not answer.fault:
                self._compare(question, answer)
            else:
                self.count("fault")
                self.last_fault = (answer.rule if isinstance(answer, Decision) else answer)[:TEXT_CHARACTERS]
            await asyncio.sleep(0)  # an engine that answers at once must not keep exchanges from theirs
        self._more.clear()

    async def _answer(self, question: _Question) -> Decision | str:
        """The shadow's decision, or why there is none."""
        try:
            async with asyncio.timeout(question.shadow.settings.timeout_s + GRACE_S):
                answer = question.shadow.beside.decide(AccessRequest(orjson.loads(question.copied)))
                decision = await answer if isinstance(answer, Awaitable) else answer
                return decision if isinstance(decision, Decision) else "it answered nonsense"
        except TimeoutError:
            return "late"
        except Exception as error:  # noqa: BLE001 (a background loop: the shadow changes nothing, whatever it does)
            if self.last_fault != type(error).__name__:
                _log.warning("the shadow engine failed", exc_info=error)
            return type(error).__name__

    def _compare(self, question: _Question, decision: Decision) -> None:
        kinds = kinds_of(question.enforced, decision)
        self.count("different" if kinds else "same")
        if not kinds:
            return
        for kind in kinds:
            self._kinds[kind] += 1
        asked = replace(question.asked, digest=digest(question.copied))
        enforced, shadow = _shown(question.enforced), _shown(decision)
        key = (
            asked.subject, asked.action, asked.resource_type, asked.resource_id, asked.listing, kinds,
            enforced["rule"], enforced["revision"], shadow["effect"], shadow["rule"], shadow["revision"],
        )  # fmt: skip
        now, former = self._now(), self._kept.get(key)
        if former is not None:
            self._kept[key] = replace(
                former, asked=asked, enforced=enforced, shadow=shadow, count=former.count + 1, last=now
            )
            return
        self._numbers += 1
        self._kept[key] = Difference(self._numbers, asked, kinds, enforced, shadow, 1, now, now)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)  # 4

    def page(self, *, before: int | None, limit: int, kind: str | None, subject: str | None) -> DifferencePage:
        """Newest first."""
        found: list[Difference] = []
        for item in reversed(self._kept.values()):
            if before is not None and item.number >= before:
                continue
            if (kind is None or kind in item.kinds) and (subject is None or item.asked.subject == subject):
                if len(found) == limit:
                    return DifferencePage(tuple(found), found[-1].number)
                found.append(item)
        return DifferencePage(tuple(found), None)


class Shadow:
    """A DecisionPoint around the one in force, with another beside it. `inner` are those that it ends with itself."""

    def __init__(
        self, engine: DecisionPoint, beside: DecisionPoint, settings: ShadowSettings, comparisons: Comparisons
    ) -> None:
        self.engine: Final = engine
        self.beside: Final = beside
        self.settings: Final = settings
        self.closed = False  # nobody asks the second engine any more
        self.name = engine.name
        self.revision = engine.revision
        self.reads = engine.reads
        self._comparisons: Final = comparisons
        self._excerpts: Final = Excerpts(beside.reads, "excerpt beside")

    @property
    def inner(self) -> tuple[DecisionPoint, ...]:
        return (self.engine, self.beside)

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        copied = self._copied(request)
        answer = self.engine.decide(request)
        if copied is None:
            return answer
        if isinstance(answer, Decision):
            self._offer(copied, answer)
            return answer
        return self._later(answer, copied)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        copies = [self._copied(request, place) for place, request in enumerate(requests)]
        answers = self.engine.decide_many(requests)
        if isinstance(answers, list):
            self._offer_all(copies, answers)
            return answers
        return self._many(answers, copies)

    async def check(self) -> None:
        """The engine in force alone: nobody depends on the other."""
        await self.engine.check()

    async def _later(self, pending: Awaitable[Decision], copied: tuple[Asked, bytes]) -> Decision:
        answer = await pending
        self._offer(copied, answer)
        return answer

    async def _many(
        self, pending: Awaitable[list[Decision]], copies: Sequence[tuple[Asked, bytes] | None]
    ) -> list[Decision]:
        answers = await pending
        self._offer_all(copies, answers)
        return answers

    def _offer_all(self, copies: Sequence[tuple[Asked, bytes] | None], answers: Sequence[Decision]) -> None:
        for copied, answer in zip(copies, answers, strict=False):  # how many there must be is the caller's question
            if copied is not None:
                self._offer(copied, answer)

    def _offer(self, copied: tuple[Asked, bytes], answer: Decision) -> None:
        if isinstance(answer, Decision):
            self._comparisons.put(_Question(self, copied[0], copied[1], answer), self.settings.queue)

    def _copied(self, request: AccessRequest, place: int = 0) -> tuple[Asked, bytes] | None:
        """What is to be asked on the side, by value (1); None where it is not."""
        try:
            if not among(_sampled_by(request), "shadow", self.settings.sample):
                return None
            if _too_large(request) or not self._comparisons.has_room(self.settings.queue - place):
                self._comparisons.count("dropped")
                return None
            return _asked(request), self._excerpts.of(request)
        except Exception:  # noqa: BLE001 (rule 1: what cannot be copied for the side is no exchange's fault)
            self._comparisons.count("dropped")
            return None


def _sampled_by(request: AccessRequest) -> str:
    """All questions of an exchange are asked, or none; of a bare document, all of its subject."""
    if request.exchange is not None:
        return request.exchange.id
    return str(_member(request.document, "subject", "id"))


def _too_large(request: AccessRequest) -> bool:
    body = request.exchange.body if request.exchange is not None else None
    return body is not None and len(body) > INPUT_BYTES


def _asked(request: AccessRequest) -> Asked:
    exchange, call = request.exchange, request.call
    if exchange is None or call is None or exchange.principal is None:
        document = request.document
        return Asked(
            exchange="",
            subject=_cut(_member(document, "subject", "id")),
            action=_cut(_member(document, "action", "name")),
            resource_type=_cut(_member(document, "resource", "type")),
            resource_id=_cut(_member(document, "resource", "id")),
            listing=_member(document, "context", "listing") is True,
            digest="",
        )
    return Asked(
        exchange=exchange.id,
        subject=_cut(exchange.principal.id),
        action=_cut(call.action),
        resource_type=_cut(call.resource_type),
        resource_id=_cut(call.resource_id),
        listing=call.context.get("listing") is True,
        digest="",
    )


def _member(document: Mapping[str, Json], name: str, inner: str) -> Json:
    value = document.get(name)
    return value.get(inner, "") if isinstance(value, dict) else ""


def _cut(value: Json) -> str:
    return str(value)[:NAME_CHARACTERS]


def _shown(decision: Decision) -> dict[str, Json]:
    """As it is listed, bounded (4)."""
    obligations: list[Json] = [{"type": item.type, **item.values} for item in decision.obligations]
    try:
        large = len(orjson.dumps(obligations)) > OBLIGATION_BYTES
    except TypeError:
        large = True
    if large:
        obligations = [{"type": item.type[:NAME_CHARACTERS], "cut": True} for item in decision.obligations[:20]]
    return {
        "effect": "allow" if decision.allow is True else "deny",
        "reason": decision.reason[:TEXT_CHARACTERS],
        "rule": decision.rule[:TEXT_CHARACTERS],
        "obligations": obligations,
        "engine": decision.engine,
        "revision": decision.revision,
    }
