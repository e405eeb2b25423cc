"""One process against several workers on this machine: calls per second, and processor time per call of all processes.

Four gateways that differ in nothing else: one process and `--workers N`, each with two limits and two budgets, and with
none. All may use every core, beside the load and the upstream; they are loaded in turns. On few cores the load takes
what workers could use: the figures say what this machine gives, not what the gateway could. `bench/run.sh --workers`;
results go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gate import CONFIG, Gate
from ledger import BUDGETS, PRICES
from measure import HERE, LOAD, Target, free_port, machine, running, wrk

CONNECTIONS = 64


def texts() -> dict[str, str]:
    return {"without": CONFIG.partition("limits:\n")[0], "with": CONFIG + BUDGETS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2, help="workers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    work = HERE / "tmp" / "workers"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    cores, upstream, load = f"0-{(os.cpu_count() or 1) - 1}", free_port(), os.getloadavg()
    rows: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        stack.enter_context(running([sys.executable, str(HERE / "upstream.py"), str(upstream)], upstream, cpu=LOAD))
        targets = []
        for limits, text in texts().items():
            for count in (1, options.count):
                name = f"{count} {limits} limits"
                folder = work / name.replace(" ", "-")
                folder.mkdir()
                (folder / "prices.yaml").write_text(PRICES)
                gate = Gate(folder, upstream, free_port(), free_port(), text)
                command = [*gate.command, "--workers", str(count)]
                process = stack.enter_context(running(command, gate.port, cpu=cores))
                targets.append(Target(name, gate.port, call=gate.call, token=gate.token, process=process))
        for target in targets:
            wrk(target, CONNECTIONS, 2)
        for number in range(options.rounds):
            for target in targets if number % 2 == 0 else targets[::-1]:
                rows.setdefault(target.name, []).append(wrk(target, CONNECTIONS, options.seconds))
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load_average": {"before": load[0], "after": os.getloadavg()[0]},
        "connections": CONNECTIONS,
        "turns": f"{options.rounds} of {options.seconds} s, all on cores {cores}, with the load on {LOAD}",
        "medians": {
            name: {key: round(statistics.median(row[key] for row in found), 2) for key in found[0]}
            for name, found in rows.items()
        },
        "rows": rows,
    }
    stamp = time.strftime("%Y-%m-%d-%H%M", time.gmtime())
    out = Path(options.out) if options.out else HERE / "results" / f"workers-{stamp}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for name, found in result["medians"].items():  # type: ignore[attr-defined]
        print(name, json.dumps(found))
    print(f"written to {out}", file=sys.stderr)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
