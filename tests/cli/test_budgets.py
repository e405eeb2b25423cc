"""`tollgate budgets` and `tollgate usage` against a running gateway: what was spent, and what is done about it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from changing import Caller, Changing, changing, pinned
from rig import Running, gateway

from gateway.core.usage import COUNTS
from tests.cli.rig_cli import Ran, Shell

PRICES = """\
currency: usd
tools: [{tool: "weather/*", per_call: 0.25}]
"""


class Spent:
    """A gateway with budgets and one server behind it, and the command line that asks it."""

    def __init__(self, running: Running, shell: Shell) -> None:
        self.running, self._shell = running, shell
        self.caller = Caller(running)

    def __call__(self, *words: str) -> Ran:
        where = ["--admin", self.running.admin_url, "--token-file", str(self.running.folder / "admin.token")]
        return self._shell(*words, *where)

    def account(self, *key: str) -> dict[str, Any]:
        found: dict[str, Any] = self("budgets", "show", "org-total", *(key or ("acme",)), "--json").json
        return found


def settings(folder: Path, server: Changing) -> dict[str, Any]:
    (folder / "policy").mkdir(exist_ok=True)
    (folder / "policy" / "policy.rego").write_text("package tollgate\n\ndecision := true\n")
    (folder / "prices.yaml").write_text(PRICES)
    return {
        **pinned(server.url, "first_use"),
        "policy": {"bundle": str(folder / "policy")},
        "prices": str(folder / "prices.yaml"),
        "budgets": [
            {"name": "org-total", "key": ["subject.org"], "unit": "usd", "amount": 1, "period": "total"},
            {"name": "tools", "key": ["subject.org", "resource.id"], "unit": "calls", "amount": 100, "period": "month"},
        ],
    }


@pytest.fixture
def spent(tmp_path: Path, shell: Shell) -> Iterator[Spent]:
    with changing() as server, gateway(tmp_path, **settings(tmp_path, server)) as running:
        found = Spent(running, shell)
        assert [found.caller.call() for _ in range(2)] == ["ok", "ok"]
        running.records()
        yield found


def test_budgets_and_their_accounts_are_listed(spent: Spent) -> None:
    found = spent("budgets", "list")
    assert found.code == 0, found.err
    assert [line.split()[:5] for line in found.out.splitlines()[1:]] == [
        ["org-total", "subject.org", "1", "usd", "total"],
        ["tools", "subject.org", "resource.id", "100", "calls"],
    ]
    found = spent("budgets", "list", "org-total")
    assert found.out.splitlines()[0] == "org-total: 1 usd per total"
    row = found.out.splitlines()[-1].split()
    assert [row[0], *row[2:]] == ["acme", "50%", "0.5", "0", "0.5", "1"]
    assert row[1].count("\N{FULL BLOCK}") == 10
    assert spent("budgets", "list", "org-total", "--find", "nobody", "--json").json["accounts"] == []
    assert spent("budgets", "list", "none").code == 1


def test_an_account_that_is_full_is_topped_up_and_goes_on(spent: Spent) -> None:
    assert [spent.caller.call() for _ in range(3)] == ["ok", "ok", "budget_exhausted"]
    found = spent("budgets", "top-up", "org-total", "acme", "--amount", "0.25", "--why", "the month is long")
    assert found.code == 0, found.err
    assert "the month is long" in found.out
    assert [spent.caller.call() for _ in range(2)] == ["ok", "budget_exhausted"]
    spent.running.records()
    assert spent.account()["left"] == "0"
    found = spent("budgets", "reset", "org-total", "acme")
    assert found.code == 0, found.err
    assert spent.account()["left"] == "1.25"
    assert spent.caller.call() == "ok"
    acts = [record for record in spent.running.records() if "adjustment" in record]
    assert [act["action"] for act in acts] == ["budget.top-up", "budget.reset"]


def test_an_amount_is_set_and_unset_and_a_grant_ends(spent: Spent) -> None:
    assert spent("budgets", "set", "org-total", "acme", "--amount", "0.5").code == 0
    assert spent.caller.call() == "budget_exhausted"
    until = "2099-01-01T00:00:00Z"
    assert spent("budgets", "grant", "org-total", "acme", "--amount", "0.25", "--until", until).code == 0
    assert [spent.caller.call() for _ in range(2)] == ["ok", "budget_exhausted"]
    assert spent("budgets", "set", "org-total", "acme", "--unset").code == 0
    assert spent.caller.call() == "ok"
    account = spent.account()
    assert (account["most"], account["grants"]) == ("1", [{"amount": "0.25", "until": until}])


def test_an_act_may_name_what_was_looked_at(spent: Spent) -> None:
    etag = spent.account()["etag"]
    first = spent("budgets", "set", "org-total", "acme", "--amount", "2", "--if-match", etag)
    assert first.code == 0, first.err
    second = spent("budgets", "set", "org-total", "acme", "--amount", "3", "--if-match", etag)
    assert second.code == 1
    assert "look at it again" in second.err
    assert spent.account()["most"] == "2"


def test_a_key_may_be_given_as_json(spent: Spent) -> None:
    found = spent("budgets", "show", "tools", "--key", json.dumps(["acme", "weather/forecast"]), "--json")
    assert found.json["settled"] == "2"
    assert spent("budgets", "show", "tools", "acme", "weather/forecast", "--json").json["settled"] == "2"
    assert spent("budgets", "set", "tools", "--key", '["acme",null]', "--amount", "1").code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "org-total"), 2),
        (("show", "org-total", "acme", "--key", '["acme"]'), 2),
        (("show", "org-total", "--key", "acme"), 2),
        (("show", "org-total", "acme", "extra"), 1),
        (("set", "org-total", "acme"), 2),
        (("set", "org-total", "acme", "--amount", "1", "--unset"), 2),
        (("set", "org-total", "acme", "--amount", "much"), 1),
        (("top-up", "org-total", "acme", "--amount", "0"), 1),
        (("grant", "org-total", "acme", "--amount", "1", "--until", "yesterday"), 1),
    ],
)
def test_what_makes_no_sense_changes_nothing(spent: Spent, words: tuple[str, ...], code: int) -> None:
    found = spent("budgets", *words)
    assert found.code == code, found
    assert found.err
    assert spent.account()["adjustments"] == []


def test_accounts_stand_as_they_did_after_a_restart(tmp_path: Path, shell: Shell) -> None:
    with changing() as server:
        whole = settings(tmp_path, server)
        with gateway(tmp_path, **whole) as running:
            spent = Spent(running, shell)
            assert [spent.caller.call() for _ in range(3)] == ["ok"] * 3
            running.records()
            spent("budgets", "top-up", "org-total", "acme", "--amount", "0.5")
            before = spent.account()
        with gateway(tmp_path, **whole) as running:
            spent = Spent(running, shell)
            assert spent.account() == before
            assert [spent.caller.call() for _ in range(4)] == ["ok"] * 3 + ["budget_exhausted"]


def test_usage_is_shown_as_a_table_with_bars(spent: Spent) -> None:
    found = spent("usage", "show", "--by", "org,tool")
    assert found.code == 0, found.err
    head, *rows = found.out.splitlines()
    assert head.split() == ["ORG", "TOOL", "CALLS", "USD"]
    [row] = [row.split() for row in rows if "weather/forecast" in row]
    assert row == ["acme", "weather/forecast", "2", "0.5", "\N{FULL BLOCK}" * 24]
    assert rows[-1].split()[:3] == ["TOTAL", "2", "0.5"]
    assert spent("usage", "show", "--only", "org=nobody", "--json").json["rows"] == []
    table = spent("usage", "show", "--by", "org,tool", "--csv").out
    head, *rows = list(csv.reader(io.StringIO(table)))
    assert head == ["org", "tool", *COUNTS]
    assert ["acme", "weather/forecast", "2"] in [row[:3] for row in rows]
    for words in (("--only", "org"), ("--only", "shoe=1"), ("--by", "shoe"), ("--from", "x")):
        assert spent("usage", "show", *words).code in (1, 2)


# Invoices

TODAY = ("--from", "2026-01-01", "--to", "2099-12-31")


def test_an_invoice_of_a_running_gateway_equals_its_counters(spent: Spent) -> None:
    found = spent("usage", "invoice", *TODAY)
    assert found.code == 0, (found.out, found.err)
    assert "the ledger says the same" in found.out
    assert "acme tool weather/forecast 2" in " ".join(found.out.split())
    spent("budgets", "reset", "org-total", "acme")
    whole = spent("usage", "invoice", *TODAY, "--by", "org", "--json", "--key", spent.running.app.log.vkey).json
    assert (whole["usd"], whole["proven"], whole["accounts"]) == ("0.5", True, 2)
    assert whole["checkpoint"]["key_source"] == "--key"
    [line] = [line for line in whole["lines"] if line["usd"] != "0"]
    assert (line["org"], line["calls"]) == ("acme", 2)


def test_an_invoice_names_the_account_whose_counter_is_another(spent: Spent) -> None:
    counters = spent.running.app.counters

    async def cheat() -> None:
        known: Any = counters
        for accounts in known._budgets["org-total"].periods.values():
            accounts['["acme"]'].settled -= 250_000

    spent.running.call(cheat())
    found = spent("usage", "invoice", *TODAY)
    assert found.code == 4
    assert 'org-total ["acme"], usd: 0.5 by the log, 0.25 by the ledger' in found.out


def test_an_invoice_of_files_needs_no_gateway(tmp_path: Path, shell: Shell) -> None:
    with changing() as server, gateway(tmp_path, **settings(tmp_path, server)) as running:
        spent = Spent(running, shell)
        assert [spent.caller.call() for _ in range(2)] == ["ok", "ok"]
        running.records()
        vkey = running.app.log.vkey
    where = ("--data-dir", tmp_path / "var", "--key", vkey)
    found = shell("usage", "invoice", *TODAY, *where)
    assert found.code == 0, (found.out, found.err)
    assert "acme tool weather/forecast 2" in " ".join(found.out.split())
    assert "the ledger says the same" in found.out
    nothing = shell("usage", "invoice", "--from", "2020-01-01", "--to", "2020-12-31", *where, "--json").json
    assert (nothing["lines"], nothing["proven"]) == ([], True)
    assert "key_source" in shell("usage", "invoice", *TODAY, "--data-dir", tmp_path / "var").err
    for words in (("--by", "shoe"), ("--by", "org,org"), ("--admin", "http://x"), ("--from", "yesterday")):
        assert shell("usage", "invoice", *TODAY, *where, *words).code == 2
    assert shell("usage", "invoice", "--from", "2026-02-01", "--to", "2026-01-01", *where).code == 2
