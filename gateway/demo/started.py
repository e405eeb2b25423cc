"""The demo's upstreams as a running process: started, named, ended. The demo stands on it, and so do the tests.

The rule: the process ends when whoever started it does, however that goes: its standard input closes then.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

END_SECONDS = 10.0


class NotStarted(Exception):
    """The upstreams do not run; `args[0]` says how to find out why."""


@contextmanager
def upstreams() -> Iterator[dict[str, str]]:
    """Base URLs by name: `weather` (MCP, below /mcp), `concierge` (A2A), `model` (HTTP). Raises NotStarted."""
    command = [sys.executable, "-m", "gateway.demo.upstreams"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdin is None or process.stdout is None:
        raise NotStarted("the upstreams have no pipes")
    try:
        line = process.stdout.readline()
        if not line:
            raise NotStarted("the upstreams did not start; try: python -m gateway.demo.upstreams")
        yield json.loads(line)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
