"""The process in which a decision is explained, and how it is asked: one question, one answer, killed when it is late.

The gateway's own process never evaluates for people: an evaluation cannot be interrupted there, and holds up requests.
The question is written to standard input as JSON, the answer read from standard output; nothing else goes along, and
the process bounds its own memory and time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import orjson

from gateway.core.canonical import Json
from gateway.pdp.compiled import compile_source
from gateway.pdp.sources import Module, PolicySource
from gateway.pdp.why import Asked, why

SECONDS = 8.0  # all of it, a new interpreter included; whoever asks over HTTP waits for ten
SEARCH_SECONDS = 1.5  # for the rules that made the answer and the nearest difference
MEMORY_BYTES = 3 * 1024 * 1024 * 1024  # address space; the engine's allocator reserves a gigabyte of it
ANSWER_BYTES = 1024 * 1024
_ROOT = str(Path(__file__).resolve().parent.parent.parent)
_START = "import sys; sys.path.append(sys.argv[1]); from gateway.pdp.why_child import main; main()"


def explained(source: PolicySource, asked: Asked, *, seconds: float = SECONDS) -> dict[str, Json]:
    """Blocks for as long as it takes, at most `seconds`: not for an event loop's thread. Never raises for what a policy
    does: the document says instead what could not be told."""
    question = {
        "modules": [[item.path, item.text] for item in source.modules],
        "data": dict(source.data),
        "revision": source.revision,
        "given": asked.given.decode("utf-8", "replace"),
        "allow": asked.allow,
        "rule": asked.rule,
        "obligations": sorted(asked.obligations),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START, _ROOT],
            input=orjson.dumps(question), capture_output=True, timeout=seconds, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"note": f"It could not be told within {seconds:g} s; the policy takes too long on this input"}
    if done.returncode != 0 or len(done.stdout) > ANSWER_BYTES:
        return {"note": "It could not be told: the process that evaluates it for this ended early"}
    found: dict[str, Json] = orjson.loads(done.stdout)
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))
    question = orjson.loads(sys.stdin.buffer.read())
    modules = tuple(Module(path, text) for path, text in question["modules"])
    source = PolicySource(modules, (), question["data"], question["revision"])
    policy = compile_source(source)
    asked = Asked(question["given"].encode(), question["allow"], question["rule"], frozenset(question["obligations"]))
    ends = time.monotonic() + SEARCH_SECONDS
    sys.stdout.buffer.write(orjson.dumps(why(policy, asked, lambda: time.monotonic() > ends)))


if __name__ == "__main__":
    main()
