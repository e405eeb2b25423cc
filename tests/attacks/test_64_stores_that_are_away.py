"""A store that is away is never taken for a caller who is wrong, and its return needs nobody's hand.

Elsewhere a database that was down made callers 401, left the gateway ready, and needed a restart.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.flows.spending import free_port
from tests.flows.test_told import call, settings, vendor
from tests.rig import Running, gateway, until
from tests.stores.redis_server import server

ROW = 64
BACK_SECONDS = 5.0


def ready(served: Running) -> int:
    return httpx.get(f"{served.admin_url}/readyz").status_code


def test_counters_that_are_away_at_the_start_and_in_between_are_503_and_come_back_by_themselves(tmp_path: Path) -> None:
    port = free_port()
    budgets = [{"name": "b", "key": ["subject.id"], "unit": "calls", "amount": 100, "period": "month"}]
    stores = {"counters": f"redis://127.0.0.1:{port}"}
    with vendor() as model, gateway(tmp_path, **settings(tmp_path, model, budgets=budgets, stores=stores)) as served:

        def away() -> None:
            answer = call(served)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
            assert "retry-after" in answer.headers
            until(lambda: ready(served) == 503, what="an admission that it is not ready")

        def back() -> None:
            began = time.monotonic()
            until(lambda: call(served).status_code == 200, BACK_SECONDS, "its return")
            until(lambda: ready(served) == 200, BACK_SECONDS, "its readiness")
            assert time.monotonic() - began < 2 * BACK_SECONDS

        away()
        assert model.billed == {}
        with server(port=port) as redis:
            back()
            redis.stop()
            until(lambda: call(served).status_code == 503, what="a refusal")
            away()
            redis.again()
            back()
        refusals = [record["refusal"] for record in served.records() if record["kind"] == "refusal"]
        assert {refusal["reason"] for refusal in refusals} == {"overloaded"}
