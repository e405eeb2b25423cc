"""Replays beside a running gateway: the command line's own replay, in a process of its own.

1. One at a time. It has SECONDS, MEMORY_BYTES and a low priority; it is killed when it is stopped, when its time is
   over and when the gateway goes. 2. It is given files and public keys, and none of the gateway's environment. 3. The
   candidate lies in a folder of the data directory while it runs, and is taken away afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.core.bundles import BundleStore
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.records import timestamp
from gateway.core.whatif import ReplayBusy

SECONDS: Final = 900.0
MEMORY_BYTES: Final = 2 * 1024**3
RESULT_BYTES: Final = 16 * 1024 * 1024
REMEMBERED: Final = 16  # the last ones, with what they found
_LINE_BYTES: Final = 64 * 1024
_PACKAGES: Final = str(Path(__file__).resolve().parent.parent)
_RUN: Final = (
    "import os, resource, sys; os.nice(10);"
    f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}));"
    "from gateway.cli.main import main; main()"
)


@dataclass(slots=True)
class _Job:
    began: str
    state: str = "running"
    progress: dict[str, Json] = field(default_factory=dict)
    result: dict[str, Json] | None = None
    error: str = ""
    task: asyncio.Task[None] | None = None

    def document(self, ident: str) -> dict[str, Json]:
        found: dict[str, Json] = {"id": ident, "state": self.state, "began": self.began}
        if self.progress:
            found["progress"] = self.progress
        if self.result is not None:
            found["result"] = self.result
        if self.error:
            found["error"] = self.error
        return found


class ChildReplays:
    """ReplayJobs. `keys` are the log's vkeys as this gateway knows them."""

    def __init__(self, data_dir: Path, keys: Callable[[], list[str]], ids: Ids, clock: Clock) -> None:
        self._data_dir = data_dir
        self._keys = keys
        self._ids = ids
        self._clock = clock
        self._jobs: dict[str, _Job] = {}

    async def begin(self, tarball: bytes, asked: Mapping[str, str]) -> str:
        for ident, job in self._jobs.items():
            if job.state == "running":  # 1
                raise ReplayBusy(f"replay {ident} is under way: wait for it, or end it with DELETE")
        ident = self._ids.new()
        job = self._jobs[ident] = _Job(timestamp(self._clock.time()))
        while len(self._jobs) > REMEMBERED:
            del self._jobs[next(iter(self._jobs))]
        options = [part for name, value in asked.items() for part in (f"--{name}", value)]
        job.task = asyncio.create_task(self._run(ident, job, tarball, options), name="replay")
        return ident

    def shown(self, ident: str) -> dict[str, Json] | None:
        job = self._jobs.get(ident)
        return job.document(ident) if job is not None else None

    async def stop(self, ident: str) -> None:
        job = self._jobs.get(ident)
        if job is not None and job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])

    async def aclose(self) -> None:
        for ident in list(self._jobs):
            await self.stop(ident)

    async def _run(self, ident: str, job: _Job, tarball: bytes, options: list[str]) -> None:
        folder = self._data_dir / f"replay-{ident}"
        laid = asyncio.ensure_future(asyncio.to_thread(_lay, folder, tarball))
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(laid)
                await self._child(job, folder / "candidate.tar.gz", options)
        except TimeoutError:
            job.state, job.error = "failed", f"it was not over within {SECONDS:.0f} s: take a shorter time, or a sample"
        except asyncio.CancelledError:
            job.state = "stopped"
            raise
        except Exception as error:  # noqa: BLE001 (a background job: its failure is what it answers)
            job.state, job.error = "failed", str(error)
        finally:
            await asyncio.gather(laid, return_exceptions=True)  # a thread cannot be stopped: it would lay it down later
            shutil.rmtree(folder, ignore_errors=True)  # 3

    async def _child(self, job: _Job, bundle: Path, options: list[str]) -> None:
        arguments = ["replay", "--bundle", str(bundle), "--data-dir", str(self._data_dir), "--json", "--progress"]
        arguments += [part for key in self._keys() for part in ("--key", key)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _RUN, *arguments, *options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.defpath, "PYTHONPATH": _PACKAGES, "LANG": "C.UTF-8"}, limit=_LINE_BYTES,  # 2
        )  # fmt: skip
        try:
            said, told = await asyncio.gather(_all(child.stdout), self._told(job, child.stderr))
            code = await child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()  # 1
            await asyncio.shield(child.wait())
        if code != 0:
            job.state, job.error = "failed", told or f"the replay ended with {code}"
            return
        job.result = {name: value for name, value in orjson.loads(said).items() if name != "exceeded"}
        job.state = "done"

    async def _told(self, job: _Job, lines: Any) -> str:
        """Takes progress as it comes; the last error is what it says in the end."""
        told = ""
        async for line in lines:
            try:
                found = orjson.loads(line)
            except ValueError:
                told = line.decode("utf-8", "replace").strip()[:1000] or told
                continue
            if isinstance(found, dict) and isinstance(found.get("progress"), dict):
                job.progress = found["progress"]
            elif isinstance(found, dict) and "error" in found:
                told = str(found["error"])[:1000]
        return told


def newest_of(store: BundleStore) -> Callable[[str], bytes | None]:
    """The bundle of a name with the highest number."""

    def newest(name: str) -> bytes | None:
        kept = store.kept(name)
        return store.tarball(kept[0].digest) if kept else None

    return newest


def _lay(folder: Path, tarball: bytes) -> None:
    folder.mkdir(mode=0o700)
    (folder / "candidate.tar.gz").write_bytes(tarball)


async def _all(stream: Any) -> bytes:
    found = bytearray()
    while chunk := await stream.read(65_536):
        found += chunk
        if len(found) > RESULT_BYTES:
            raise ValueError(f"the result is larger than {RESULT_BYTES} bytes")
    return bytes(found)
