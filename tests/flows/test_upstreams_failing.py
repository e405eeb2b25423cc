"""Upstreams that die, hang and break, in processes of their own, before breakers and retries: what callers see, what
the upstream sees, and what is written down."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rig import Running, gateway, until

from tests.flows.canned import open_policy, say
from tests.flows.replicas import Replica, replicas

BREAKER = {"failures": 3, "open": "1h", "open_most": "1h"}


def settings(folder: Path, *found: Replica, path: str = "", protocol: str = "http", **more: Any) -> dict[str, Any]:
    where = {"url": found[0].url + path} if len(found) == 1 else {"urls": [item.url + path for item in found]}
    return {
        "policy": open_policy(folder),
        "upstreams": {"files": {**where, "protocol": protocol, **more}},
        "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files", "auth": "anonymous"}],
    }


def get(running: Running, path: str = "/files/x") -> Any:
    return say(running.app.port, f"GET {path}")


def turns(running: Running) -> list[tuple[str, str, str]]:
    """Every recorded change of a breaker, oldest first."""
    return [
        (record["action"], record["breaker"]["from"], record["breaker"]["to"])
        for record in running.records()
        if record["kind"] == "admin" and "breaker" in record
    ]


def test_a_dead_upstream_is_left_alone_after_its_failures_and_found_again_by_one_probe(tmp_path: Path) -> None:
    breaker = {**BREAKER, "open": "100ms", "open_most": "100ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=breaker)) as running:
        assert get(running).status == 200
        a.kill()
        assert [get(running).status for _ in range(3)] == [502, 502, 502]
        refused = get(running)
        assert (refused.status, refused.json()["reason"]) == (503, "breaker_open")
        assert int(refused.value("retry-after") or "0") >= 1
        record = running.last("refusal")
        assert (record["refusal"]["stage"], record["refusal"]["rule"]) == ("breaker", "3 failures in a row")
        until(lambda: get(running).status == 502, what="a probe")  # still dead: it opens again
        a.start()
        until(lambda: get(running).status == 200, what="the probe that closes it")
        assert [get(running).status for _ in range(5)] == [200] * 5
        told = turns(running)
        assert told[0] == ("breaker.open", "closed", "open")
        assert told[-2:] == [("breaker.half-open", "open", "half_open"), ("breaker.close", "half_open", "closed")]
        assert ("breaker.open", "half_open", "open") in told
        for before, after in pairwise(told):
            assert before[2] == after[1], "every change begins where the last one ended"


def test_an_upstream_that_answers_5xx_opens_it_and_one_that_answers_4xx_does_not(tmp_path: Path) -> None:
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=BREAKER)) as running:
        a.behaves("404")
        assert [get(running).status for _ in range(8)] == [404] * 8
        a.behaves("500")
        assert [get(running).status for _ in range(5)] == [500, 500, 500, 503, 503]
        assert a.asked == 11, "what is refused does not reach it"


def test_answers_that_break_off_count_as_failures_and_callers_who_leave_do_not(tmp_path: Path) -> None:
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=BREAKER)) as running:
        a.behaves("hang")
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", running.app.port)) as caller:
                asked = a.asked
                caller.sendall(b"GET /files/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                until(lambda asked=asked: a.asked > asked, what="the call")  # type: ignore[misc]
        until(lambda: running.app.status()["exchanges"] == 0, what="the end of the calls")
        a.behaves("well")
        assert get(running).status == 200
        a.behaves("cut")
        for _ in range(3):
            get(running)
        assert get(running).status == 503
        outcomes = [record for record in running.records() if record["kind"] == "outcome"]
        assert [record["result"] for record in outcomes] == ["client_gone"] * 6 + ["ok"] + ["upstream_gone"] * 3


def test_a_probe_whose_caller_goes_away_gives_its_place_to_the_next(tmp_path: Path) -> None:
    breaker = {**BREAKER, "open": "50ms", "open_most": "50ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=breaker)) as running:
        a.behaves("500")
        for _ in range(3):
            get(running)
        a.behaves("hang")
        asked = a.asked
        probe = None

        def probing() -> bool:
            nonlocal probe
            if probe is not None:
                probe.close()
            probe = socket.create_connection(("127.0.0.1", running.app.port))
            probe.sendall(b"GET /files/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            pause = threading.Event()
            pause.wait(0.05)
            return a.asked > asked

        until(probing, what="the probe")
        assert [get(running).status for _ in range(3)] == [503, 503, 503], "one probe at a time"
        assert a.asked == asked + 1
        assert probe is not None
        probe.close()
        until(lambda: running.app.status()["exchanges"] == 0, what="the end of the probe")
        a.behaves("well")
        assert get(running).status == 200
        assert turns(running)[-1] == ("breaker.close", "half_open", "closed")


def test_a_probe_is_one_request_also_where_calls_are_repeated(tmp_path: Path) -> None:
    breaker = {**BREAKER, "open": "50ms", "open_most": "50ms"}
    retries = {"attempts": 3, "budget": "100%", "least": 100, "pause": "1ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=breaker, retries=retries)) as running:
        a.behaves("503")
        assert [get(running).status for _ in range(3)] == [503] * 3
        assert a.asked == 9
        until(lambda: get(running).json().get("reason") != "breaker_open", what="a probe")
        assert a.asked == 10


def test_a_probe_that_is_a_long_stream_holds_nobody_up(tmp_path: Path) -> None:
    breaker = {**BREAKER, "open": "50ms", "open_most": "50ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, breaker=breaker)) as running:
        a.behaves("500")
        for _ in range(3):
            get(running)
        a.behaves("well")
        with socket.create_connection(("127.0.0.1", running.app.port)) as caller:

            def streaming() -> bool:
                caller.sendall(b"GET /files/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                return b" 200 " in caller.recv(65536).partition(b"\r\n")[0]

            until(streaming, what="the probe's head")
            assert [get(running).status for _ in range(3)] == [200] * 3
            a.behaves("done")


def test_a_tool_that_fails_is_left_alone_and_its_neighbours_are_not(tmp_path: Path) -> None:
    breaker = {**BREAKER, "per": "tool"}
    with replicas("a") as [a]:
        wanted = settings(tmp_path, a, path="/mcp", protocol="mcp", breaker=breaker, tools={"pin": "none"})
        with gateway(tmp_path, **wanted) as running:

            def call(tool: str) -> Any:
                params = {"name": tool, "arguments": {}}
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
                said = say(running.app.port, "POST /files", "Content-Type: application/json", body=body)
                return said.json().get("error", {}).get("data", {}).get("reason", said.status)

            a.behaves("500")
            assert [call("bad") for _ in range(4)] == [500, 500, 500, "breaker_open"]
            a.behaves("well")
            assert [call("good"), call("bad"), call("good")] == [200, "breaker_open", 200]
            [opened] = [record for record in running.records() if "breaker" in record]
            assert opened["breaker"]["tool"] == "bad"


def test_a_repeat_saves_an_idempotent_call_and_the_records_say_so_once(tmp_path: Path) -> None:
    retries = {"attempts": 2, "budget": "100%", "pause": "1ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, retries=retries)) as running:
        a.behaves("drop-once")
        assert get(running).json()["asked"] == 2
        records = running.records()
        [outcome] = [record for record in records if record["kind"] == "outcome"]
        assert outcome["upstream"]["attempts"] == 2
        assert len([record for record in records if record["kind"] == "intent"]) == 1
        assert get(running).status == 200
        assert "attempts" not in running.last("outcome")["upstream"]


def test_what_may_have_arrived_and_is_not_idempotent_is_never_sent_twice(tmp_path: Path) -> None:
    retries = {"attempts": 5, "budget": "100%", "least": 100, "pause": "1ms"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, retries=retries)) as running:
        for mode, status in (("drop", 502), ("503", 503), ("502", 502)):
            a.behaves(mode)
            before = a.asked
            assert say(running.app.port, "POST /files/x", body=b"{}").status == status
            assert a.asked == before + 1
        a.behaves("later")
        before = a.asked
        assert get(running).status == 503
        assert a.asked == before + 1, "it said when to come back"
        a.behaves("503")
        before = a.asked
        assert get(running).status == 503
        assert a.asked == before + 5


def test_repeats_stay_within_their_share_while_everything_fails(tmp_path: Path) -> None:
    retries = {"attempts": 3, "budget": "10%", "least": 0, "pause": "1ms", "window": "1h"}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, retries=retries)) as running:
        a.behaves("503")
        assert {get(running).status for _ in range(200)} == {503}
        assert 200 < a.asked <= 220
        assert running.app.upkeep.retrying.counts()["files"][0] == a.asked - 200


@pytest.mark.parametrize(
    "fault", ["drop", "cut", "hang", "500", "junk", "interim", "chunks", "heads", "silence", "killed"]
)
def test_whatever_it_does_callers_wait_for_a_few_calls_and_no_longer(tmp_path: Path, fault: str) -> None:
    """Every fault opens it within its failures, each within the deadlines; nothing is left behind in the gateway."""
    times = {"connect": "200ms", "response": "200ms", "idle": "200ms"}
    retries = {"attempts": 2, "budget": "10%", "least": 0, "pause": "1ms", "window": "1h"}
    wanted = {"breaker": BREAKER, "retries": retries, "timeouts": times}
    with replicas("a") as [a], gateway(tmp_path, **settings(tmp_path, a, **wanted)) as running:
        assert get(running).status == 200
        if fault == "killed":
            a.kill()
        else:
            a.behaves(fault)
        before = descriptors()
        started = time.monotonic()
        said = [get(running) for _ in range(40)]
        took = time.monotonic() - started
        assert [item.status for item in said[3:]] == [503] * 37
        assert all(item.json()["reason"] == "breaker_open" for item in said[3:])
        assert took < 10, "three deadlines, and the rest at once"
        if fault != "killed":
            a.behaves("well")
            assert a.asked <= 1 + 3 + 1, "the calls, and a tenth of them repeated"
        until(lambda: running.app.clients.in_flight()["files"] == 0, what="the end of all connections")
        until(lambda: descriptors() <= before, what="as many descriptors as before")
        assert [turn[0] for turn in turns(running)] == ["breaker.open"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_never_arrived_costs_no_budget_and_what_was_repeated_costs_one_call(tmp_path: Path) -> None:
    budget = {"name": "calls", "key": ["route"], "unit": "calls", "amount": 3, "period": "total"}
    retries = {"attempts": 2, "budget": "100%", "least": 10, "pause": "1ms"}
    breaker = {"failures": 3, "open": "100ms", "open_most": "100ms"}
    with replicas("a") as [a]:
        wanted = settings(tmp_path, a, breaker=breaker, retries=retries)
        with gateway(tmp_path, **wanted, budgets=[budget]) as running:
            a.kill()
            assert [get(running).status for _ in range(6)] == [502] * 3 + [503] * 3
            a.start()
            until(lambda: get(running).status == 200, what="the probe")
            a.kill()
            a.start()
            a.behaves("drop-once")
            assert [get(running).status for _ in range(3)] == [200, 200, 402]
            assert a.asked == 3, "one of them was sent again"
            settled = [
                record["budgets"][0]["settled"]
                for record in running.records()
                if record["kind"] == "outcome" and record["result"] == "ok"
            ]
            assert settled == ["1"] * 3
