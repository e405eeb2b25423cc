"""Measures the gateway beside its peers in one interleaved run: rounds A B C A B C over the same upstream.

What is measured runs on one core, load and upstream on the other. CPU is the kernel's own accounting of the measured
process tree. Every answer is checked. Raw results go to bench/results/. `python bench/measure.py --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gate import Gate
from streams import echo, streamed

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
MEASURED, LOAD = "0", "1"  # processors


@dataclass(slots=True)
class Target:
    """One path to the upstream. `command` None is the straight one."""

    name: str
    port: int
    command: list[str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    call: str = "/mcp"
    stream: str = "/v1/chat/completions"
    ws: str = "/ws"
    token: str = "none"
    message: str = "mcp"  # what call.lua sends: "mcp" or "a2a"
    process: subprocess.Popen[bytes] | None = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, *, cpu: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The command pinned to one processor, once its port answers; ended with its whole group afterwards."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process that writes it)
    process = subprocess.Popen(
        ["taskset", "-c", cpu, *command], env=os.environ | (env or {}), stdout=log, stderr=log, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise SystemExit(f"{command[0]} did not start:\n{log.read().decode(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def cpu_seconds(root: int) -> float:
    """User and system time of a process and its living descendants."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for item in Path("/proc").iterdir():
        if not item.name.isdigit():
            continue
        try:
            fields = (item / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(item.name)
        children.setdefault(int(fields[1]), []).append(pid)
        spent[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        total += spent.get(pid, 0.0)
        waiting.extend(children.get(pid, ()))
    return total


def wrk(target: Target, connections: int, seconds: float) -> dict[str, float]:
    before = cpu_seconds(target.process.pid) if target.process else 0.0
    found, _ = loaded(target, connections, seconds, HERE / "call.lua", {})
    after = cpu_seconds(target.process.pid) if target.process else 0.0
    rate = found["requests"] / found["seconds"]
    result = {"per_second": rate, "p50_ms": found["p50_us"] / 1e3, "p99_ms": found["p99_us"] / 1e3}
    if target.process:
        result["cpu_us"] = (after - before) / found["requests"] * 1e6
    return result


def loaded(
    target: Target, connections: int, seconds: float, script: Path, more: dict[str, str]
) -> tuple[dict[str, float], str]:
    """What wrk counted, with a script that says so as call.lua does, and the last line of what it said."""
    command = [
        "taskset", "-c", LOAD, "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency",
        "--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{target.port}{target.call}",
    ]  # fmt: skip
    env = os.environ | {"TOKEN": target.token, "TARGET": target.call, "MESSAGE": target.message} | more
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    found: dict[str, float] = json.loads(next(line for line in reversed(out) if line.startswith("{")))
    if found["errors"] or found["wrong"] or not found["requests"]:
        raise SystemExit(f"{target.name}: answers were wrong: {found}")
    return found, out[-1]


def medians(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": statistics.median(row[name] for row in rows),
            "min": min(row[name] for row in rows),
            "max": max(row[name] for row in rows),
        }
        for name in rows[0]
    }


def fdatasync_us(folder: Path) -> float:
    """Median of 200 appends of 1 KiB with fdatasync, where the gateway's log lies."""
    times = []
    path = folder / "fdatasync.probe"
    with path.open("wb", buffering=0) as probe:
        for _ in range(200):
            probe.write(b"x" * 1024)
            started = time.perf_counter()
            os.fdatasync(probe.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(times) * 1e6


def create_us(folder: Path) -> float:
    """Median of 50 new files where the gateway's log lies: many times this on ext4 where many were deleted in the last
    minutes, and the log makes ten for a thousand records."""
    times = []
    for number in range(50):
        started = time.perf_counter()
        (folder / f"create.{number}").touch()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def peers(work: Path, upstream: int, envoy: str | None) -> list[Target]:
    found = [Target("straight", upstream)]
    if nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"):
        port = free_port()
        text = (HERE / "peers/nginx.conf").read_text()
        for name, value in {"work": str(work), "port": str(port), "upstream": str(upstream)}.items():
            text = text.replace("{" + name + "}", value)
        (work / "nginx.conf").write_text(text)
        found.append(Target("nginx", port, [nginx, "-c", str(work / "nginx.conf"), "-e", str(work / "nginx.error")]))
    if envoy:
        for name in ("envoy", "envoy + ext_authz"):
            found.append(_envoy(name, envoy, work, upstream))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "forwarder:app", "--port", str(port), "--no-access-log"]
    command += ["--app-dir", str(HERE / "peers"), "--log-level", "error"]
    found.append(Target("starlette + httpx", port, command, {"UPSTREAM": f"http://127.0.0.1:{upstream}"}, ws=""))
    return found


def _envoy(name: str, envoy: str, work: Path, upstream: int) -> Target:
    port, authz = free_port(), free_port()
    text = (HERE / "peers/envoy.yaml").read_text()
    for mark, value in {"__PORT__": port, "__UPSTREAM__": upstream, "__AUTHZ__": authz}.items():
        text = text.replace(mark, str(value))
    if "ext_authz" in name:
        text = text.replace(
            "http_filters:\n",
            "http_filters:\n" + (HERE / "peers/ext_authz.yaml").read_text().replace("__AUTHZ__", str(authz)),
        )
    path = work / f"{name.replace(' + ', '_')}.yaml"
    path.write_text(text)
    command = [envoy, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    target = Target(name, port, command)
    target.env["AUTHZ_PORT"] = str(authz) if "ext_authz" in name else ""
    return target


def measure(targets: list[Target], options: argparse.Namespace) -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, list[dict[str, float]]]] = {item.name: {} for item in targets}
    for target in targets:
        wrk(target, 32, 1)  # warm-up
    for number in range(options.rounds):
        for target in targets:
            for kind, run in (
                ("call, 32 connections", lambda: wrk(target, 32, options.seconds)),  # noqa: B023
                ("call, 1 connection", lambda: wrk(target, 1, options.seconds)),  # noqa: B023
                ("stream, 20 at once", lambda: asyncio.run(streamed(target.port, target.stream, target.token))),  # noqa: B023
                ("websocket echo, 8 sockets", lambda: asyncio.run(echo(target.port, target.ws, target.token))),  # noqa: B023
            ):
                if not kind.startswith(options.only) or (kind.startswith("websocket") and not target.ws):
                    continue  # an HTTP forwarder has no WebSocket to measure
                row = run()
                rows[target.name].setdefault(kind, []).append(row)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in row.items())
                print(f"round {number + 1} {target.name:18} {kind:26} {shown}", file=sys.stderr)
    return {name: {kind: medians(found) for kind, found in kinds.items()} for name, kinds in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="", help="call, stream or websocket")
    parser.add_argument("--targets", default="", help="comma-separated names; all by default")
    parser.add_argument("--envoy", default=os.environ.get("TOLLGATE_BENCH_ENVOY", ""))
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    work = HERE / "tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.sched_setaffinity(0, {int(LOAD)})
    upstream = free_port()
    with ExitStack() as stack:
        stack.enter_context(running([sys.executable, str(HERE / "upstream.py"), str(upstream)], upstream, cpu=LOAD))
        targets = peers(work, upstream, options.envoy or None)
        gate = Gate(work, upstream, free_port(), free_port())
        targets.append(
            Target("tollgate", gate.port, gate.command, gate.env, gate.call, gate.stream, gate.ws, gate.token)
        )
        if options.targets:
            targets = [item for item in targets if item.name in options.targets.split(",")]
        for target in targets:
            if target.env.get("AUTHZ_PORT"):
                port = int(target.env["AUTHZ_PORT"])
                stack.enter_context(running([sys.executable, str(HERE / "peers/authz.py"), str(port)], port, cpu=LOAD))
            if target.command:
                target.process = stack.enter_context(running(target.command, target.port, cpu=MEASURED, env=target.env))
        results = measure(targets, options)
        result = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine(),
            "fdatasync_median_us": round(fdatasync_us(work), 1),
            "create_median_us": round(create_us(work), 1),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "tollgate": gate.on,
            "results": results,
        }
    out = (
        Path(options.out) if options.out else HERE / "results" / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}.json"
    )
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    report(result)
    print(f"written to {out}", file=sys.stderr)
    shutil.rmtree(work, ignore_errors=True)


def machine() -> dict[str, object]:
    return {
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "cpus": os.cpu_count(),
        "cpu": _cpu(),
        "kernel": platform.release(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def report(result: dict[str, object]) -> None:
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = result["results"]  # type: ignore[assignment]
    for kind in next(iter(results.values())):
        print(f"\n{kind} (medians of {result['rounds']})")
        for name, kinds in results.items():
            found = kinds.get(kind)
            if found is not None:
                shown = "  ".join(f"{key} {value['median']:>10,.2f}" for key, value in found.items())
                print(f"  {name:18} {shown}")


if __name__ == "__main__":
    main()
