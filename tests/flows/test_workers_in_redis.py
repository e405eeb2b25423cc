"""Several workers of one gateway whose counters are in Redis: they count through their owner, one node there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from rig import run, until

from tests.flows.crews import calls, configure, crew
from tests.flows.ledgers import ledgers
from tests.stores.redis_server import server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "lease"])
def test_workers_are_one_node_in_redis_and_what_a_killed_one_held_is_closed(folder: Path, mode: str) -> None:
    limits = [
        {"name": "rate", "key": ["route"], "rate": "5000/day"},
        {"name": "once", "key": ["route"], "concurrent": 64},
    ]
    budgets = [{"name": "calls", "key": ["route"], "unit": "calls", "amount": 60, "period": "day"}]
    with server() as redis, ledgers(0, 0) as (upstream, _):
        counters = {"url": f"redis://127.0.0.1:{redis.port}", "mode": mode}
        configure(folder, upstream.port, limits=limits, budgets=budgets, stores={"counters": counters})
        with crew() as gateway:
            gateway.serves()
            assert Counter(run(calls(gateway.port, 8, 5))) == {200: 40}
            assert redis.client().zrange("{tollgate}nodes", 0, -1) == [b"gw-1"]
            before = gateway.pids()
            gateway.kill(before)
            gateway.gone(before)
            gateway.serves()
            until(lambda: not [key for key in redis.client().scan_iter() if b"place:" in key], what="no place taken")
            found = Counter(run(calls(gateway.port, 8, 5)))
            assert found[200] + found[402] == 40
            assert 15 <= found[200] <= 20  # a lease may cost the last ones a refusal
            [account] = gateway.ask("/api/v1/budgets/calls").json()["accounts"]
            assert int(account["settled"]) == 40 + found[200] == len(upstream.received)
        left = [key for key in redis.client().scan_iter() if b"open:" in key]
        assert left == [], "nothing is held when all have stopped"
