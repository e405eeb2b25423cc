"""`tollgate doctor` on counters in Redis: there, away, forgetful."""

from __future__ import annotations

from pathlib import Path

from gateway import config
from gateway.cli.doctor_counters import counters
from tests.stores.redis_server import free_port, server


def settings(port: int, mode: str = "strict") -> config.Settings:
    text = f"stores:\n  counters: {{url: redis://127.0.0.1:{port}, mode: {mode}}}\n"
    return config.read(text, "gateway.yaml", {})


def test_memory_needs_no_look() -> None:
    assert counters(config.read("", "gateway.yaml", {})) == []


def test_a_redis_that_answers_is_well_and_nothing_is_left_in_it() -> None:
    with server("--maxmemory-policy", "noeviction") as running:
        [found] = counters(settings(running.port))
        assert found.state in ("ok", "warn")  # a slow machine may warn
        assert "answers in" in found.detail
        assert running.client().dbsize() == 0


def test_a_redis_that_throws_keys_away_is_warned_of() -> None:
    with server("--maxmemory-policy", "allkeys-lru") as running:
        [found] = counters(settings(running.port))
        assert (found.state, "allkeys-lru" in found.detail) == ("warn", True)


def test_a_redis_that_is_away_fails_and_what_that_means_is_said(tmp_path: Path) -> None:
    port = free_port()
    [strict] = counters(settings(port))
    assert strict.state == "fail"
    assert "every call is 503" in strict.detail
    [lease] = counters(settings(port, "lease"))
    assert "leases run out" in lease.detail
