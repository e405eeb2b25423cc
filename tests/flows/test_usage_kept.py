"""Kills under load, and what budgets say afterwards: the counters and the book equal the log, and unknown was not free.

Three sums are compared after each start: the live counters' (asked over the admin plane), the log's by the invoice's
own code, and the log's by this test's reading of its files.
"""

from __future__ import annotations

import json
import random
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rig import Issuer, read_log, until

from tests.cli.rig_cli import Shell
from tests.cli.served import serving
from tests.flows.ledgers import ledgers
from tests.flows.test_kill import configure, port_of

KILLS = 6
DAYS = ("--from", "2020-01-01", "--to", "2099-12-31")
PRICES = """\
currency: usd
tools: [{tool: "weather/*", per_call: 0.003}]
http: [{path: "/*", upstream: plain, per_call: 0.0005}]
"""
BUDGETS = [
    {"name": "money", "key": ["subject.org"], "unit": "usd", "amount": 1000, "period": "total"},
    {"name": "calls", "key": ["subject.id", "upstream"], "unit": "calls", "amount": 1_000_000, "period": "month"},
]

pytestmark = pytest.mark.slow


def budgeted(folder: Path, issuer: Issuer, upstream: int) -> None:
    configure(folder, issuer, upstream)
    path = folder / "gateway.yaml"
    settings = json.loads(path.read_text())
    (folder / "prices.yaml").write_text(PRICES)
    path.write_text(json.dumps({**settings, "budgets": BUDGETS, "prices": "prices.yaml"}))


def summed(records: list[dict[str, Any]]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    for record in records:
        for item in record.get("budgets", ()) if record["kind"] == "outcome" else ():
            account = item["name"], json.dumps(item["key"])
            found[account] = found.get(account, Decimal(0)) + Decimal(item["settled"])
    return found


def test_after_each_kill_the_counters_are_what_the_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.chdir(tmp_path)
    issuer, chance = Issuer(tmp_path), random.Random(20261123)
    token, vkey, unknown = issuer.token(), "", 0
    with ledgers(2, 4) as (upstream, callers):
        budgeted(tmp_path, issuer, upstream.port)
        for kill in range(KILLS + 1):
            with serving() as served:
                vkey = served.announced["vkey"]
                admin = ("--admin", f"http://{served.announced['admin']}")
                found = shell("usage", "invoice", *DAYS, *admin, "--key", vkey, "--json")
                assert found.code == 0, found
                records = read_log(Path("var/log"))
                mine = summed(records)
                assert found.json["accounts"] == len(mine)
                for (name, key), settled in mine.items():
                    account = shell("budgets", "show", name, "--key", key, *admin, "--json").json
                    assert (Decimal(account["settled"]), account["reserved"]) == (settled, "0")
                closed = [record for record in records if record.get("result") == "unknown"]
                assert all(record["usage"]["usd"] != "0" for record in closed if record.get("budgets"))
                unknown = len(closed)
                if kill == KILLS:
                    break
                acknowledged = len(callers.acknowledged)
                callers.go(port_of(served), token)
                callers.acknowledge(acknowledged + chance.randrange(20, 300))
                served.process.send_signal(signal.SIGKILL)
                assert served.process.wait(10) == -signal.SIGKILL
                callers.over()
                until(lambda: upstream.open == 0, what="the end of the dead gateway's connections")
    assert unknown, "the kills came when nothing was under way"
    found = shell("usage", "invoice", *DAYS, "--data-dir", "var", "--key", vkey, "--json")
    assert (found.code, found.json["proven"]) == (0, True), found
