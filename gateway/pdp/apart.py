"""A policy examined on its own: compiled as it would be served, its tests run in a process that can be killed.

The rule: what somebody pushes is never evaluated in the gateway's own process before it was tested. Compiling evaluates
nothing and is bounded (sources.py, compiled.py); a test may loop for ever or eat memory, so the tests have a process,
a deadline and a memory limit of their own. Run as a script it is that process: it reads one policy and writes a report.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import traceback
from collections.abc import Mapping

import orjson

from gateway.core.bundles import LabFinding
from gateway.core.canonical import Json
from gateway.pdp.compiled import compile_source
from gateway.pdp.isolated import MEMORY_BYTES
from gateway.pdp.lab import run_tests
from gateway.pdp.sources import PolicySource, source_of
from gateway.pdp.syntax import PolicyRefused

DEADLINE_S = 60.0  # for all tests of a policy
REPORT_BYTES = 4 * 1024 * 1024


class SeparateLab:
    """The port PolicyLab."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s

    def examine(
        self, modules: Mapping[str, str], tests: Mapping[str, str], data: Mapping[str, Json], *, run: bool
    ) -> LabFinding:
        try:
            compile_source(source_of({**modules, **tests}, data))
        except PolicyRefused as error:
            traceback.clear_frames(error.__traceback__)  # an engine may only be let go in the thread that made it
            return LabFinding(str(error))
        if not run or not tests:
            return LabFinding("")
        return self._apart(orjson.dumps({"modules": {**modules, **tests}, "data": data}))

    def _apart(self, policy: bytes) -> LabFinding:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-m", "gateway.pdp.apart"],
                input=policy, capture_output=True, timeout=self._deadline_s, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return LabFinding("", (f"the tests took longer than {self._deadline_s:g} s",))
        except OSError as error:
            return LabFinding("", (f"the tests cannot be run: {error.strerror}",))
        if done.returncode != 0 or len(done.stdout) > REPORT_BYTES:
            return LabFinding("", ("the tests ended their process: too much memory, or too deep a recursion",))
        found = orjson.loads(done.stdout)
        return LabFinding(found["problem"], tuple(found["failed"]), found["ran"], found["coverage"])


def main() -> None:
    """The process of the tests."""
    given = orjson.loads(sys.stdin.buffer.read())
    with open("/proc/self/statm") as facts:
        mapped = int(facts.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
    sys.stdout.buffer.write(orjson.dumps(_report(source_of(given["modules"], given["data"]))))


def _report(source: PolicySource) -> dict[str, Json]:
    try:
        report = run_tests(source)
    except PolicyRefused as error:
        return {"problem": str(error), "failed": [], "ran": 0, "coverage": 0.0}
    failed: list[Json] = [f"{item.file}:{item.line} {item.name}: {item.said[:500]}" for item in report.failed]
    return {"problem": "", "failed": failed, "ran": len(report.results), "coverage": report.coverage}


if __name__ == "__main__":
    main()
