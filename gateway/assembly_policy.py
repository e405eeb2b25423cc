"""What decides, put together: from the policy section of the configuration to an engine, and when an engine ends.

Called from app.py, assembly.py and cli/; like them it may import every room. The rule it keeps: an engine is closed
when the last snapshot that stands on it is gone, and never earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from gateway import config
from gateway.assembly_candidates import inner_engines
from gateway.assembly_engines import remote_engine
from gateway.core.obligations import FULFILLED
from gateway.core.ports import DecisionPoint
from gateway.core.snapshot import Snapshot
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.remote import RemoteEngine
from gateway.pdp.shadow import Shadow
from gateway.pdp.sources import PolicySource, read_folder

ReadPolicy: TypeAlias = "Callable[[config.Policy], PolicySource]"


def make_engine(settings: config.Policy, *, apart: bool = False, source: ReadPolicy | None = None) -> DecisionPoint:
    """The engine that is configured: the embedded one over a folder of policy, or over what `source` gives (`apart`:
    always in a process of its own), or one that is asked over a network. Raises PolicyRefused, OSError, what `source`
    raises; RuntimeError for an extra that lacks."""
    if settings.engine != "embedded":
        return remote_engine(settings, FULFILLED)
    own = EmbeddedSettings(deadline_s=settings.timeout)
    policy = source(settings) if source is not None else read_folder(settings.bundle)
    return EmbeddedEngine(policy, replace(own, in_process_bytes=0) if apart else own)


async def close_engine(engine: DecisionPoint) -> None:
    """Ends what an engine has running (its child process, where its policy needs one), and those within it."""
    for inner in inner_engines(engine):
        await close_engine(inner)
    if isinstance(engine, Shadow):
        engine.closed = True
    if isinstance(engine, EmbeddedEngine | RemoteEngine):
        await engine.aclose()


async def start_engine(engine: DecisionPoint) -> None:
    """Waits for what it runs; a shadow's second engine is begun and not waited for. Raises EngineFault."""
    for inner in inner_engines(engine):
        if not (isinstance(engine, Shadow) and inner is engine.beside):
            await start_engine(inner)
        elif isinstance(inner, EmbeddedEngine):
            inner.start()
    if isinstance(engine, EmbeddedEngine):
        await engine.started()


class Engines:
    """The engines of the running snapshot and of former ones. An exchange pins its snapshot from its first byte to its
    last: an engine is closed when nothing holds a snapshot of its any more."""

    def __init__(self, note: Callable[[DecisionPoint], None] = lambda engine: None) -> None:
        """`note` is told each engine that is about to decide."""
        self._note = note
        self._open: dict[DecisionPoint, int] = {}  # how many snapshots stand on it
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self, snapshot: Snapshot) -> None:
        """Waits for what the engine runs (a child process, where the policy needs one): the first call must not be late
        for it. Raises EngineFault."""
        engine = snapshot.engine
        self._open[engine] = self._open.get(engine, 0) + 1
        weakref.finalize(snapshot, self._unused, asyncio.get_running_loop(), engine).atexit = False
        await start_engine(engine)
        self._note(engine)

    async def aclose(self) -> None:
        for engine in list(self._open):
            await self._close(engine)
        await asyncio.gather(*self._closing)

    def _unused(self, loop: asyncio.AbstractEventLoop, engine: DecisionPoint) -> None:
        """Called wherever the last reference went, perhaps when the loop is over."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end, engine)

    def _end(self, engine: DecisionPoint) -> None:
        left = self._open.get(engine, 0) - 1
        if left > 0:
            self._open[engine] = left
            return
        task = asyncio.get_running_loop().create_task(self._close(engine))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, engine: DecisionPoint) -> None:
        self._open.pop(engine, None)
        await close_engine(engine)
