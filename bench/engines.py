"""The time that a decision adds to a request, by engine: embedded, OPA (TCP and socket file), Cerbos (gRPC), AuthZEN.

Each engine is made as the configuration makes it and asked the same questions about the same policy
(tests/ports/engines), none twice, so that no kept decision is measured; one row says what a kept one takes. What is
timed is what the gateway waits for: from the question to the Decision, in one process on uvloop, without the gateway
around it. Rounds go through all engines in turns; figures are medians of the rounds. `bench/run.sh --engines`; results
go to bench/results/. OPA is measured where `TOLLGATE_OPA` or `opa` on PATH names one, Cerbos (over both of its APIs)
where tests/components.sh has installed it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parent.parent))  # behind the installed gateway, the compiled one

from measure import machine

from gateway import config
from gateway.assembly_policy import close_engine, make_engine
from gateway.core.access import AccessRequest
from gateway.pdp import embedded
from tests.pdp.engine_servers import cerbos_server, opa_server

ROOT = Path(__file__).resolve().parent.parent
POLICIES = ROOT / "tests/ports/engines"
PACKAGED = ROOT / "tests/clients/node/node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
ROUNDS = 7
ALONE = 1000  # questions of a round, one after the other
LIST = 50  # items of a list, as many as Cerbos takes in one call
LISTS = 20
ABREAST = 32


def question(number: int) -> AccessRequest:
    """A tool call as the gateway asks it, with half a KiB of arguments, no two the same."""
    subject = {
        "type": "agent",
        "id": "agent:idp/planner",
        "properties": {"roles": ["reader", "staff"], "delegated_by": ["agents/a"], "org": "acme", "issuer": "idp"},
    }
    context = {
        "time": "2026-11-22T12:00:00Z",
        "listing": False,
        "request": {"id": f"{number}", "method": "POST", "path": "/weather", "peer": "127.0.0.1", "headers": {}},
        "arguments": {"city": f"Oslo {number}", "days": 3, "note": "x" * 400},
    }
    resource = {"type": "tool", "id": "weather/get", "properties": {"route": "weather", "upstream": "weather"}}
    return AccessRequest(
        {"subject": subject, "action": {"name": "mcp.tools/call"}, "resource": resource, "context": context}
    )


async def _answer(answer: Any) -> Any:
    return await answer if isinstance(answer, Awaitable) else answer


class Measured:
    """One engine; its numbers grow by a round."""

    def __init__(self, name: str, policy: config.Policy, *, kept: bool = False) -> None:
        self.name = name
        self.engine = make_engine(policy)
        self.kept = kept
        self.alone: list[list[float]] = []
        self.lists: list[float] = []
        self.abreast: list[float] = []
        self._next = 0

    def question(self) -> AccessRequest:
        self._next += 0 if self.kept else 1
        return question(self._next)

    async def round(self) -> None:
        times = []
        for _ in range(ALONE):
            asked = self.question()
            started = time.perf_counter()
            decision = await _answer(self.engine.decide(asked))
            times.append((time.perf_counter() - started) * 1e6)
            assert decision.allow, decision
        self.alone.append(times)
        lists = []
        for _ in range(LISTS):
            items = [self.question() for _ in range(LIST)]
            started = time.perf_counter()
            decisions = await _answer(self.engine.decide_many(items))
            lists.append((time.perf_counter() - started) * 1e6)
            assert all(item.allow for item in decisions)
        self.lists.append(statistics.median(lists))
        waiting = iter([self.question() for _ in range(ALONE)])

        async def worker() -> None:
            for asked in waiting:
                assert (await _answer(self.engine.decide(asked))).allow

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(ABREAST)))
        self.abreast.append(ALONE / (time.perf_counter() - started))

    def result(self) -> dict[str, Any]:
        def spread(values: list[float]) -> dict[str, float]:
            return {"median": round(statistics.median(values), 1), "min": min(values), "max": max(values)}

        cuts = [statistics.quantiles(times, n=100) for times in self.alone]
        return {
            "one_p50_us": spread([round(cut[49], 1) for cut in cuts]),
            "one_p99_us": spread([round(cut[98], 1) for cut in cuts]),
            f"list_of_{LIST}_us": spread([round(value, 1) for value in self.lists]),
            f"per_second_{ABREAST}_abreast": spread([round(value) for value in self.abreast]),
        }


@contextmanager
def engines(scratch: Path) -> Iterator[dict[str, config.Policy]]:
    def remote(**found: Any) -> config.Policy:
        return config.read(json.dumps({"policy": {**found, "timeout": "10s"}}), "bench", {}).policy

    own = config.Policy(bundle=POLICIES / "rego")
    found = {"embedded": own, "embedded, kept": own}
    with ExitStack() as stack:
        if os.environ.get("TOLLGATE_OPA") or shutil.which("opa"):
            opa = stack.enter_context(opa_server(scratch, str(POLICIES / "rego"), logged=False))
            found["opa, tcp"] = remote(engine="opa", url=opa.url)
            found["opa, socket file"] = remote(engine="opa", url=f"unix:{opa.socket}")
        if os.environ.get("TOLLGATE_CERBOS") or PACKAGED.exists() or shutil.which("cerbos"):
            cerbos = stack.enter_context(cerbos_server(POLICIES / "cerbos", scratch))
            found["cerbos, grpc"] = remote(engine="cerbos", url=cerbos.grpc)
            own_keys = {"dialect": "cerbos"}
            found["authzen, http (cerbos)"] = remote(engine="authzen", url=cerbos.http, authzen=own_keys)
        yield found


async def measure(found: dict[str, config.Policy], rounds: int) -> dict[str, Any]:
    every = [Measured(name, policy, kept=name.endswith("kept")) for name, policy in found.items()]
    try:
        for number in range(rounds + 1):
            for item in every[number % len(every) :] + every[: number % len(every)]:
                await item.round()
                if number == 0:  # the first warms up
                    item.alone, item.lists, item.abreast = [], [], []
    finally:
        for item in every:
            await close_engine(item.engine)
    return {item.name: item.result() for item in every}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, help="default: bench/results/engines-<time>.json")
    given = parser.parse_args()
    when = time.gmtime()
    with tempfile.TemporaryDirectory() as scratch, engines(Path(scratch)) as found:
        results = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(measure(found, given.rounds))
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", when),
        "machine": machine(),
        "compiled": not (embedded.__file__ or "").endswith(".py"),
        "rounds": given.rounds,
        "questions_of_a_round": ALONE,
        "results": results,
    }
    output = given.output or ROOT / "bench/results" / time.strftime("engines-%Y-%m-%d-%H%M.json", when)
    output.write_text(json.dumps(document, indent=1) + "\n")
    for name, result in results.items():
        one, several = result["one_p50_us"]["median"], result[f"list_of_{LIST}_us"]["median"]
        print(f"{name:24} one {one:8.1f} us   list of {LIST} {several:9.1f} us")
    print(output)


if __name__ == "__main__":
    main()
