"""Evaluation in a child process that is killed at the deadline: the only way to stop the engine.

1. One child, one question at a time; who waits in line waits within their own deadline.
2. A question that was begun and not finished, for whatever reason (late, cancelled, garbage), ends the child: its
answer can never be taken for another's. Answers carry their question's number besides.
3. A killed child is started again at once, so that the next question does not pay for the last one.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import orjson

from gateway.core.reasons import EngineFault
from gateway.pdp.sources import PolicySource

_HEADER = struct.Struct(">IQc")
_SCRIPT = Path(__file__).with_name("child.py")

START_S = 20.0  # a new interpreter, the engine, and up to 64 MiB of data
MEMORY_BYTES = 1024 * 1024 * 1024
ANSWER_BYTES = 1024 * 1024


class IsolatedEngine:
    """`ask` gives the engine's answer as JSON text. Belongs to one event loop; `aclose` ends the child."""

    __slots__ = ("_closed", "_deadline_s", "_lock", "_number", "_policy", "_process", "_starting")

    def __init__(self, source: PolicySource, rule: str, *, deadline_s: float) -> None:
        modules = [[module.path, module.text] for module in source.modules]
        data = orjson.dumps(source.data).decode()
        self._policy = orjson.dumps({"modules": modules, "data": data, "rule": rule})
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._starting: asyncio.Task[Process] | None = None
        self._process: Process | None = None
        self._number = 0
        self._closed = False

    def start(self) -> asyncio.Task[Process]:
        """Begins to start the child, unless it is there or on its way."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        return self._starting

    async def ask(self, document: bytes, *, within_s: float) -> bytes:
        """Raises EngineFault: late, ended, or the engine's own error."""
        try:
            async with asyncio.timeout(within_s), self._lock:
                process = await self._ready()
                whole = False
                try:
                    self._number += 1
                    kind, answer = await self._exchange(process, self._number, document)
                    whole = True
                finally:
                    if not whole:
                        self._end(process)  # 2
        except TimeoutError:
            raise EngineFault("late") from None
        if kind != b"A":
            raise EngineFault(answer.decode("utf-8", "replace"))
        return answer

    async def aclose(self) -> None:
        self._closed = True
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()  # a start that failed has nobody left to tell
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _ready(self) -> Process:
        if self._closed:
            raise EngineFault("the policy engine was closed")
        starting = self.start()
        try:
            return await asyncio.shield(starting)
        except EngineFault:
            if self._starting is starting:
                self._starting = None  # the next question tries again
            raise

    async def _start(self) -> Process:
        old, self._process = self._process, None
        if old is not None:
            await old.communicate()  # reaps it
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(_SCRIPT), str(self._deadline_s), str(MEMORY_BYTES),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=ANSWER_BYTES, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise EngineFault(f"the policy engine's process cannot be started: {error.strerror}") from None
        self._process = process
        try:
            async with asyncio.timeout(START_S):
                await self._exchange(process, 0, self._policy)
        except TimeoutError:
            process.kill()
            raise EngineFault("the policy engine's process did not start in time") from None
        return process

    async def _exchange(self, process: Process, number: int, payload: bytes) -> tuple[bytes, bytes]:
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise EngineFault("the policy engine's process has no pipes")
        try:
            stdin.write(_HEADER.pack(len(payload), number, b"I"))
            stdin.write(payload)
            await stdin.drain()
            length, answered, kind = _HEADER.unpack(await stdout.readexactly(_HEADER.size))
            if answered != number or length > ANSWER_BYTES:
                raise EngineFault("the policy engine's process answered out of turn")
            return kind, await stdout.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            raise EngineFault("the policy engine's process ended") from None

    def _end(self, process: Process) -> None:
        """2 and 3."""
        if process.returncode is None:
            process.kill()
        self._starting = None
        if not self._closed:
            self.start()
