"""The process in which unbounded policies are evaluated, so that it can be killed. Run as a script, never imported.

It imports nothing of the gateway, reads frames from standard input and writes frames to standard output:
4 bytes length of what follows, 8 bytes number, 1 byte kind, payload. The first frame it gets is the policy, which it
answers when it is ready; each later one an input, answered with the same number. It limits its own memory, and an
alarm ends it at twice the deadline even when nobody is left to kill it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

import regorus  # type: ignore[import-untyped]  # it ships no stubs

HEADER = struct.Struct(">IQc")


def main(deadline_s: float, memory_bytes: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _mapped_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not end up between frames
    number, policy = _read(source)
    settings = json.loads(policy)
    engine = regorus.Engine()
    for path, text in settings["modules"]:
        engine.add_policy(path, text)
    engine.add_data_json(settings["data"])
    engine.eval_query("true")
    _write(sink, number, b"A", b"")
    while True:
        number, document = _read(source)
        signal.setitimer(signal.ITIMER_REAL, 2 * deadline_s)
        try:
            engine.set_input_json(document.decode("utf-8"))
            kind, answer = b"A", engine.eval_rule_as_json(settings["rule"])
        except RuntimeError as error:
            kind, answer = b"E", str(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(sink, number, kind, answer.encode("utf-8", "replace"))


def _mapped_bytes() -> int:
    """The address space that is taken already: the engine's allocator reserves a gigabyte before it needs a byte."""
    with open("/proc/self/statm") as facts:
        return int(facts.read().split()[0]) * resource.getpagesize()


def _read(source: BinaryIO) -> tuple[int, bytes]:
    header = source.read(HEADER.size)
    if len(header) < HEADER.size:
        sys.exit(0)  # the gateway is gone or has let go
    length, number, _ = HEADER.unpack(header)
    payload = source.read(length)
    if len(payload) < length:
        sys.exit(0)
    return number, payload


def _write(sink: BinaryIO, number: int, kind: bytes, payload: bytes) -> None:
    sink.write(HEADER.pack(len(payload), number, kind) + payload)
    sink.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
