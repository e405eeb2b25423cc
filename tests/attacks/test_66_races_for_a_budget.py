"""Callers at once, on two gateways that count together, for a budget that has room for a few of them: exactly those few
are let in, whoever asks whom. Elsewhere all of them read the same old number."""

from __future__ import annotations

from pathlib import Path

from tests.flows.test_budget_invariant import scene
from tests.stores.redis_server import server

ROW = 66


def test_two_gateways_one_redis_and_sixty_four_callers_for_a_budget_of_ten(tmp_path: Path) -> None:
    with server() as redis:
        caps = {"org": 10**6, "team": 10**6, "person": 10**6, "calls": 10}
        why = scene(tmp_path, 2, 64, 64, 0, caps, redis.port, only="acme")
    assert (why["answers"], why["refused"]) == (10, 54)


def test_one_gateway_and_sixty_four_callers_for_a_budget_of_ten(tmp_path: Path) -> None:
    caps = {"org": 10**6, "team": 10**6, "person": 10**6, "calls": 10}
    why = scene(tmp_path, 1, 64, 64, 0, caps, only="acme")
    assert (why["answers"], why["refused"]) == (10, 54)
