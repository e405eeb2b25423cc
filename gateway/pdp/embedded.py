"""The embedded Rego engine: a DecisionPoint that answers in the gateway's own process.

The rules:
1. The engine is given the excerpt of the question that the policy can read (reads.py), as bytes; a kept decision is
found by the same bytes. So a decision is a function of its key, and what the key lacks cannot have mattered.
2. Always bytes, never Python objects: the engine's own conversion ends the process on a lone surrogate.
3. A policy that is not bounded, and an input above `in_process_bytes`, is evaluated in a child that can be killed
(isolated.py): then `decide` returns an awaitable. In process, an answer after the deadline is a deny, and a policy that
was late `LATE` times goes to the child from then on.
4. One engine per thread: it must not be used, nor let go, in another.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.core.access import AccessRequest
from gateway.core.canonical import digest
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Decision
from gateway.core.obligations import FULFILLED
from gateway.core.reasons import EngineFault
from gateway.pdp.answer import Reader
from gateway.pdp.compiled import Compiled, compile_source, engine_text, new_engine, prepare
from gateway.pdp.isolated import IsolatedEngine
from gateway.pdp.sources import PolicySource
from gateway.pdp.trace import Trace, trace

RULE = "data.tollgate.decision"
RECENT = 256
LATE = 3  # one late answer may be the machine's fault

_UNDEFINED = '"<undefined>"'

_FAILED = "The policy could not be evaluated"
_WAS_LATE = "The policy engine did not answer in time"
_NOT_JSON = "The request cannot be shown to the policy engine"


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """`obligations`: the types that the stages behind Decide fulfil; any other is a deny that names it. An input above
    `in_process_bytes` goes to the child, because one loop over it would already take milliseconds. Kept decisions:
    at most `cache_entries`, none with a key above `cache_key_bytes`; 0 entries keeps none."""

    deadline_s: float = 0.25
    obligations: frozenset[str] = FULFILLED
    in_process_bytes: int = 16 * 1024
    cache_entries: int = 8192
    cache_key_bytes: int = 2048


@dataclass(frozen=True, slots=True)
class Evaluation:
    """For `doctor`: where a policy is evaluated and what is kept, each with its causes. `reads` are dotted paths."""

    where: str  # "in process" | "child process"
    because: tuple[str, ...]
    kept: bool
    not_kept_because: tuple[str, ...]
    reads: tuple[str, ...]


class EmbeddedEngine:
    """A DecisionPoint. Raises PolicyRefused when made; afterwards every failure is a Decision that denies."""

    name = "embedded"

    def __init__(
        self,
        policy: Compiled | PolicySource,
        settings: EmbeddedSettings | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or EmbeddedSettings()
        self._policy = policy if isinstance(policy, Compiled) else compile_source(policy)
        self.revision = self._policy.source.revision
        self.reads = self._policy.reads
        self._reader = Reader(self.name, self.revision, self._settings.obligations)
        self._excerpts = Excerpts(self.reads)
        self._cache: OrderedDict[bytes, Decision] = OrderedDict()
        self._recent: deque[tuple[str, bytes]] = deque(maxlen=RECENT)  # inputs whose decisions are not kept
        self._keeps = not self._policy.uncached and self._settings.cache_entries > 0
        self._here_bytes = 0 if self._policy.isolate else self._settings.in_process_bytes
        self._late = 0
        self._threads = threading.local()
        self._isolated: IsolatedEngine | None = None
        self._monotonic = monotonic

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        found = self._ready(request)
        return found if isinstance(found, Decision) else self._apart(found, self._settings.deadline_s)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        """Decisions in order. Those that need the child share one deadline: a list is one answer to one caller."""
        found = [self._ready(request) for request in requests]
        decided = [item for item in found if isinstance(item, Decision)]
        return decided if len(decided) == len(found) else self._many(found)

    def evaluation(self) -> Evaluation:
        """Which path this policy takes and why."""
        because = self._policy.isolate
        if self._late >= LATE:
            because = (*because, f"it was late {self._late} times in process")
        kept = self._keeps
        why = self._policy.uncached or (() if kept else ("cache_entries is 0",))
        reads = tuple(".".join(("input", *path)) for path in sorted(self.reads))
        return Evaluation("child process" if because else "in process", because, kept, why, reads)

    def given(self, name: str) -> bytes | None:
        """The input of that digest, where it was one of the last: for people who ask why. Looks through all of them."""
        recent = next((key for known, key in self._recent if known == name), None)
        return recent or next((key for key, kept in self._cache.items() if kept.input == name), None)

    @property
    def source(self) -> PolicySource:
        return self._policy.source

    @property
    def obligations(self) -> frozenset[str]:
        return self._settings.obligations

    def trace(self, request: AccessRequest) -> Trace:
        """How a decision comes about, for people. Evaluates in this process whatever the policy: not for requests."""
        return trace(self._policy, request, RULE)

    def start(self) -> None:
        """Starts the child ahead of the first request, where there is going to be one. Needs a running loop."""
        if self._here_bytes == 0:
            self._child().start()

    async def started(self) -> None:
        """As `start`, and waits for the child. Raises EngineFault."""
        if self._here_bytes == 0:
            await asyncio.shield(self._child().start())

    async def check(self) -> None:
        """In process there is nothing that could be missing; the child is started again where it is gone."""
        if self._here_bytes == 0:
            await self._child().check()

    async def aclose(self) -> None:
        """Ends the child, where there is one, and this thread's engine (4). What needs the child is then denied."""
        self._threads.__dict__.clear()
        if self._isolated is not None:
            await self._isolated.aclose()

    def _ready(self, request: AccessRequest) -> Decision | bytes:
        """The decision, or the input that must go to the child for it."""
        try:
            key = self._excerpts.of(request)
        except TypeError as error:
            return self._reader.fault(_NOT_JSON, f"input: {error}", 0.0)
        if self._keeps:
            kept = self._cache.get(key)
            if kept is not None:
                self._cache.move_to_end(key)
                return kept
        return self._here(key) if len(key) <= self._here_bytes else key

    def _here(self, key: bytes) -> Decision:
        return self._kept(key, self._evaluated(key))

    def _evaluated(self, key: bytes) -> Decision:
        engine = self._engine()
        started = self._monotonic()
        try:
            engine.set_input_json(key.decode())  # 2
            answer: str = engine.eval_rule_as_json(RULE)
        except RuntimeError as error:
            return self._reader.fault(_FAILED, f"error: {engine_text(error)}", self._ms(started))
        except BaseException as fault:  # noqa: BLE001 (the engine's panics are no subclass of Exception)
            return self._panicked(fault, started)
        took = self._monotonic() - started
        if took > self._settings.deadline_s:
            self._note_late()
            return self._reader.fault(_WAS_LATE, "late", took * 1000)
        return self._read(answer, took * 1000)

    def _panicked(self, error: BaseException, started: float) -> Decision:
        """The engine is in an unknown state: the thread gets another. What is no panic goes on its way."""
        if type(error).__name__ != "PanicException":
            raise error
        self._threads.__dict__.pop("engine", None)
        return self._reader.fault(_FAILED, f"panic: {engine_text(error)}", self._ms(started))

    async def _apart(self, key: bytes, within_s: float) -> Decision:
        started = self._monotonic()
        try:
            answer = await self._child().ask(key, within_s=within_s)
        except EngineFault as error:
            late = error.args[0] == "late"
            rule = "late" if late else f"error: {engine_text(error)}"
            return self._kept(key, self._reader.fault(_WAS_LATE if late else _FAILED, rule, self._ms(started)))
        return self._kept(key, self._read(answer.decode(), self._ms(started)))

    async def _many(self, found: Sequence[Decision | bytes]) -> list[Decision]:
        ends = self._monotonic() + self._settings.deadline_s
        return [
            item if isinstance(item, Decision) else await self._apart(item, ends - self._monotonic()) for item in found
        ]

    def _read(self, answer: str, ms: float) -> Decision:
        if answer == _UNDEFINED:
            return self._reader.undefined(ms)
        try:
            return self._reader.read(orjson.loads(answer), ms)
        except ValueError as error:
            return self._reader.fault(_FAILED, f"error: {error}", ms)

    def _kept(self, key: bytes, decision: Decision) -> Decision:
        """What was decided of this input, named by its digest; kept, so that finding it again costs nothing."""
        object.__setattr__(decision, "input", digest(key))  # new and nobody else's yet; a copy costs five digests
        if self._keeps and not decision.fault and len(key) <= self._settings.cache_key_bytes:
            self._cache[key] = replace(decision, ms=0.0)
            if len(self._cache) > self._settings.cache_entries:
                self._cache.popitem(last=False)
        elif len(key) <= self._settings.in_process_bytes:
            self._recent.append((decision.input, key))
        return decision

    def _engine(self) -> regorus.Engine:
        engine: regorus.Engine | None = self._threads.__dict__.get("engine")
        if engine is None:
            engine = new_engine(self._policy.source.modules, self._policy.source.data)
            prepare(engine)
            self._threads.engine = engine
        return engine

    def _child(self) -> IsolatedEngine:
        if self._isolated is None:
            self._isolated = IsolatedEngine(self._policy.source, RULE, deadline_s=self._settings.deadline_s)
        return self._isolated

    def _note_late(self) -> None:
        self._late += 1
        if self._late >= LATE:
            self._here_bytes = 0  # 3

    def _ms(self, started: float) -> float:
        return (self._monotonic() - started) * 1000
