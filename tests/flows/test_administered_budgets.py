"""What administrators do to accounts that two gateways count in one Redis: it counts everywhere, once, and is not lost.

Each gateway has a log of its own and knows of its own administration only; balances are of both together.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx2
import pytest
from rig import Running, gateway, run, until

from tests.cli.rig_cli import Ran, Shell
from tests.flows.canned import canned
from tests.flows.crews import calls, configure, crew
from tests.flows.ledgers import ledgers
from tests.flows.test_counted_in_redis import many, settings
from tests.stores.redis_server import server

DAYS = ("--from", "2020-01-01", "--to", "2099-12-31")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def asked(shell: Shell, found: Running, *words: str) -> Ran:
    ran = shell(*words, "--admin", found.admin_url, "--token-file", str(found.folder / "admin.token"))
    assert ran.code == 0, ran
    return ran


def left(shell: Shell, found: Running) -> str:
    """ "away" while Redis is."""
    where = ("--admin", found.admin_url, "--token-file", str(found.folder / "admin.token"))
    ran = shell("budgets", "show", "org-total", "acme", "--json", *where)
    return str(ran.json["left"]) if ran.code == 0 else "away"


def test_acts_of_two_gateways_add_up_and_survive_an_emptied_redis(tmp_path: Path, shell: Shell) -> None:
    with server() as redis, canned() as upstream:
        one, two = tmp_path / "one", tmp_path / "two"
        with (
            gateway(one, **settings(one, upstream, redis, "one")) as first,
            gateway(two, **settings(two, upstream, redis, "two")) as second,
        ):
            assert set(run(many(8, first, second))) == {200}
            until(lambda: left(shell, first) == left(shell, second) == "2", what="what is left")
            asked(shell, first, "budgets", "top-up", "org-total", "acme", "--amount", "3")
            asked(shell, second, "budgets", "top-up", "org-total", "acme", "--amount", "4")
            asked(shell, second, "budgets", "set", "org-total", "acme", "--amount", "12")
            assert left(shell, first) == left(shell, second) == "11"  # 12 + 7 - 8
            asked(shell, first, "budgets", "reset", "org-total", "acme")
            assert left(shell, first) == left(shell, second) == "19"
            assert sorted(run(many(21, first, second))).count(200) == 19
            for found in (first, second):
                found.records()
            redis.client().flushall()
            until(lambda: left(shell, first) == left(shell, second) == "0", what="what is left")
            assert set(run(many(4, first, second))) == {402}


def test_what_was_done_is_there_after_all_were_stopped_and_redis_was_emptied(tmp_path: Path, shell: Shell) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        whole = settings(folder, upstream, redis, "gw")
        with gateway(folder, **whole) as found:
            assert set(run(many(4, found))) == {200}
            found.records()
            asked(shell, found, "budgets", "top-up", "org-total", "acme", "--amount", "5")
            before = left(shell, found)
        redis.client().flushall()
        with gateway(folder, **whole) as found:
            until(lambda: left(shell, found) != "away", what="the counters")
            assert left(shell, found) == before == "11"


def test_an_invoice_of_one_of_several_gateways_says_what_it_did_not_compare(tmp_path: Path, shell: Shell) -> None:
    with server() as redis, canned() as upstream:
        one, two = tmp_path / "one", tmp_path / "two"
        with (
            gateway(one, **settings(one, upstream, redis, "one")) as first,
            gateway(two, **settings(two, upstream, redis, "two")) as second,
        ):
            assert set(run(many(6, first, second))) == {200}
            for found in (first, second):
                found.records()
            ran = asked(shell, first, "usage", "invoice", *DAYS)
            assert "balances are of several gateways and were not compared" in ran.out
        for folder in (one, two):
            ran = shell("usage", "invoice", *DAYS, "--data-dir", folder / "var", "--json")
            assert (ran.code, ran.json["proven"], ran.json["accounts"]) == (0, True, 1), ran
            [line] = ran.json["lines"]
            assert line["calls"] == 3


def test_nothing_is_recorded_while_redis_is_away(tmp_path: Path, shell: Shell) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        with gateway(folder, **settings(folder, upstream, redis, "gw")) as found:
            assert run(many(1, found)) == [200]
            redis.stop()
            headers = {"authorization": f"Bearer {found.admin_token}"}
            url = f"{found.admin_url}/api/v1/budgets/org-total/account"
            document = {"key": ["acme"], "act": "top-up", "amount": "5"}
            answer = httpx2.post(url, json=document, headers=headers, timeout=30)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            redis.again()
            until(lambda: left(shell, found) == "9", what="what is left")
            assert not [record for record in found.records() if "adjustment" in record]


def test_what_is_done_to_an_account_holds_in_every_worker(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    budget = {"name": "calls", "key": ["route"], "unit": "calls", "amount": 10, "period": "month"}
    with ledgers(0, 0) as (upstream, _):
        configure(tmp_path, upstream.port, budgets=[budget])
        with crew() as found:
            assert Counter(run(calls(found.port, 8, 4))) == {200: 10, 402: 22}
            found.idle()
            for words in (("top-up", "--amount", "5"), ("reset",), ("set", "--amount", "20")):
                act, *more = words
                assert shell("budgets", act, "calls", "plain", *more, "--admin", found.admin).code == 0
            assert Counter(run(calls(found.port, 8, 4))) == {200: 25, 402: 7}
            found.idle()
            ran = shell("usage", "invoice", *DAYS, "--admin", found.admin, "--key", found.vkey, "--json")
            assert (ran.code, ran.json["proven"], ran.json["accounts"]) == (0, True, 1), ran
            assert sum(line["calls"] for line in ran.json["lines"]) == 35
        ran = shell("usage", "invoice", *DAYS, "--data-dir", "var", "--json")
        assert (ran.code, ran.json["proven"]) == (0, True), ran
