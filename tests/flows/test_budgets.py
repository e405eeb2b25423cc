"""Budgets and limits, wire to wire: refusals, records, what policy charges and reads, and a kill between reserve and
settle."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import ISSUER, Issuer, Running, gateway, read_log, until

from gateway.core.accounts import amount, shown
from tests.cli.served import Served, serving
from tests.flows.canned import OPEN, Canned, answer, canned

CALLS = {"name": "org-calls", "key": ["subject.org"], "unit": "calls", "amount": 2, "period": "day"}
BYTES = {"name": "mine", "key": ["subject.id", "resource.id"], "unit": "bytes", "amount": 1_000_000, "period": "total"}


@pytest.fixture
def upstream() -> Iterator[Canned]:
    with canned() as found:
        found.says["/api/pay"] = answer(b'{"paid": true}')
        found.says["/api/broken"] = answer(b"no", "text/plain", "500 Broken")
        yield found


def settings(folder: Path, upstream: Canned, policy: str = OPEN, **more: Any) -> dict[str, Any]:
    (folder / "policy").mkdir(exist_ok=True)
    (folder / "policy" / "decision.rego").write_text(policy)
    return {
        "upstreams": {"shop": {"url": f"{upstream.url}/api", "protocol": "http"}},
        "routes": [{"name": "shop", "match": {"path": "/shop"}, "upstream": "shop"}],
        "policy": {"bundle": str(folder / "policy")},
    } | more


def get(running: Running, path: str = "pay", **claims: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {running.issuer.token(**claims)}"}
    return httpx2.get(f"{running.url}/shop/{path}", headers=headers, timeout=20)


def metrics(running: Running) -> str:
    headers = {"authorization": f"Bearer {running.admin_token}"}
    return httpx2.get(f"{running.admin_url}/metrics", headers=headers, timeout=20).text


def settled(records: list[dict[str, Any]], name: str) -> int:
    entries = [entry for record in records if record["kind"] == "outcome" for entry in record.get("budgets", [])]
    return sum(amount(entry["settled"], entry["unit"]) for entry in entries if entry["name"] == name)


def test_a_call_too_many_is_a_402_and_both_records_say_what_was_reserved_and_settled(
    tmp_path: Path, upstream: Canned
) -> None:
    with gateway(tmp_path, **settings(tmp_path, upstream, budgets=[CALLS, BYTES])) as running:
        said = [get(running) for _ in range(3)]
        other = get(running, org="other")
        records = running.records()
        exposed = metrics(running)
    assert [answered.status_code for answered in (*said, other)] == [200, 200, 402, 200]
    problem = said[2].json()
    assert problem["reason"] == "budget_exhausted"
    assert problem["budgets"][0]["name"] == "org-calls"
    assert problem["budgets"][0]["remaining"] == "0"
    assert problem["budgets"][0]["renews"].endswith("T00:00:00Z")
    assert "retry-after" not in said[2].headers
    intent = next(record for record in records if record["kind"] == "intent")
    outcome = next(record for record in records if record["kind"] == "outcome")
    assert [(entry["key"], entry["name"], entry["unit"]) for entry in intent["budgets"]] == [
        (["acme"], "org-calls", "calls"),
        (["agent:idp/planner", "/shop/pay"], "mine", "bytes"),
    ]
    assert intent["budgets"][0]["reserved"] == "1"
    assert "settled" not in intent["budgets"][0]
    assert "period" not in intent["budgets"][1]
    assert outcome["budgets"][0] == {**intent["budgets"][0], "settled": "1"}
    assert outcome["budgets"][1]["settled"] == str(len(b'{"paid": true}'))
    refusal = next(record for record in records if record["kind"] == "refusal")
    assert refusal["refusal"]["budget"]["key"] == ["acme"]
    assert refusal["refusal"]["rule"] == "org-calls"
    assert "budgets" not in refusal
    assert settled(records, "org-calls") == 3
    assert 'tollgate_budget_used_ratio{budget="org-calls"} 1.0' in exposed
    assert 'tollgate_budget_reserved{budget="mine"} 0.0' in exposed


def test_an_upstreams_error_is_a_call_with_its_bytes(tmp_path: Path, upstream: Canned) -> None:
    with gateway(tmp_path, **settings(tmp_path, upstream, budgets=[CALLS, BYTES])) as running:
        assert get(running, "broken").status_code == 500
        outcome = running.last("outcome")
    assert [entry["settled"] for entry in outcome["budgets"]] == ["1", "2"]


def test_what_never_got_there_costs_nothing(tmp_path: Path, upstream: Canned) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        changed = settings(tmp_path, upstream, budgets=[CALLS])
        changed["upstreams"]["shop"]["url"] = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with gateway(tmp_path, **changed) as running:
            assert [get(running).status_code for _ in range(4)] == [502] * 4
            assert settled(running.records(), "org-calls") == 0


CHARGING = """package tollgate

import rego.v1

default decision := {"decision": true, "context": {"rule": "all"}}

decision := {"decision": true, "context": {"rule": "paid", "obligations": [
    {"type": "charge", "unit": "usd", "amount": 0.25}]}} if endswith(input.resource.id, "/pay")
"""


def test_what_policy_charges_is_booked_and_stops_when_there_is_no_more(tmp_path: Path, upstream: Canned) -> None:
    usd = {
        "name": "org-usd",
        "key": ["subject.org"],
        "unit": "usd",
        "amount": 0.6,
        "period": "month",
        "warn_at": ["40%"],
    }
    with gateway(tmp_path, **settings(tmp_path, upstream, CHARGING, budgets=[usd])) as running:
        said = [get(running).status_code for _ in range(3)]
        records = running.records()
    assert said == [200, 200, 402]
    assert shown(settled(records, "org-usd"), "usd") == "0.5"
    outcomes = [record for record in records if record["kind"] == "outcome"]
    assert [outcome["usage"]["usd"] for outcome in outcomes] == ["0.25", "0.25"]
    assert [outcome["budgets"][0].get("marks") for outcome in outcomes] == [[400], None]


def test_what_policy_charges_without_a_budget_is_a_deny(tmp_path: Path, upstream: Canned) -> None:
    with gateway(tmp_path, **settings(tmp_path, upstream, CHARGING)) as running:
        refused = get(running)
        assert refused.status_code == 403
        assert "there is no budget in usd" in refused.json()["detail"]
        assert running.last("refusal")["refusal"]["rule"] == "obligation"


def test_a_call_without_a_price_is_refused_by_a_budget_in_usd(tmp_path: Path, upstream: Canned) -> None:
    usd = {"name": "org-usd", "key": ["subject.org"], "unit": "usd", "amount": 1, "period": "month"}
    with gateway(tmp_path, **settings(tmp_path, upstream, budgets=[usd])) as running:
        assert get(running).status_code == 402
        assert running.last("refusal")["refusal"]["rule"] == "org-usd: no price for /shop/pay"
        running.reload(budgets=[usd | {"unpriced": "allow"}])
        assert get(running).status_code == 200
        assert running.last("outcome")["usage"]["unpriced"] is True
        assert 'tollgate_budget_unpriced_total{route="shop"} 1.0' in metrics(running)


READING = """package tollgate

import rego.v1

default decision := {"decision": true, "context": {"rule": "all"}}

decision := {"decision": false, "context": {"rule": "thrift", "reason": "one call is kept for emergencies"}} if {
    to_number(input.context.budget["org-calls"].remaining) < 2
}
"""


def test_a_policy_reads_what_is_left_of_the_budgets(tmp_path: Path, upstream: Canned) -> None:
    with gateway(tmp_path, **settings(tmp_path, upstream, READING, budgets=[CALLS])) as running:
        first, second = get(running), get(running)
    assert (first.status_code, second.status_code) == (200, 403)
    assert second.json()["detail"] == "one call is kept for emergencies"


def test_shadow_limits_are_recorded_and_sliding_ones_refuse(tmp_path: Path, upstream: Canned) -> None:
    shadow = {"name": "trial", "key": ["subject.id"], "rate": "1/hour", "shadow": True}
    sliding = {"name": "window", "key": ["subject.id"], "rate": "3/hour", "window": "sliding"}
    with gateway(tmp_path, **settings(tmp_path, upstream, limits=[shadow, sliding])) as running:
        said = [get(running) for _ in range(4)]
        intents = [record for record in running.records() if record["kind"] == "intent"]
        assert 'tollgate_limit_shadow_exceeded_total{limit="trial"} 3.0' in metrics(running)
    assert [answered.status_code for answered in said] == [200, 200, 200, 429]
    assert said[1].headers["ratelimit-policy"] == '"window";q=3;w=3600'
    assert said[1].headers["ratelimit"].startswith('"window";r=1;')
    assert 3000 < int(said[3].headers["retry-after"]) <= 3660
    assert [record["limits"][0] for record in intents] == [
        {"name": "trial", "remaining": 0, "shadow": True},
        {"exceeded": True, "name": "trial", "remaining": 0, "shadow": True},
        {"exceeded": True, "name": "trial", "remaining": 0, "shadow": True},
    ]


def test_a_reload_keeps_what_was_used(tmp_path: Path, upstream: Canned) -> None:
    with gateway(tmp_path, **settings(tmp_path, upstream, budgets=[CALLS])) as running:
        assert [get(running).status_code for _ in range(3)] == [200, 200, 402]
        running.reload(budgets=[CALLS | {"amount": 3}])
        assert [get(running).status_code for _ in range(2)] == [200, 402]


def serve_until_killed(folder: Path, issuer: Issuer, upstream: Canned, arrived: threading.Event) -> None:
    with serving() as served:
        headers = {"authorization": f"Bearer {issuer.token()}"}
        url = f"http://{served.announced['listen']}/shop/hang"
        caller = threading.Thread(target=lambda: _ignored(url, headers), daemon=True)
        caller.start()
        assert arrived.wait(20)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(10)
        caller.join(10)


def _ignored(url: str, headers: dict[str, str]) -> None:
    try:
        httpx2.get(url, headers=headers, timeout=30)
    except httpx2.HTTPError:
        return


def test_a_kill_between_reserve_and_settle_is_closed_once_at_all_that_was_reserved(
    tmp_path: Path, upstream: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    issuer, arrived, over = Issuer(tmp_path), threading.Event(), threading.Event()

    def hang(connection: socket.socket) -> None:
        arrived.set()
        over.wait(30)

    upstream.says["/api/hang"] = hang
    whole = settings(tmp_path, upstream, budgets=[CALLS | {"amount": 1}]) | {
        "node": "gw-1", "listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"},
        "trust": {
            "issuers": [{"name": "idp", "issuer": ISSUER, "audience": "tollgate", "jwks": {"file": str(issuer.jwks)}}]
        },
    }  # fmt: skip
    (tmp_path / "gateway.yaml").write_text(json.dumps(whole))
    serve_until_killed(tmp_path, issuer, upstream, arrived)
    over.set()
    for _ in range(2):  # a second start finds nothing to close
        with serving() as served:
            assert answered(served, issuer) == 402
            until(lambda: [record["result"] for record in outcomes(tmp_path)] == ["unknown"], what="the closing")
    [outcome] = outcomes(tmp_path)
    assert [(entry["reserved"], entry["settled"]) for entry in outcome["budgets"]] == [("1", "1")]


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(folder / "var" / "log") if record["kind"] == "outcome"]


def answered(served: Served, issuer: Issuer) -> int:
    headers = {"authorization": f"Bearer {issuer.token()}"}
    return httpx2.get(f"http://{served.announced['listen']}/shop/pay", headers=headers, timeout=20).status_code
