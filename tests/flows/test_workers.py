"""Several workers are one gateway: exact limits and budgets, one log, one configuration, one kill switch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rig import Issuer, run, until

from tests.flows.crews import NONE, alive, calls, configure, crew, issuer_of
from tests.flows.ledgers import ledgers
from tests.flows.pushing import bundle_settings
from tests.identity.prover import Prover
from tests.trust.bundle_rig import files, packed, signed

WORKERS = 2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_rate_and_a_budget_are_exact_over_all_workers_and_their_figures_add_up(folder: Path) -> None:
    limits = [{"name": "rate", "key": ["route"], "rate": "40/day"}]
    budgets = [{"name": "calls", "key": ["route"], "unit": "calls", "amount": 30, "period": "day"}]
    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port, limits=limits, budgets=budgets)
        with crew() as gateway:
            found = Counter(run(calls(gateway.port, 32, 5)))
            assert found == {200: 30, 402: 130}
            assert len(upstream.received) == 30
            records = gateway.records()
            until(lambda: sum(gateway.metric("tollgate_requests_total").values()) == 160, what="the figures of both")
            [account] = gateway.ask("/api/v1/budgets/calls").json()["accounts"]
            assert (account["settled"], account["reserved"]) == ("30", "0")
            outcomes = [record for record in records if record["kind"] == "outcome"]
            assert sum(int(record["budgets"][0]["settled"]) for record in outcomes) == 30
            by_worker = {one["worker"] for one in gateway.status()["workers"]}
            assert by_worker == {1, 2}


def test_so_many_run_at_once_over_all_workers_and_no_more(folder: Path) -> None:
    async def streams(port: int) -> list[bytes]:
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(40)))
        for _, writer in opened:
            writer.write(b"GET /plain/endless HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        found = [await reader.readline() for reader, _ in opened]
        for _, writer in opened:
            writer.transport.abort()
        return found

    limits = [{"name": "at-once", "key": ["route"], "concurrent": 10}]
    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port, limits=limits)
        with crew() as gateway:
            found = Counter(line.split()[1] for line in run(streams(gateway.port)))
            assert found == {b"200": 10, b"429": 30}
            gateway.idle()
            assert Counter(run(calls(gateway.port, 10, 1))) == {200: 10}, "every place came back"


def test_a_reload_is_in_force_in_every_worker_or_in_none(folder: Path) -> None:
    with ledgers(0, 0) as (upstream, _):
        settings = configure(folder, upstream.port)
        with crew() as gateway:
            assert set(run(calls(gateway.port, 16, 1))) == {200}
            (folder / "policies" / "decision.rego").write_text(NONE)
            gateway.served.process.send_signal(signal.SIGHUP)
            revision = gateway.served.said("the configuration is in force")["event"].rpartition(" ")[2]
            assert set(run(calls(gateway.port, 16, 1))) == {403}, "whoever was told has all of it"
            (folder / "gateway.yaml").write_text(json.dumps({**settings, "nonsense": 1}))
            gateway.served.process.send_signal(signal.SIGHUP)
            gateway.served.said("the configuration is not in force")
            assert gateway.status()["revision"] == revision
            assert set(run(calls(gateway.port, 16, 1))) == {403}
            made = [record["activation"] for record in gateway.records() if record["kind"] == "activation"]
            assert [(one["effect"], one["why"]) for one in made[:2]] == [("accepted", "start"), ("accepted", "reload")]
            assert made[1]["revision"] == revision
            assert {one["effect"] for one in made[2:]} == {"refused"}


def test_a_policy_that_is_pushed_decides_in_every_worker_also_in_one_that_begins_later(folder: Path) -> None:
    denied = packed(signed(files(1, policy=NONE.encode(), tests=None)))
    with ledgers(0, 0) as (upstream, _):
        more = bundle_settings(folder, bundle="policies")
        configure(folder, upstream.port, **more)
        with crew() as gateway:
            assert set(run(calls(gateway.port, 16, 1))) == {200}
            pushed = gateway.ask(
                "/api/v1/bundles?name=tollgate&activate=true", "POST", content=denied,
                headers={"content-type": "application/gzip", "if-match": "*"}, timeout=60,
            )  # fmt: skip
            assert pushed.status_code == 200, pushed.text
            assert set(run(calls(gateway.port, 16, 1))) == {403}, "whoever was told has all of it"
            before = gateway.pids()
            gateway.kill(before)
            gateway.gone(before)
            gateway.serves()
            assert set(run(calls(gateway.port, 16, 1))) == {403}
            made = [one for one in gateway.records() if one["kind"] == "activation"]
            assert len(made) == 2, "the start, and one for all of them"


def test_a_worker_that_is_killed_is_replaced_and_what_it_held_is_given_back(folder: Path) -> None:
    limits = [{"name": "at-once", "key": ["route"], "concurrent": 4}]
    budgets = [{"name": "calls", "key": ["route"], "unit": "calls", "amount": 1000, "period": "day"}]
    with ledgers(1, 4) as (upstream, callers):
        issuer = Issuer(folder)
        configure(folder, upstream.port, limits=limits, budgets=budgets, trust=issuer_of(issuer))
        with crew() as gateway:
            before = gateway.pids()
            callers.go(gateway.port, issuer.token())
            callers.acknowledge(30)
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            callers.over()
            gateway.gone(before)
            gateway.serves()
            records = gateway.records()
            assert set(run(calls(gateway.port, 4, 1))) == {200}, "every place came back"
            assert set(callers.acknowledged) <= {one["exchange"] for one in records if one["kind"] == "intent"}
            assert set(upstream.received) >= set(callers.acknowledged)
            accounts = gateway.ask("/api/v1/budgets/calls").json()["accounts"]
            assert {one["reserved"] for one in accounts} == {"0"}
            outcomes = [one for one in gateway.records() if one["kind"] == "outcome"]
            assert "unknown" in {one["result"] for one in outcomes}
            said = sum(int(one["settled"]) for record in outcomes for one in record["budgets"])
            assert sum(int(one["settled"]) for one in accounts) == said, "the ledger and the log say the same"


@pytest.mark.slow
def test_twenty_kills_under_load_lose_nothing_that_was_acknowledged(folder: Path) -> None:
    limits = [{"name": "at-once", "key": ["route"], "concurrent": 12}]
    budgets = [{"name": "calls", "key": ["route"], "unit": "calls", "amount": 1000000, "period": "day"}]
    with ledgers(2, 4) as (upstream, callers):
        issuer = Issuer(folder)
        configure(folder, upstream.port, limits=limits, budgets=budgets, trust=issuer_of(issuer))
        with crew() as gateway:
            for _ in range(10):
                before = gateway.pids()
                known = len(callers.acknowledged)
                callers.go(gateway.port, issuer.token())
                for number, pid in before.items():
                    callers.acknowledge(known + 60 * number)
                    os.kill(pid, signal.SIGKILL)
                callers.over()
                gateway.gone(before)
                gateway.serves()
            records = gateway.records()
            intents = [one["exchange"] for one in records if one["kind"] == "intent"]
            outcomes = {one["exchange"]: one for one in records if one["kind"] == "outcome"}
            assert len(set(intents)) == len(intents)
            assert set(intents) == set(outcomes)
            assert set(callers.acknowledged) <= set(intents), "acknowledged and lost"
            assert set(upstream.received) <= set(intents), "forwarded and not recorded"
            assert len(upstream.received) == len(set(upstream.received)), "one intent was forwarded twice"
            unknown = [one for one in outcomes.values() if one["result"] == "unknown"]
            assert len(unknown) >= 10, "the kills came when nothing was under way"
            accounts = gateway.ask("/api/v1/budgets/calls").json()["accounts"]
            assert {one["reserved"] for one in accounts} == {"0"}
            settled = sum(int(entry["settled"]) for one in outcomes.values() for entry in one["budgets"])
            assert sum(int(one["settled"]) for one in accounts) == settled
            assert set(run(calls(gateway.port, 12, 1))) == {200}, "every place came back"
            assert not [line for line in gateway.served.lines if line["level"] == "critical"]


def test_a_worker_that_cannot_begin_is_told_of_and_tried_again(folder: Path) -> None:
    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port)
        with crew() as gateway:
            broken = folder / "var" / "breakers.json"
            broken.write_text("no JSON")
            before = gateway.pids()
            os.kill(before[1], signal.SIGKILL)
            gateway.served.said("worker 1 does not start")
            until(lambda: gateway.ask("/readyz").status_code == 503, 30, "a gateway that is not ready")
            assert "worker 1 does not serve" in str(gateway.status()["problems"])
            assert gateway.pids() == {2: before[2]}, "the other one goes on"
            broken.unlink()
            gateway.serves()
            until(lambda: gateway.ask("/readyz").status_code == 200, 30, "a gateway that is ready")
            assert set(run(calls(gateway.port, 16, 1))) == {200}


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(folder: Path) -> None:
    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port)
        with crew() as gateway:
            before = gateway.pids()
            os.kill(before[1], signal.SIGSTOP)
            until(lambda: gateway.pids().get(1, before[1]) != before[1], 90, "another worker")
            assert not alive(before[1])
            assert set(run(calls(gateway.port, 16, 1))) == {200}


def test_without_their_owner_workers_end_and_the_next_start_finds_all(folder: Path) -> None:
    with ledgers(1, 4) as (upstream, callers):
        issuer = Issuer(folder)
        configure(folder, upstream.port, trust=issuer_of(issuer))
        with crew() as gateway:
            workers = gateway.pids()
            callers.go(gateway.port, issuer.token())
            callers.acknowledge(30)
            gateway.served.process.kill()
            gateway.served.process.wait(10)
            callers.over()
            until(lambda: not any(alive(pid) for pid in workers.values()), what="the end of the workers")
            with crew() as again:
                records = again.records()
                assert set(callers.acknowledged) <= {one["exchange"] for one in records if one["kind"] == "intent"}
                assert set(run(calls(again.port, 8, 1))) == {200}


def test_what_is_blocked_ends_on_every_worker_within_a_second(folder: Path) -> None:
    async def story(gateway: Any) -> list[float]:
        ended: list[float] = []
        opened = []
        for _ in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"GET /plain/endless HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            opened.append((reader, writer))
        blocked = await asyncio.to_thread(
            gateway.ask, "/api/v1/agents/block", "POST", json={"agent": "plain", "why": "no more"}
        )
        assert blocked.status_code in (200, 204), blocked.text
        since = time.monotonic()

        async def rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.read(65536):
                    pass
            except ConnectionError:
                pass
            ended.append(time.monotonic() - since)
            writer.close()

        await asyncio.gather(*(rest(*one) for one in opened))
        return ended

    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port)
        with crew() as gateway:
            assert max(run(story(gateway))) < 1.0
            assert set(run(calls(gateway.port, 16, 1))) == {403}


def test_a_drain_lets_streams_of_every_worker_come_to_their_end(folder: Path) -> None:
    async def story(gateway: Any) -> list[bytes]:
        opened = []
        for _ in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"GET /plain/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            opened.append((reader, writer))
            await reader.readuntil(b"\r\n\r\n")
        gateway.served.process.terminate()
        found = [await reader.read() for reader, _ in opened]
        for _, writer in opened:
            writer.close()
        return found

    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port)
        with crew() as gateway:
            bodies = run(story(gateway))
            assert all(body.endswith(b"0\r\n\r\n") for body in bodies)
            assert gateway.served.process.wait(30) == 0


def test_a_second_gateway_on_the_port_is_refused(folder: Path) -> None:
    from tests.cli.served import failed

    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port)
        with crew() as gateway:
            elsewhere = {"TOLLGATE__listen": f"127.0.0.1:{gateway.port}", "TOLLGATE__data_dir": "other"}
            found = failed("--workers", "2", **elsewhere)
            assert found.returncode == 1
            assert "is taken by another process" in found.stderr


def test_a_proof_that_one_worker_took_is_worth_nothing_at_any_other(folder: Path) -> None:
    prover, issuer = Prover(), Issuer(folder)
    token = issuer.token(cnf={"jkt": prover.thumbprint})

    async def story(port: int) -> Counter[int]:
        proof = prover.proof("POST", f"http://127.0.0.1:{port}/plain/x", token, time.time())
        headers = f"authorization: DPoP {token}\r\ndpop: {proof}\r\n"
        return Counter(await calls(port, 24, 1, headers=headers))

    with ledgers(0, 0) as (upstream, _):
        configure(folder, upstream.port, trust=issuer_of(issuer))
        with crew() as gateway:
            assert run(story(gateway.port)) == {200: 1, 401: 23}
