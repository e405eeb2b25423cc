"""Limits and budgets that several gateways count together in a real Redis, wire to wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
from rig import Running, gateway, run, until

from tests.flows.canned import Canned, canned, open_policy
from tests.flows.canned import answer as canned_answer
from tests.stores.redis_server import Running as Redis
from tests.stores.redis_server import server

BUDGET = {"name": "org-total", "key": ["subject.org"], "unit": "calls", "amount": 10, "period": "total"}


def settings(folder: Path, upstream: Canned, redis: Redis, node: str, **more: Any) -> dict[str, Any]:
    upstream.says["/done"] = canned_answer(b"{}")
    folder.mkdir()
    return {
        "node": node,
        "stores": {"counters": f"redis://127.0.0.1:{redis.port}"},
        "policy": open_policy(folder),
        "upstreams": {"files": {"url": upstream.url, "protocol": "http"}},
        "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files"}],
        "budgets": [BUDGET],
    } | more


async def many(count: int, *gateways: Running) -> list[int]:
    """So many calls at the same time, spread over the gateways."""
    async with httpx2.AsyncClient(timeout=30) as client:

        async def one(at: int) -> int:
            found = gateways[at % len(gateways)]
            headers = {"authorization": f"Bearer {found.issuer.token()}"}
            return (await client.get(f"{found.url}/files/done", headers=headers)).status_code

        return list(await asyncio.gather(*(one(at) for at in range(count))))


def ready(found: Running) -> int:
    return httpx2.get(f"{found.admin_url}/readyz").status_code


def test_two_gateways_let_exactly_ten_through_a_budget_for_ten(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        one, two = tmp_path / "one", tmp_path / "two"
        with (
            gateway(one, **settings(one, upstream, redis, "one")) as first,
            gateway(two, **settings(two, upstream, redis, "two")) as second,
        ):
            statuses = run(many(64, first, second))
            assert (statuses.count(200), statuses.count(402)) == (10, 54)
            records = [*first.records(), *second.records()]
            settled = [found["budgets"][0]["settled"] for found in records if found["kind"] == "outcome"]
            assert settled == ["1"] * 10
            stands = redis.client().hgetall('{tollgate}account:org-total::["acme"]')
            assert (stands[b"s"], stands[b"r"]) == (b"10", b"0")
            assert redis.client().exists("{tollgate}open:one", "{tollgate}open:two") == 0


def test_redis_away_is_503_and_not_ready_and_nothing_is_forwarded(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        with gateway(folder, **settings(folder, upstream, redis, "gw")) as found:
            assert run(many(2, found)) == [200, 200]
            until(lambda: ready(found) == 200, what="readiness")
            redis.stop()
            seen = len(upstream.heads)
            assert set(run(many(8, found))) == {503}
            until(lambda: ready(found) == 503, what="the end of readiness")
            assert len(upstream.heads) == seen
            refusal = found.last("refusal")["refusal"]
            assert (refusal["reason"], refusal["rule"]) == ("overloaded", "counters")
            redis.again()  # it has forgotten everything
            until(lambda: ready(found) == 200, what="readiness")
            assert sorted(run(many(12, found))) == [200] * 8 + [402] * 4


def test_a_gateway_that_starts_without_redis_lets_nobody_through_until_it_is_there(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        redis.stop()
        with gateway(folder, **settings(folder, upstream, redis, "gw")) as found:
            assert run(many(2, found)) == [503, 503]
            assert ready(found) == 503
            redis.again()
            until(lambda: ready(found) == 200, what="readiness")
            assert run(many(2, found)) == [200, 200]


def test_an_emptied_redis_is_filled_from_the_log_when_the_gateway_starts_again(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        wanted = settings(folder, upstream, redis, "gw")
        with gateway(folder, **wanted) as found:
            assert run(many(7, found)) == [200] * 7
        redis.client().flushall()
        with gateway(folder, **wanted) as again:
            assert sorted(run(many(5, again))) == [200] * 3 + [402] * 2


def test_a_rate_and_places_are_counted_over_both(tmp_path: Path) -> None:
    limits = [
        {"name": "all", "key": ["subject.org"], "rate": "20/hour"},
        {"name": "at-once", "key": ["subject.org"], "concurrent": 1000},
    ]
    with server() as redis, canned() as upstream:
        one, two = tmp_path / "one", tmp_path / "two"
        with (
            gateway(one, **settings(one, upstream, redis, "one", limits=limits, budgets=[])) as first,
            gateway(two, **settings(two, upstream, redis, "two", limits=limits, budgets=[])) as second,
        ):
            statuses = run(many(40, first, second))
            assert (statuses.count(200), statuses.count(429)) == (20, 20)
            first.records()
            second.records()
            assert any(b"rate:" in key for key in redis.client().scan_iter())
            until(lambda: not [key for key in redis.client().scan_iter() if b"place:" in key], what="no place taken")


def test_metrics_say_how_the_counters_are(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        with gateway(folder, **settings(folder, upstream, redis, "gw")) as found:
            headers = {"authorization": f"Bearer {found.admin_token}"}
            text = httpx2.get(f"{found.admin_url}/metrics", headers=headers).text
            assert "tollgate_counters_up 1.0" in text
            redis.stop()
            until(lambda: "tollgate_counters_up 0.0" in httpx2.get(f"{found.admin_url}/metrics", headers=headers).text)
            assert run(many(1, found)) == [503]
            text = httpx2.get(f"{found.admin_url}/metrics", headers=headers).text
            assert "tollgate_counters_unavailable_total 1.0" in text


def test_in_lease_mode_redis_away_is_nobodys_503_and_what_was_spent_is_told_when_it_is_back(tmp_path: Path) -> None:
    with server() as redis, canned() as upstream:
        folder = tmp_path / "gw"
        counters = {"url": f"redis://127.0.0.1:{redis.port}", "mode": "lease", "lease": {"share": "10%"}}
        budget = BUDGET | {"amount": 1000}
        limits = [{"name": "all", "key": ["subject.org"], "rate": "1000/hour"}]
        wanted = settings(folder, upstream, redis, "gw", budgets=[budget], limits=limits)
        with gateway(folder, **wanted | {"stores": {"counters": counters}}) as found:
            assert run(many(40, found)) == [200] * 40
            lease = found.app.counting.leases
            assert lease is not None
            until(lambda: lease.leased == 1, what="a lease")
            redis.stop()
            assert run(many(8, found)) == [200] * 8
            assert ready(found) == 200
            redis.again()
            account = '{tollgate}account:org-total::["acme"]'
            until(lambda: redis.client().hget(account, "s") == b"48", what="what was spent")
            assert run(many(4, found)) == [200] * 4
