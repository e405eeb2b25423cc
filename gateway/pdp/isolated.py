"""Evaluation in a child process that is killed at the deadline: the only way to stop the engine.

1. One child, one question at a time; who waits in line waits within their own deadline.
2. A question that was begun and not finished, for whatever reason (late, cancelled, garbage), ends the child: its
answer can never be taken for another's. Answers carry their question's number besides.
3. A killed child is started again at once, so that the next question does not pay for the last one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.core.reasons import EngineFault
from gateway.pdp.sources import PolicySource

_HEADER = struct.Struct(">IQc")
_SCRIPT = Path(__file__).with_name("child.py")

START_S = 20.0  # a new interpreter, the engine, and up to 64 MiB of data
MEMORY_BYTES = 1024 * 1024 * 1024  # of a child, beyond what it has mapped when it starts
ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Child:
    """A running child and the socket to its standard input and output."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def end(self) -> None:
        self.writer.close()
        self.process.kill()

    async def reap(self) -> None:
        """Waits for a child that was ended; a thread waits, because the loop has no portable way to."""
        await asyncio.get_running_loop().run_in_executor(None, self.process.wait)


class IsolatedEngine:
    """`ask` gives the engine's answer as JSON text. Belongs to one event loop; `aclose` ends the child."""

    __slots__ = ("_child", "_closed", "_deadline_s", "_lock", "_number", "_policy", "_starting")

    def __init__(self, source: PolicySource, rule: str, *, deadline_s: float) -> None:
        modules = [[module.path, module.text] for module in source.modules]
        data = orjson.dumps(source.data).decode()
        self._policy = orjson.dumps({"modules": modules, "data": data, "rule": rule})
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._starting: asyncio.Task[Child] | None = None
        self._child: Child | None = None
        self._number = 0
        self._closed = False

    def start(self) -> asyncio.Task[Child]:
        """Begins to start the child, unless it is there or on its way."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        return self._starting

    async def ask(self, document: bytes, *, within_s: float) -> bytes:
        """Raises EngineFault: late, ended, or the engine's own error."""
        try:
            async with asyncio.timeout(within_s), self._lock:
                child = await self._ready()
                whole = False
                try:
                    self._number += 1
                    kind, answer = await _exchange(child, self._number, document)
                    whole = True
                finally:
                    if not whole:
                        self._replace(child)
        except TimeoutError:
            raise EngineFault("late") from None
        if kind != b"A":
            raise EngineFault(answer.decode("utf-8", "replace"))
        return answer

    async def check(self) -> None:
        """Waits for a child that lives, starting one where there is none. Raises EngineFault."""
        child = await self._ready()
        if child.process.poll() is not None and child is self._child and not self._lock.locked():
            self._replace(child)  # it was ended from outside, between two questions
            await self._ready()

    async def aclose(self) -> None:
        self._closed = True
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()  # a start that failed has nobody left to tell
        child, self._child = self._child, None
        if child is not None:
            child.end()
            await child.reap()

    async def _ready(self) -> Child:
        if self._closed:
            raise EngineFault("the policy engine was closed")
        starting = self.start()
        try:
            return await asyncio.shield(starting)
        except EngineFault:
            if self._starting is starting:
                self._starting = None  # the next question tries again
            raise

    def _replace(self, child: Child) -> None:
        """2 and 3."""
        child.end()
        self._starting = None
        if not self._closed:
            self.start()

    async def _start(self) -> Child:
        former, self._child = self._child, None
        if former is not None:
            former.end()
            await former.reap()
        child = await self._spawn()
        self._child = child
        try:
            async with asyncio.timeout(START_S):
                await _exchange(child, 0, self._policy)
        except TimeoutError:
            raise EngineFault("the policy engine's process did not start in time") from None
        return child

    async def _spawn(self) -> Child:
        """Blocks for the millisecond or two of a fork; nothing can be lost on the way as it could in a thread."""
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 (see above)
                [sys.executable, "-I", str(_SCRIPT), str(self._deadline_s), str(MEMORY_BYTES)],
                stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise EngineFault(f"the policy engine's process cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        connected = False
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=ANSWER_BYTES)
            connected = True
        finally:
            if not connected:
                ours.close()
                process.kill()
                process.wait()
        return Child(process, reader, writer)


async def _exchange(child: Child, number: int, payload: bytes) -> tuple[bytes, bytes]:
    """One frame there, one back: the kind of the answer and the answer. Raises EngineFault."""
    try:
        child.writer.write(_HEADER.pack(len(payload), number, b"I") + payload)
        await child.writer.drain()
        length, answered, kind = _HEADER.unpack(await child.reader.readexactly(_HEADER.size))
        if answered != number or length > ANSWER_BYTES:
            raise EngineFault("the policy engine's process answered out of turn")
        return kind, await child.reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        raise EngineFault("the policy engine's process ended") from None
