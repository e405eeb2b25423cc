"""Row 68: eight processes call through one gateway, five hundred times each, and leave one whole chain."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from rig import Issuer, read_log

from tests.cli.rig_cli import Shell
from tests.cli.served import serving
from tests.flows.ledgers import ledgers
from tests.flows.test_kill import configure, port_of

ROW = 68
PROCESSES, CONNECTIONS, CALLS = 8, 5, 100
ALL = PROCESSES * CONNECTIONS * CALLS

pytestmark = pytest.mark.slow


def test_eight_processes_of_five_hundred_calls_are_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    issuer = Issuer(tmp_path)
    with ledgers(PROCESSES, CONNECTIONS) as (upstream, callers):
        configure(tmp_path, issuer, upstream.port)
        with serving() as served:
            callers.go(port_of(served), issuer.token(), CALLS)
            callers.over(240)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(30) == 0
            vkey = served.announced["vkey"]
        callers.close()
        assert len(callers.acknowledged) == len(set(callers.acknowledged)) == ALL
        assert callers.refused == []
        assert Counter(upstream.received) == Counter(callers.acknowledged)
    records = read_log(Path("var/log"))
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert len({record["id"] for record in records}) == len(records)
    for kind in ("intent", "outcome"):
        found = [record["exchange"] for record in records if record["kind"] == kind]
        assert Counter(found) == Counter(callers.acknowledged), kind
    assert {record["result"] for record in records if record["kind"] == "outcome"} == {"ok"}
    report = Shell(capsys)("audit", "verify", "var", "--key", vkey, "--json").json
    assert (report["ok"], report["size"], report["pending"]) == (True, len(records), 0)
    assert (report["kinds"]["intent"], report["kinds"]["outcome"]) == (ALL, ALL)
