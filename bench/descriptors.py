"""What it costs per request that cards and pins are required, once they are verified: two gateways, nine pairs.

One gateway reaches a tool only by a manifest that somebody trusted signed (`pin: required`) and an agent only by its
signed card (`card.required`); the other asks for neither. Everything else is the same, and as bench/measure.py has it.
Each pair is made of gateways started anew, so that no single process's luck is in all of them; in it they are loaded in
turns (A B B A A B B A, the next pair B A A B B A A B). A gateway's CPU per request is the median of its turns, so that
other work on the machine that comes in bursts spoils few of them. The interval is that of the sign test for the median:
it lies between the second lowest and the second highest of nine ratios with a confidence of 96.1 %.
`bench/run.sh --descriptors`; raw results go to bench/results/.
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
from contextlib import ExitStack
from math import comb
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gate import CONFIG, Gate
from measure import HERE, LOAD, MEASURED, Target, free_port, machine, running, wrk
from upstream import TOOL

from gateway.trust.cards import sign_card
from gateway.trust.jose import signer
from gateway.trust.manifests import sign_manifest

KINDS = {"tools/call": ("/weather", "mcp"), "SendMessage": ("/agent", "a2a")}
CONNECTIONS = 32
TURNS = 6  # of each gateway in a pair; even
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
PINNED = ", tools: {{pin: required, signers: [acme], manifest: {{file: {work}/manifest.json}}}}"
CARDED = ", card: {{required: true, signers: [acme]}}"


def text(required: bool) -> str:
    """The configuration of bench/gate.py and an agent in it, with or without what is measured."""
    found = CONFIG.replace("policy: {{bundle", (SIGNERS if required else "") + "policy: {{bundle")
    found = found.replace("protocol: mcp}}", "protocol: mcp" + (PINNED if required else "") + "}}")
    agent = (
        '  concierge: {{url: "http://127.0.0.1:{upstream}/agent", protocol: a2a' + (CARDED if required else "") + "}}\n"
    )
    return found.replace("upstreams:\n", "upstreams:\n" + agent).replace(
        "routes:\n", "routes:\n  - {{name: concierge, match: {{path: /agent}}, upstream: concierge}}\n"
    )


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


class Side:
    """One of the two gateways, as long as a pair lasts."""

    def __init__(self, work: Path, upstream: int, required: bool, stack: ExitStack) -> None:
        self.folder = work / ("with" if required else "without")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in ("acme.jwks.json", "manifest.json"):
            shutil.copy(work / name, self.folder)
        self.admin, self.required = free_port(), required
        self.gate = Gate(self.folder, upstream, free_port(), self.admin, text(required))
        process = stack.enter_context(running(self.gate.command, self.gate.port, cpu=MEASURED))
        self.targets = {
            kind: Target(self.folder.name, self.gate.port, call=call, token=self.gate.token, message=message)
            for kind, (call, message) in KINDS.items()
        }
        for target in self.targets.values():
            target.process = process

    def warm(self) -> None:
        for target in self.targets.values():
            wrk(target, CONNECTIONS, 1)
        found = {path: self._listed(path) for path in ("agents", "tools")}
        standing = {item["name"]: item["standing"] for item in (*found["agents"], *found["tools"])}
        if self.required and {standing.get("concierge"), standing.get("get_forecast")} != {"verified"}:
            raise SystemExit(f"the card and the tool are not verified: {standing}")

    def _listed(self, path: str) -> list[dict[str, str]]:
        token = (self.folder / "admin.token").read_text().strip()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/api/v1/{path}", headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: list[dict[str, str]] = json.load(answer)[path]
        return found


def pair(number: int, work: Path, upstream: int, seconds: float) -> dict[str, dict[str, float]]:
    """By kind: CPU per request with and without, in microseconds, and their ratio."""
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        sides = [Side(work, upstream, required, stack) for required in (True, False)]
        for side in sides:
            side.warm()
        order = sides if number % 2 == 0 else sides[::-1]
        for kind in KINDS:
            turns: dict[bool, list[float]] = {True: [], False: []}
            for side in (order + order[::-1]) * (TURNS // 2):
                turns[side.required].append(wrk(side.targets[kind], CONNECTIONS, seconds)["cpu_us"])
            per = {required: statistics.median(rows) for required, rows in turns.items()}
            found[kind] = {"with_us": per[True], "without_us": per[False], "ratio": per[True] / per[False]}
            print(
                f"pair {number + 1} {kind:12} with {per[True]:.1f} us, without {per[False]:.1f} us,"
                f" ratio {found[kind]['ratio']:.4f}",
                file=sys.stderr,
            )
    return found


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
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    work = HERE / "tmp" / "descriptors"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.sched_setaffinity(0, {int(LOAD)})
    upstream, load = free_port(), os.getloadavg()
    card = sign(work, upstream)
    with running([sys.executable, str(HERE / "upstream.py"), str(upstream), str(card)], upstream, cpu=LOAD):
        pairs = [pair(number, work, upstream, options.seconds) for number in range(options.pairs)]
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load_average": {"before": load[0], "after": os.getloadavg()[0]},
        "with": "tools: {pin: required}, signed manifest; card: {required: true}, signed card",
        "without": "neither",
        "turns": f"{TURNS} of {options.seconds} s per gateway, pair and kind, their median; {CONNECTIONS} connections",
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
