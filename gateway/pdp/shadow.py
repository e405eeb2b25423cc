"""A second engine that is asked on the side: compared, counted, listed, never obeyed and never waited for.

1. An exchange pays for a copy of what the second engine reads, and for nothing else: no wait, no task, no exception.
The copy is taken by value while the exchange stands still; what comes of it later is no exchange's business.
2. Copies wait in a queue with a bound on their number and their bytes. Where there is no room, or the body is larger
than `INPUT_BYTES`, the question is dropped and counted.
3. One background task asks, one question after the other, each with a deadline. Whatever the engine does then (hang,
raise, answer nonsense) is a `fault` in the count.
4. What is kept of a difference is bounded: subject, action, resource, both decisions, the input's digest. Of the input
itself there is what the route's records hold of theirs, masked like theirs (`audit.capture`): by default nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

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
KEPT_INPUT_BYTES = 8192

Keep: TypeAlias = "Callable[[str, Mapping[str, Json], int], dict[str, Json]]"
"""What may be kept of an input of so many bytes at the level shape or full (core/capture.py)."""

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
        """`now` gives epoch seconds. `keep` is to be set before inputs can be kept."""
        self._now = now
        self.keep: Keep | None = None
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
            await self._settle(question)
            await asyncio.sleep(0)  # an engine that answers at once must not keep exchanges from theirs
        self._more.clear()

    async def _settle(self, question: _Question) -> None:
        """Asks one question and notes what came of it (3)."""
        try:
            async with asyncio.timeout(question.shadow.settings.timeout_s + GRACE_S):
                answer = question.shadow.beside.decide(AccessRequest(orjson.loads(question.copied)))
                decision = await answer if isinstance(answer, Awaitable) else answer
            if isinstance(decision, Decision) and not decision.fault:
                self._compare(question, decision)
                return
            why = decision.rule if isinstance(decision, Decision) else "it answered nonsense"
        except TimeoutError:
            why = "late"
        except Exception as error:  # noqa: BLE001 (a background loop: the shadow changes nothing, whatever it does)
            why = type(error).__name__
            if self.last_fault != why:
                _log.warning("the shadow engine failed", exc_info=error)
        self.count("fault")
        self.last_fault = why[:TEXT_CHARACTERS]

    def _compare(self, question: _Question, decision: Decision) -> None:
        kinds = kinds_of(question.enforced, decision)
        if not kinds:
            self.count("same")
            return
        self._keep(question, kinds, decision)
        self.count("different")
        for kind in kinds:
            self._kinds[kind] += 1

    def _keep(self, question: _Question, kinds: tuple[str, ...], decision: Decision) -> None:
        asked = replace(question.asked, digest=digest(question.copied))
        enforced, shadow = _shown(question.enforced), _shown(decision)
        key = (
            asked.subject, asked.action, asked.resource_type, asked.resource_id, asked.listing, kinds,
            enforced["rule"], enforced["revision"], shadow["effect"], shadow["rule"], shadow["revision"],
        )  # fmt: skip
        now, former = self._now(), self._kept.get(key)
        if former is None:
            self._numbers += 1
            former = Difference(self._numbers, asked, kinds, enforced, shadow, 0, now, now)
        self._kept[key] = replace(
            former, asked=asked, enforced=enforced, shadow=shadow, count=former.count + 1, last=now,
            input=self._input(asked, question.copied),
        )  # fmt: skip
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)  # 4

    def _input(self, asked: Asked, copied: bytes) -> dict[str, Json] | None:
        """4"""
        if asked.capture == "none" or self.keep is None:
            return None
        found = self.keep(asked.capture, orjson.loads(copied), len(copied))
        if len(orjson.dumps(found)) > KEPT_INPUT_BYTES:
            return {"level": asked.capture, "left_out": f"it would have more than {KEPT_INPUT_BYTES} bytes"}
        return found

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
            copied = self._excerpts.of(request)
            if len(copied) > INPUT_BYTES:
                self._comparisons.count("dropped")
                return None
            return _asked(request), copied
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
        capture=exchange.route.capture,
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
