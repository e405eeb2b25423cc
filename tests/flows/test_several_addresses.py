"""An upstream at several addresses, each a process of its own: how calls are spread, who is left out, and what stays
where it began."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Running, gateway, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import Server, serve

from tests.flows.canned import say
from tests.flows.replicas import replicas
from tests.flows.test_upstreams_failing import get, settings

EVENLY = {"by": "round_robin"}


def who(running: Running, calls: int) -> Counter[str]:
    return Counter(get(running).json()["who"] for _ in range(calls))


def rpc(running: Running, method: str, params: dict[str, Any], *headers: str) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    accept = "Accept: application/json, text/event-stream"
    return say(running.app.port, "POST /files", "Content-Type: application/json", accept, *headers, body=body)


def opened(running: Running) -> str:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    session = rpc(running, "initialize", client).value("mcp-session-id")
    assert session
    return str(session)


def called(running: Running, session: str) -> Any:
    return rpc(running, "tools/call", {"name": "who", "arguments": {}}, f"Mcp-Session-Id: {session}")


def answered(said: Any) -> dict[str, Any]:
    return dict(json.loads(said.json()["result"]["content"][0]["text"]))


def states(running: Running) -> dict[str, str]:
    return {item.address: item.state for item in running.app.upkeep.addresses.standing()}


def test_calls_go_round_and_each_address_is_called_by_its_own_name(tmp_path: Path) -> None:
    with replicas("a", "b", "c") as found, gateway(tmp_path, **settings(tmp_path, *found, balance=EVENLY)) as running:
        assert who(running, 12) == {"a": 4, "b": 4, "c": 4}
        said = get(running).json()
        assert said["host"] == next(item.address for item in found if item.name == said["who"])
        assert running.last("outcome")["upstream"]["address"] == said["host"]
        assert running.app.clients.in_flight()["files"] == 0


def test_a_call_goes_where_the_least_is_under_way(tmp_path: Path) -> None:
    with replicas("a", "b") as (a, b), gateway(tmp_path, **settings(tmp_path, a, b)) as running:
        a.behaves("hang")
        with socket.create_connection(("127.0.0.1", running.app.port)) as waiting:
            while a.asked == 0:
                waiting.sendall(b"GET /files/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                until(lambda: a.asked == 1 or running.app.status()["exchanges"] == 0, what="the call that waits")
            assert who(running, 6) == {"b": 6}
            a.behaves("well")


def test_nobody_hears_of_an_address_that_dies_and_it_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    balance = {**EVENLY, "failures": 2, "eject": "2s", "eject_most": "2s"}
    with replicas("a", "b") as (a, b), gateway(tmp_path, **settings(tmp_path, a, b, balance=balance)) as running:
        assert who(running, 4) == {"a": 2, "b": 2}
        a.kill()
        # What could not be sent anywhere goes elsewhere, whatever it is.
        said = [say(running.app.port, f"{method} /files/x", body=b"") for method in ("GET", "POST") * 4]
        assert {item.status for item in said} == {200}
        assert {item.json()["who"] for item in said} == {"b"}
        assert states(running) == {a.address: "ejected", b.address: "in"}
        ejected = next(record for record in running.records() if record.get("action") == "address.eject")
        assert ejected["address"] == {"upstream": "files", "address": a.address, "why": "2 failed calls in a row"}
        outcomes = [record["upstream"] for record in running.records() if record["kind"] == "outcome"]
        assert sum(1 for item in outcomes if item.get("attempts") == 2) == 2, "behind its ejection nobody tries it"
        a.start()
        until(lambda: who(running, 2)["a"] == 1, what="its return")
        assert "address.readmit" in [record.get("action") for record in running.records()]


def test_the_last_address_is_never_left_out(tmp_path: Path) -> None:
    balance = {**EVENLY, "failures": 1, "eject": "1h", "eject_most": "1h"}
    with replicas("a", "b") as (a, b), gateway(tmp_path, **settings(tmp_path, a, b, balance=balance)) as running:
        a.kill()
        b.kill()
        assert [get(running).status for _ in range(4)] == [502] * 4
        assert sorted(states(running).values()) == ["ejected", "in"]
        a.start()
        b.start()
        assert get(running).status == 200


def test_what_may_have_arrived_at_one_address_is_not_sent_to_another(tmp_path: Path) -> None:
    retries = {"attempts": 2, "budget": "100%", "pause": "1ms"}
    with replicas("a", "b") as (a, b):
        wanted = settings(tmp_path, a, b, balance=EVENLY, retries=retries)
        with gateway(tmp_path, **wanted) as running:
            a.behaves("drop")
            b.behaves("drop")
            assert say(running.app.port, "POST /files/x", body=b"{}").status == 502
            assert a.asked + b.asked == 1
            b.behaves("well")
            before = b.asked
            # An idempotent call is sent again, and elsewhere.
            assert {get(running).json()["who"] for _ in range(4)} == {"b"}
            assert b.asked == before + 4


def test_a_session_stays_where_it_began_also_over_a_restart(tmp_path: Path) -> None:
    with replicas("a", "b", "c") as found:
        wanted = settings(
            tmp_path, *found, path="/mcp", protocol="mcp", tools={"pin": "none"}, balance=EVENLY,
            retries={"attempts": 3, "budget": "100%", "least": 10, "pause": "1ms"},
        )  # fmt: skip
        with gateway(tmp_path, **wanted) as running:
            sessions = [opened(running) for _ in range(6)]
            assert {session[0] for session in sessions} == {"a", "b", "c"}
            for session in sessions * 2:
                told = answered(called(running, session))
                assert (told["who"], told["session"]) == (session[0], session)
        with gateway(tmp_path, **wanted) as running:
            assert [answered(called(running, session))["who"] for session in sessions] == [item[0] for item in sessions]
            gone = next(item for item in found if item.name == "b")
            gone.kill()
            away = next(session for session in sessions if session[0] == "b")
            assert called(running, away).status == 502, "nobody else knows this session"
            assert answered(called(running, sessions[0]))["who"] == sessions[0][0] or sessions[0][0] == "b"


def test_a_session_of_when_the_upstream_had_one_address_stays_there(tmp_path: Path) -> None:
    with replicas("a", "b") as (a, b):
        more = {"path": "/mcp", "protocol": "mcp", "tools": {"pin": "none"}}
        with gateway(tmp_path, **settings(tmp_path, a, **more)) as running:
            session = opened(running)
            changed = settings(tmp_path, a, b, balance=EVENLY, **more)
            running.reload(upstreams=changed["upstreams"])
            assert [answered(called(running, session))["who"] for _ in range(4)] == ["a"] * 4


def test_an_address_that_says_it_is_not_well_is_left_out_until_it_is(tmp_path: Path) -> None:
    health = {"path": "/healthz", "every": "50ms", "failures": 2}
    with replicas("a", "b") as (a, b):
        wanted = settings(tmp_path, a, b, balance={**EVENLY, "health": health})
        with gateway(tmp_path, **wanted) as running:
            until(lambda: a.told()["health"] > 0 and b.told()["health"] > 0, what="a look at both")
            a.behaves("sick")
            until(lambda: states(running)[a.address] == "unhealthy", what="its being left out")
            assert who(running, 4) == {"b": 4}
            a.behaves("well")
            until(lambda: states(running)[a.address] == "in", what="its return")
            assert who(running, 4) == {"a": 2, "b": 2}
            records = [record for record in running.records() if "address" in record]
            assert [record["action"] for record in records] == ["address.eject", "address.readmit"]
            assert records[0]["address"]["why"] == "its health: status 500"


def test_an_address_that_leaves_the_configuration_is_asked_no_more(tmp_path: Path) -> None:
    with replicas("a", "b") as (a, b), gateway(tmp_path, **settings(tmp_path, a, b, balance=EVENLY)) as running:
        assert who(running, 4) == {"a": 2, "b": 2}
        running.reload(upstreams=settings(tmp_path, b)["upstreams"])
        assert who(running, 4) == {"b": 4}
        running.reload(upstreams=settings(tmp_path, b, a, balance=EVENLY)["upstreams"])
        assert who(running, 4) == {"a": 2, "b": 2}


def test_tools_are_pinned_though_the_first_address_is_down(tmp_path: Path) -> None:
    with replicas("a", "b") as (a, b):
        a.kill()
        more = {"path": "/mcp", "protocol": "mcp", "tools": {"pin": "first_use"}}
        with gateway(tmp_path, **settings(tmp_path, a, b, balance=EVENLY, **more)) as running:
            until(lambda: called(running, opened(running)).json().get("result") is not None, what="a call of its tool")


@contextmanager
def echoes(*names: str) -> Iterator[list[Server]]:
    """WebSocket servers that say who they are and what they were sent."""
    found: list[Server] = []
    threads = []
    for name in names:

        def talk(connection: Any, name: str = name) -> None:
            for message in connection:
                connection.send(f"{name} {message}")

        server = serve(talk, "127.0.0.1", 0)
        found.append(server)
        threads.append(threading.Thread(target=server.serve_forever))
        threads[-1].start()
    try:
        yield found
    finally:
        for server, thread in zip(found, threads, strict=True):
            server.shutdown()
            thread.join()


def test_a_socket_is_opened_elsewhere_when_an_address_is_down_and_its_messages_are_judged_there(tmp_path: Path) -> None:
    message = '{"jsonrpc":"2.0","id":1,"method":"x"}'
    with echoes("a", "b") as (a, b):
        urls = [f"http://127.0.0.1:{server.socket.getsockname()[1]}" for server in (a, b)]
        wanted = settings(tmp_path, breaker={"failures": 2, "open": "1h", "open_most": "1h"}, balance=EVENLY)
        wanted["upstreams"]["files"]["urls"] = urls
        with gateway(tmp_path, **wanted) as running:
            where = f"ws://127.0.0.1:{running.app.port}/files/ws"
            said = []
            for _ in range(2):
                with connect(where) as opened:
                    opened.send(message)
                    said.append(opened.recv(5))
            assert sorted(said) == [f"a {message}", f"b {message}"]
            a.shutdown()
            for _ in range(2):
                with connect(where) as opened:
                    opened.send(message)
                    assert opened.recv(5) == f"b {message}"
            judged = [record for record in running.records() if record["kind"] == "intent" and "parent" in record]
            assert len(judged) == 4
            b.shutdown()
            refused = []
            for _ in range(3):
                with pytest.raises(InvalidStatus) as caught:
                    connect(where)
                refused.append(caught.value.response.status_code)
            assert refused == [502, 502, 503]


def test_what_is_scraped_says_how_upstreams_do(tmp_path: Path) -> None:
    balance = {**EVENLY, "failures": 1, "eject": "1h", "eject_most": "1h"}
    retries = {"attempts": 2, "budget": "10%", "least": 1, "pause": "1ms", "window": "1h"}
    breaker = {"failures": 2, "open": "1h", "open_most": "1h"}
    with replicas("a", "b") as (a, b):
        wanted = settings(tmp_path, a, b, balance=balance, retries=retries, breaker=breaker)
        with gateway(tmp_path, **wanted) as running:
            a.behaves("503")
            b.behaves("503")
            assert [get(running).status for _ in range(3)] == [503] * 3
            lines = httpx2.get(
                running.admin_url + "/metrics", headers={"authorization": f"Bearer {running.admin_token}"}
            ).text.splitlines()
            assert 'tollgate_breaker_state{breaker="files",upstream="files"} 2.0' in lines
            assert 'tollgate_retries_total{upstream="files"} 1.0' in lines
            assert 'tollgate_retries_refused_total{upstream="files"} 1.0' in lines
            out = [item.address for item in (a, b) if states(running)[item.address] == "ejected"]
            assert len(out) == 1
            assert f'tollgate_upstream_ejections_total{{address="{out[0]}",upstream="files"}} 1.0' in lines
            assert f'tollgate_upstream_address_in{{address="{out[0]}",upstream="files"}} 0.0' in lines
            assert 'tollgate_upstream_inflight{upstream="files"} 0.0' in lines
