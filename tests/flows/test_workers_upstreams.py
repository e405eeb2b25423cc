"""Breakers of several workers: opened by hand in all of them, shown as the worst of them, counted together."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import run, until

from tests.flows.crews import calls, configure, crew
from tests.flows.ledgers import ledgers


def test_what_is_opened_by_hand_is_open_in_every_worker_also_in_one_that_begins_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ledgers(0, 0) as (upstream, _):
        settings = configure(tmp_path, upstream.port)
        settings["upstreams"]["plain"]["breaker"] = {"failures": 3, "open": "30s"}
        configure(tmp_path, upstream.port, upstreams=settings["upstreams"])
        with crew() as gateway:
            assert set(run(calls(gateway.port, 16, 1))) == {200}
            held = gateway.ask("/api/v1/upstreams/plain/breaker", "POST", json={"state": "open"})
            assert held.status_code == 200, held.text
            assert set(run(calls(gateway.port, 16, 1))) == {503}
            before = gateway.pids()
            gateway.kill(before)
            gateway.gone(before)
            gateway.serves()
            assert set(run(calls(gateway.port, 16, 1))) == {503}, "what was done by hand stays until it is undone"
            assert gateway.ask("/api/v1/upstreams/plain/breaker", "POST", json={"state": "auto"}).status_code == 200
            assert set(run(calls(gateway.port, 16, 1))) == {200}


def test_a_breaker_that_one_worker_opened_is_shown_as_open_and_its_metrics_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ledgers(0, 0) as (upstream, _):
        settings = configure(tmp_path, upstream.port)
        settings["upstreams"]["plain"] = {
            "url": "http://127.0.0.1:1/x", "protocol": "http", "breaker": {"failures": 3, "open": "60s"},
        }  # fmt: skip
        configure(tmp_path, upstream.port, upstreams=settings["upstreams"])
        with crew() as gateway:
            assert set(run(calls(gateway.port, 1, 5))) == {502, 503}, "one connection, so one worker"
            until(lambda: 2.0 in gateway.metric("tollgate_breaker_state").values(), what="an open breaker")
            [shown] = [one for one in gateway.ask("/api/v1/upstreams").json()["upstreams"] if one["name"] == "plain"]
            assert shown["breaker"]["state"] == "open"
            turned = [one for one in gateway.records() if one.get("action") == "breaker.open"]
            assert len(turned) == 1
