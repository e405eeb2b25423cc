"""Fifty times SIGKILL under load, on one data directory; three ledgers are compared each time.

The callers' (which answers came back), the upstream's (what arrived) and the log's, read by the test's own reading of
its files. Acknowledged means a byte of the upstream's answer was received on a strict route: its intent survives.
Nothing arrived without an intent. After the restart every intent has one outcome, `unknown` for what was in flight.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rig import ISSUER, Issuer, read_log, until

from tests.cli.rig_cli import Shell
from tests.cli.served import Served, command, serving
from tests.flows.ledgers import Callers, Upstream, ledgers

KILLS = 50
DURING_START = 5  # further kills while the gateway is still recovering
READY_SECONDS = 3.0
POLICY = 'package tollgate\n\ndecision := {"decision": true, "context": {"rule": "all", "reason": "all may"}}\n'

pytestmark = pytest.mark.slow


def configure(folder: Path, issuer: Issuer, upstream: int) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "decision.rego").write_text(POLICY)
    base = f"http://127.0.0.1:{upstream}"
    settings: dict[str, Any] = {
        "node": "gw-1",
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "audit": {"checkpoint": {"records": 100, "every": "50ms"}},
        "trust": {
            "issuers": [{"name": "idp", "issuer": ISSUER, "audience": "tollgate", "jwks": {"file": str(issuer.jwks)}}]
        },
        "upstreams": {
            "weather": {"url": f"{base}/mcp", "protocol": "mcp"},
            "plain": {"url": f"{base}/api", "protocol": "http"},
        },
        "routes": [
            {"name": name, "match": {"path": f"/{name}"}, "upstream": name, "audit": "strict"}
            for name in ("weather", "plain")
        ],
    }
    (folder / "gateway.yaml").write_text(json.dumps(settings))


def port_of(served: Served) -> int:
    return int(served.announced["listen"].rpartition(":")[2])


def spent(served: Served) -> float:
    """Processor seconds of the process so far: how long its start takes on a machine that does nothing else."""
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def audit(shell: Shell, vkey: str) -> dict[str, Any]:
    """`tollgate audit verify` says ok."""
    found = shell("audit", "verify", "var", "--key", vkey, "--json")
    assert found.code == 0, found
    assert found.json["ok"] is True
    report: dict[str, Any] = found.json
    return report


def judge(records: list[dict[str, Any]], durable: int, callers: Callers, upstream: Upstream) -> int:
    """Compares the ledgers after a restart; `durable` is how many records the dead directory held. Returns how many of
    them were in flight."""
    assert [record["seq"] for record in records] == list(range(len(records)))
    intents = [record["exchange"] for record in records if record["kind"] == "intent"]
    outcomes = [record["exchange"] for record in records if record["kind"] == "outcome"]
    assert not (lost := set(callers.acknowledged) - set(intents)), f"acknowledged and lost: {lost}"
    assert not (unseen := set(upstream.received) - set(intents)), f"forwarded and not recorded: {unseen}"
    assert len(upstream.received) == len(set(upstream.received)), "one intent was forwarded twice"
    assert Counter(intents) == Counter(outcomes)
    assert set(Counter(intents).values()) <= {1}
    finished = {record["exchange"] for record in records[:durable] if record["kind"] == "outcome"}
    in_flight = set(intents) - finished
    late = [record for record in records[durable:] if record["kind"] == "outcome"]
    assert {record["exchange"] for record in late} == in_flight
    assert {record["result"] for record in late} <= {"unknown"}
    return len(in_flight)


def killed_while_it_starts(chance: random.Random) -> None:
    process = subprocess.Popen(command("--json"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(chance.uniform(0.2, 1.5))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL, "it ended by itself"


def change_one_byte_each(chance: random.Random, shell: Shell, vkey: str) -> None:
    """Ruling 21: in an entry it names the seq, in a tile the tile and the range, in the checkpoint the signature."""

    def problem(path: str, at: int) -> dict[str, Any]:
        file = Path("var/log") / path
        whole = file.read_bytes()
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = shell("audit", "verify", "var", "--key", vkey, "--json")
        file.write_bytes(whole)
        assert found.code == 4, found
        assert found.json["ok"] is False
        first: dict[str, Any] = found.json["problems"][0]
        return first

    entries, at, seq = Path("var/log/tile/entries/000").read_bytes(), 0, chance.randrange(256)
    for _ in range(seq):
        at += 2 + int.from_bytes(entries[at : at + 2])
    found = problem("tile/entries/000", at + 2 + chance.randrange(int.from_bytes(entries[at : at + 2])))
    assert (found["where"], found["first"], found["last"]) == ("entry", seq, seq)
    found = problem("tile/0/000", seq * 32 + chance.randrange(32))
    assert (found["where"], found["path"], found["first"], found["last"]) == ("tile", "tile/0/000", seq, seq)
    signature = Path("var/log/checkpoint").read_bytes().rindex(b" ") + 12
    found = problem("checkpoint", signature + chance.randrange(40))
    assert found["where"] == "checkpoint"
    assert "signature" in found["text"]
    assert shell("audit", "verify", "var", "--key", vkey).code == 0


def test_fifty_kills_under_load_lose_nothing_and_forward_nothing_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.chdir(tmp_path)
    issuer, chance = Issuer(tmp_path), random.Random(20261122)
    token, vkey, durable, in_flight = issuer.token(), "", 0, 0
    waits: list[float] = []
    with ledgers(3, 6) as (upstream, callers):
        configure(tmp_path, issuer, upstream.port)
        for kill in range(KILLS + 1):
            if kill and kill % (KILLS // DURING_START) == 0:
                killed_while_it_starts(chance)
                audit(shell, vkey)
            began = time.monotonic()
            with serving() as served:
                waits.append(time.monotonic() - began)
                assert spent(served) < READY_SECONDS
                vkey = served.announced["vkey"]
                after = audit(shell, vkey)
                assert after["size"] >= durable, "what was pending is integrated before anybody is served"
                assert not after["in_flight"]
                in_flight += judge(read_log(Path("var/log")), durable, callers, upstream)
                if kill == KILLS:
                    break
                acknowledged = len(callers.acknowledged)
                callers.go(port_of(served), token)
                callers.acknowledge(acknowledged + chance.randrange(1, 400))
                served.process.send_signal(signal.SIGKILL)
                assert served.process.wait(10) == -signal.SIGKILL
                callers.over()
                until(lambda: upstream.open == 0, what="the end of the dead gateway's connections")
            dead = audit(shell, vkey)
            durable = dead["size"] + dead["pending"]
    change_one_byte_each(chance, shell, vkey)
    assert min(waits) < READY_SECONDS
    assert in_flight >= KILLS, "the kills came when nothing was under way"
    assert not callers.refused
