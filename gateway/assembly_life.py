"""What a gateway does besides its exchanges: opens its log, runs its jobs, notes what is in force, says how it is.

The rule: a job that fails once is not over, and what came into force or was refused is a record (ruling 26); where that
cannot be written the operator's log line says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from gateway import config
from gateway.assembly_candidates import activated
from gateway.assembly_keys import log_keys
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.reasons import LogUnavailable
from gateway.core.records import timestamp
from gateway.core.snapshot import Snapshot
from gateway.log.writer import LogSettings, Sequencer
from gateway.trust.keys import KeyRing

Job: TypeAlias = "tuple[str, Coroutine[Any, Any, None]]"
"""What runs beside the exchanges, by name."""
_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")

_log = logging.getLogger("tollgate")


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.time = time.time
        self.monotonic = time.monotonic


def open_log(
    settings: config.Settings,
    ring: KeyRing,
    node: str,
    *,
    clock: Clock,
    ids: Ids,
    listener: Callable[[list[tuple[int, bytes]]], None],
    observe_append: Callable[[float], None],
) -> Sequencer:
    """Raises what the Sequencer raises."""
    checkpoint = settings.audit.checkpoint
    return Sequencer(
        settings.data_dir,
        node=node,
        key=log_keys(ring, node),
        clock=clock,
        ids=ids,
        settings=LogSettings(checkpoint_records=checkpoint.records, checkpoint_seconds=checkpoint.every),
        listener=listener,
        observe_append=observe_append,
    )


def recorded_origin(data_dir: Path) -> str | None:
    """The name this data directory's log was begun with."""
    path = data_dir / "log" / "origin"
    return path.read_text().strip() if path.exists() else None


def log_status(log: Sequencer) -> dict[str, Json]:
    return {
        "size": log.size,
        "published": log.published.size,
        "pending": log.pending,
        "unsequenced": log.unsequenced,
        "checkpoint_age_ms": int(log.checkpoint_age * 1000),
        "healthy": log.healthy,
    }


def log_standing(log: Sequencer) -> tuple[int, int, bool]:
    """How many records are durable, how many were submitted, whether it takes more."""
    return log.size, log.size + log.unsequenced, log.healthy


async def in_thread(job: Callable[_Given, _Found], *given: _Given.args, **named: _Given.kwargs) -> _Found:
    """What may make policy engines and fail: an engine may only be let go in the thread that made it."""

    def cleared() -> _Found:
        try:
            return job(*given, **named)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            raise

    return await asyncio.to_thread(cleared)


async def every(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await job()
        except Exception:  # noqa: BLE001 (a background loop: one failure must not end it)
            _log.exception("a background job failed")


def begun(jobs: Iterable[Job]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(job, name=name) for name, job in jobs]


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """None of them runs any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def note_activation(log: Sequencer, snapshot: Snapshot, effect: str, why: str, *, ids: Ids, clock: Clock) -> None:
    """`snapshot` is the one in force then, also where another was refused."""
    record: dict[str, Json] = {
        "activation": {
            "effect": effect,
            **activated(snapshot.engine),
            "revision": snapshot.revision,
            "why": why[:2000],
            **({"prices": snapshot.prices.revision} if snapshot.prices.listed else {}),
        },
        "id": ids.new(),
        "kind": "activation",
        "time": timestamp(clock.time()),
    }
    try:
        log.submit(record)
    except LogUnavailable as error:
        _log.error("no record of the activation (%s): %s", effect, error)
