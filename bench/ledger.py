"""What limits and budgets cost per request: off, in memory, in Redis; interleaved.

Three gateways differ in nothing else: one without limits and budgets, one with two limits and two budgets (dollars and
calls, nested) in memory, one with the same in Redis, strict. They are loaded in turns (A B C, C B A, ...) with 64
connections, a second each: so short that other work on the machine slows neighbours alike. A round's ratio is the
median of those of its turns, the result the median of all rounds' with the interval of the sign test. A round has
gateways started anew, since two processes of the same gateway differ by several percent. What Redis itself takes is not
counted: it runs beside the load. `bench/run.sh --ledger`; results go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from descriptors import interval
from gate import CONFIG, Gate
from measure import HERE, LOAD, MEASURED, Target, free_port, machine, running, wrk

NAMES = ("off", "memory", "redis")
CONNECTIONS = 64
TURNS = 12  # of each gateway in a round; even
PRICES = """\
currency: usd
tools: [{tool: weather/*, per_call: 0.001}]
"""
BUDGETS = """\
budgets:
  - {{name: org-month, key: [subject.org], unit: usd, amount: 1000000, period: month, warn_at: [50%, 80%]}}
  - {{name: agent-day, key: [subject.org, subject.id], unit: calls, amount: 1000000000, period: day}}
prices: {work}/prices.yaml
"""
REDIS = "stores: {{counters: {{url: 'redis://127.0.0.1:{redis}', mode: strict}}}}\n"


def texts(redis: int) -> dict[str, str]:
    """The configuration of each gateway."""
    off = CONFIG.partition("limits:\n")[0]
    memory = CONFIG + BUDGETS
    shared = memory.replace("node: bench", "node: shared") + REDIS.replace("{redis}", str(redis))
    return {"off": off, "memory": memory, "redis": shared}


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[None]:
    """A Redis beside the load, without a file."""
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running(command, port, cpu=LOAD):
        yield


def turns(number: int, work: Path, upstream: int, redis: int, seconds: int) -> dict[str, float]:
    """One round: microseconds of processor time per request by gateway, and how they compare turn by turn."""
    order: list[Target] = []
    with ExitStack() as stack:
        for name, text in texts(redis).items():
            folder = work / f"{name}-{number}"
            folder.mkdir()
            (folder / "prices.yaml").write_text(PRICES)
            gate = Gate(folder, upstream, free_port(), free_port(), text)
            process = stack.enter_context(running(gate.command, gate.port, cpu=MEASURED))
            order.append(Target(name, gate.port, call=gate.call, token=gate.token, process=process))
        for target in order:
            wrk(target, CONNECTIONS, 1)
        found: dict[str, list[float]] = {target.name: [] for target in order}
        for target in (order + order[::-1]) * (TURNS // 2):
            found[target.name].append(wrk(target, CONNECTIONS, seconds)["cpu_us"])
    together = list(zip(found["off"], found["memory"], found["redis"], strict=True))
    return {name: statistics.median(values) for name, values in found.items()} | {
        "memory_to_off": statistics.median([memory / off for off, memory, _ in together]),
        "redis_beyond_off": statistics.median([shared - off for off, _, shared in together]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    work = HERE / "tmp" / "ledger"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.sched_setaffinity(0, {int(LOAD)})
    upstream, redis, load = free_port(), free_port(), os.getloadavg()
    rounds: list[dict[str, float]] = []
    with (
        running([sys.executable, str(HERE / "upstream.py"), str(upstream)], upstream, cpu=LOAD),
        redis_server(work, redis),
    ):
        for number in range(options.rounds):
            rounds.append(turns(number, work, upstream, redis, options.seconds))
            one = rounds[-1]
            shown = ", ".join(f"{name} {one[name]:.1f}" for name in NAMES)
            compared = f"{one['memory_to_off']:.3f} times off, {one['redis_beyond_off']:.1f} us beyond it"
            print(f"round {number + 1}: {shown} us per request; {compared}", file=sys.stderr)
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load_average": {"before": load[0], "after": os.getloadavg()[0]},
        "turns": f"{TURNS} of {options.seconds} s for each gateway and round; {CONNECTIONS} connections",
        "memory": "two limits, two budgets with records of what was reserved and settled, a price list",
        "cpu_us": {name: statistics.median(found[name] for found in rounds) for name in NAMES},
        "memory_to_off": interval([found["memory_to_off"] for found in rounds]),
        "redis_beyond_off_us": interval([found["redis_beyond_off"] for found in rounds]),
        "rounds": rounds,
    }
    stamp = time.strftime("%Y-%m-%d-%H%M", time.gmtime())
    out = Path(options.out) if options.out else HERE / "results" / f"ledger-{stamp}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for name in ("cpu_us", "memory_to_off", "redis_beyond_off_us"):
        print(name, json.dumps(result[name]))
    print(f"written to {out}", file=sys.stderr)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
