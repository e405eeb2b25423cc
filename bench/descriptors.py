"""What it costs per request that cards and pins are required, once they are verified: nine pairs, interleaved.

One gateway has every upstream twice: a tool reached only by a manifest that somebody trusted signed (`pin: required`)
and the same without, an agent reached only by its signed card (`card.required`) and the same without. Both ways lead
through one process, since two processes of the very same gateway differ by several percent; each pair has a gateway
started anew. The load goes along them in slices of some hundred requests (slices.lua), so short that other work on the
machine slows neighbours alike; a pair's ratio is the median of those of all neighbours, whichever came first. The
interval is that of the sign test for the median: it lies between the second lowest and the second highest of nine
ratios with a confidence of 96.1 %. Everything else is as bench/measure.py has it. `bench/run.sh --descriptors`; results
go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
import urllib.request
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gate import CONFIG, ROOT, Gate
from measure import HERE, LOAD, MEASURED, Target, free_port, loaded, machine, running, wrk
from upstream import TOOL

from gateway.trust.cards import sign_card
from gateway.trust.jose import signer
from gateway.trust.manifests import sign_manifest

KINDS = {  # by kind: the way with, the way without (of names as long), what call.lua sends
    "tools/call": ("/weather", "/climate", "mcp"),
    "SendMessage": ("/concierge", "/attendant", "a2a"),
}
CONNECTIONS = 32
SLICE = 480  # requests that are counted of a slice: about 50 ms
CARD: dict[str, Any] = {
    "name": "concierge",
    "description": "Books tables.",
    "version": "1.0.0",
    "capabilities": {"streaming": True},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "book", "name": "Book", "description": "Books a table.", "tags": ["dinner"]}],
}
SIGNERS = "  signers: [{{name: acme, jwks: {{file: {work}/acme.jwks.json}}}}]\n"
UPSTREAMS = """\
  weather: {{url: "http://127.0.0.1:{upstream}/mcp", protocol: mcp,
    tools: {{pin: required, signers: [acme], manifest: {{file: {work}/manifest.json}}}}}}
  climate: {{url: "http://127.0.0.1:{upstream}/mcp", protocol: mcp}}
  concierge: {{url: "http://127.0.0.1:{upstream}/agent", protocol: a2a, card: {{required: true, signers: [acme]}}}}
  attendant: {{url: "http://127.0.0.1:{upstream}/agent", protocol: a2a}}
routes:
"""
ROUTE = "  - {{{{name: {0}, match: {{{{path: /{0}}}}}, upstream: {0}}}}}\n"
GRANTS = {
    "tools: {weather: [get_forecast]}": "tools: {weather: [get_forecast], climate: [get_forecast]}",
    "agents: {concierge: [SendMessage": "agents: {attendant: [SendMessage], concierge: [SendMessage",
}


def text() -> str:
    """The configuration of bench/gate.py with other upstreams."""
    before, _, rest = CONFIG.partition("policy: {{bundle")
    limits = rest.partition("limits:\n")[2]
    routes = "".join(ROUTE.format(name) for name in ("weather", "climate", "concierge", "attendant"))
    policy = "policy: {{bundle: {work}/policy}}\nupstreams:\n"
    return before + SIGNERS + policy + UPSTREAMS + routes + "limits:\n" + limits


def policy(folder: Path) -> None:
    """The shipped one, which grants the ways without the same."""
    shutil.copytree(ROOT / "policies/rego", folder)
    tables = (folder / "data.yaml").read_text()
    for shipped, wanted in GRANTS.items():
        if shipped not in tables:
            raise SystemExit(f"policies/rego/data.yaml does not say {shipped}")
        tables = tables.replace(shipped, wanted)
    (folder / "data.yaml").write_text(tables)


def sign(work: Path, upstream: int) -> Path:
    """The card, the manifest and their signer's public key, in `work`. Where the upstream finds its card."""
    key = signer(Ed25519PrivateKey.generate(), "acme-1")
    place: dict[str, Any] = {
        "url": f"http://127.0.0.1:{upstream}/agent",
        "protocolBinding": "JSONRPC",
        "protocolVersion": "1.0",
    }
    (work / "acme.jwks.json").write_text(json.dumps({"keys": [key.jwk()]}))
    (work / "manifest.json").write_text(json.dumps(sign_manifest({"tools": [TOOL]}, key)))
    (work / "card.json").write_text(json.dumps(sign_card({**CARD, "supportedInterfaces": [place]}, key)))
    return work / "card.json"


def verified(work: Path, admin: int) -> None:
    """Says no where the card and the pinned tool are not."""
    token = (work / "admin.token").read_text().strip()
    standing: dict[str, str] = {}
    for path in ("agents", "tools"):
        headers = {"authorization": f"Bearer {token}"}
        asked = urllib.request.Request(f"http://127.0.0.1:{admin}/api/v1/{path}", headers=headers)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            standing |= {item["name"]: item["standing"] for item in json.load(answer)[path]}
    if {standing.get("concierge"), standing.get("get_forecast")} != {"verified"}:
        raise SystemExit(f"the card and the tool are not verified: {standing}")


def pair(number: int, work: Path, upstream: int, seconds: int) -> dict[str, dict[str, float]]:
    """By kind: CPU per request with and without, in microseconds, and their ratio."""
    # Each has a log of its own and none is deleted meanwhile: ext4 is slow to make files where many were just deleted.
    config = text().replace("{work}/var", f"{{work}}/var{number}")
    admin = free_port()
    gate = Gate(work, upstream, free_port(), admin, config)
    found: dict[str, dict[str, float]] = {}
    with running(gate.command, gate.port, cpu=MEASURED) as process:
        for path in [path for required, free, _ in KINDS.values() for path in (required, free)]:
            message = next(message for *paths, message in KINDS.values() if path in paths)
            wrk(Target(path[1:], gate.port, call=path, token=gate.token, message=message), CONNECTIONS, 1)
        verified(work, admin)
        for kind, (required, free, message) in KINDS.items():
            ways = (required, free) if number % 2 == 0 else (free, required)
            target = Target(kind, gate.port, call=required, token=gate.token, message=message, process=process)
            turns = slices(target, ways, seconds)
            found[kind] = compared(turns if number % 2 == 0 else [(3 - way, spent) for way, spent in turns])
            print(
                f"pair {number + 1} {kind:12} with {found[kind]['with_us']:.1f} us, without"
                f" {found[kind]['without_us']:.1f} us, ratio {found[kind]['ratio']:.4f} of {len(turns)} slices",
                file=sys.stderr,
            )
    return found


def slices(target: Target, ways: tuple[str, str], seconds: int) -> list[tuple[int, float]]:
    """Which of the two ways and microseconds of processor time per request, slice after slice."""
    assert target.process is not None
    call = {"TARGETS": " ".join(ways), "CALL": str(HERE / "call.lua")}
    counted = {"PID": str(target.process.pid), "SLICE": str(SLICE)}
    _, told = loaded(target, CONNECTIONS, seconds, HERE / "slices.lua", call | counted)
    pairs = [item.split(":") for item in told.split()]
    return [(int(way), int(spent) / 1e3) for way, spent in pairs]


def compared(turns: list[tuple[int, float]]) -> dict[str, float]:
    """Of the slices in order, 1 with and 2 without."""
    ratios = [spent / other if way == 1 else other / spent for (way, spent), (_, other) in pairwise(turns)]
    with_us, without_us = (statistics.median(spent for way, spent in turns if way == wanted) for wanted in (1, 2))
    return {"with_us": with_us, "without_us": without_us, "ratio": statistics.median(ratios), "slices": len(turns)}


def interval(ratios: list[float]) -> dict[str, object]:
    """The sign test's interval of the median, the narrowest of at least 95 %."""
    ordered, count = sorted(ratios), len(ratios)
    outside = [sum(comb(count, below) for below in range(cut + 1)) * 2 / 2**count for cut in range(count // 2)]
    cut = max((at for at, chance in enumerate(outside) if chance <= 0.05), default=0)
    return {
        "median": statistics.median(ordered),
        "interval": [ordered[cut], ordered[count - 1 - cut]],
        "confidence": round(1 - outside[cut], 4) if outside else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    work = HERE / "tmp" / "descriptors"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.sched_setaffinity(0, {int(LOAD)})
    upstream, load = free_port(), os.getloadavg()
    card = sign(work, upstream)
    policy(work / "policy")
    with running([sys.executable, str(HERE / "upstream.py"), str(upstream), str(card)], upstream, cpu=LOAD):
        pairs = [pair(number, work, upstream, options.seconds) for number in range(options.pairs)]
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load_average": {"before": load[0], "after": os.getloadavg()[0]},
        "with": "tools: {pin: required}, signed manifest; card: {required: true}, signed card",
        "without": "neither, in the same gateway",
        "slices": f"{SLICE} requests in turn, {options.seconds} s for each pair and kind; {CONNECTIONS} connections",
        "tollgate": Gate(work, upstream, 1, 2).on,
        "results": {
            kind: {
                "ratio": interval([found[kind]["ratio"] for found in pairs]),
                "pairs": [found[kind] for found in pairs],
            }
            for kind in KINDS
        },
    }
    stamp = time.strftime("%Y-%m-%d-%H%M", time.gmtime())
    out = Path(options.out) if options.out else HERE / "results" / f"descriptors-{stamp}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for kind in KINDS:
        print(kind, json.dumps(result["results"][kind]["ratio"]))  # type: ignore[index]
    print(f"written to {out}", file=sys.stderr)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
