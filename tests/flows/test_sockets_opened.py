"""The answer to the opening of a WebSocket is an answer like any other: same headers, same records, same rules."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from rig import Running, gateway
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.core.exchange import Exchange
from gateway.telemetry_traces import Traces
from tests.flows.canned import Said, canned, open_policy, say

UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
THEIRS = "Set-Cookie: a=b\r\nX-Request-Id: theirs\r\n"


def settings(folder: Path, url: str, **route: Any) -> dict[str, Any]:
    return {
        "policy": open_policy(folder),
        "origins": ["https://app.example"],
        "limits": [{"name": "peers", "key": ["peer"], "rate": "1000/minute"}],
        "upstreams": {"files": {"url": url, "protocol": "http"}},
        "routes": [
            {"name": "files", "match": {"path": "/files"}, "upstream": "files", "auth": "anonymous", **route},
        ],
    }  # fmt: skip


def opens(running: Running, path: str = "/files/ws", *headers: str) -> Said:
    return say(running.app.port, f"GET {path}", *UPGRADE, *headers)


def accepted(running: Running) -> Headers:
    with connect(f"ws://127.0.0.1:{running.app.port}/files/ws") as opened:
        assert opened.response is not None
        return opened.response.headers


def accepts(heads: list[bytes], connection: socket.socket) -> None:
    lines = heads[-1].split(b"\r\n")
    key = next(line.partition(b": ")[2] for line in lines if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{THEIRS}"
    connection.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + b"\x88\x02\x03\xe8")
    connection.recv(4096)  # the close comes back; then it is ours to end the connection


def test_an_accepted_upgrade_carries_our_id_and_limits_and_no_cookie(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/ws"] = lambda connection: accepts(upstream.heads, connection)
        said = accepted(running)
        assert said.get_all("set-cookie") == []
        assert said.get_all("x-request-id") == [running.last("outcome")["exchange"]]
        assert said.get_all("x-upstream-request-id") == ["theirs"]
        assert said["ratelimit"].startswith('"peers";r=999')
        assert said.get_all("via") == ["1.1 tollgate"]


def test_a_declined_upgrade_is_an_answer_like_any_other(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/ws"] = f"HTTP/1.1 403 Forbidden\r\n{THEIRS}Content-Length: 2\r\n\r\nno".encode()
        said = opens(running, "/files/ws", "Origin: https://app.example")
        assert (said.status, said.rest) == (403, b"no")
        assert said.value("set-cookie") is None
        assert said.value("x-upstream-request-id") == "theirs"
        assert said.value("access-control-allow-origin") == "https://app.example"
        assert (said.value("ratelimit") or "").startswith('"peers";r=999')
        record = running.last("outcome")
        assert (record["exchange"], record["response"]["status"]) == (said.value("x-request-id"), 403)


def test_a_route_that_passes_cookies_passes_those_of_the_opening(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url, cookies="pass")) as running:
        upstream.says["/ws"] = lambda connection: accepts(upstream.heads, connection)
        assert accepted(running).get_all("set-cookie") == ["a=b"]


def test_a_refused_upgrade_is_no_fault_in_the_operators_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        with caplog.at_level(logging.WARNING):
            assert opens(running, "/files/forbidden").status == 403
            assert running.last("refusal")["refusal"]["reason"] == "denied"
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_judged_message_is_a_span_of_its_own_below_its_socket(
    tmp_path: Path, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[tuple[str, str, str, str]] = []
    whole = settings(tmp_path, bases["model"])

    def seen(self: Any, exchange: Exchange) -> None:
        spans.append((exchange.parent, exchange.trace_id, exchange.span_id, exchange.parent_span_id))

    monkeypatch.setattr(Traces, "finished", seen)
    collector = {"otlp": {"endpoint": bases["model"], "sample": "100%"}}
    with gateway(tmp_path, telemetry=collector, **whole) as running:
        address = f"ws://127.0.0.1:{running.app.port}/files/echo"
        with connect(address) as opened:
            for number in range(2):
                opened.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "x"}))
                opened.recv(timeout=10)
        running.records()
    messages, openings = [span for span in spans if span[0]], [span for span in spans if not span[0]]
    assert (len(messages), len(openings)) == (2, 1)
    assert {span[1] for span in messages} == {openings[0][1]}
    assert {span[3] for span in messages} == {openings[0][2]}
    assert len({span[2] for span in spans}) == 3


def test_an_upstream_that_does_not_say_goodbye_is_not_left_behind_when_the_gateway_stops(tmp_path: Path) -> None:
    gone = threading.Event()

    def stays(connection: socket.socket) -> None:
        accepts(upstream.heads, connection)
        while connection.recv(4096):
            pass
        gone.set()

    with canned() as upstream:
        with gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
            upstream.says["/ws"] = stays
            assert accepted(running).get_all("via") == ["1.1 tollgate"]
        assert gone.wait(1), "the upstream's connection outlived the gateway"


def test_a_message_is_refused_once_its_route_leads_elsewhere(tmp_path: Path, bases: dict[str, str]) -> None:
    with canned() as other, gateway(tmp_path, **settings(tmp_path, bases["model"])) as running:
        with connect(f"ws://127.0.0.1:{running.app.port}/files/echo") as opened:
            opened.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x"}))
            assert json.loads(opened.recv(timeout=10))["method"] == "x"
            running.reload(upstreams={"files": {"url": other.url, "protocol": "http"}})
            opened.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "x"}))
            with pytest.raises(ConnectionClosed) as ended:
                opened.recv(timeout=10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1008
        assert running.last("refusal")["refusal"]["reason"] == "route_unknown"


def test_one_open_socket_at_a_time_may_still_say_something(tmp_path: Path, bases: dict[str, str]) -> None:
    """The place of the opening is that of its messages; a second socket has none."""
    limits = [{"name": "one", "key": ["subject.id"], "concurrent": 1}]
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    with gateway(tmp_path, **(settings(tmp_path, bases["model"]) | {"limits": limits})) as running:
        with connect(f"ws://127.0.0.1:{running.app.port}/files/echo") as opened:
            for _ in range(3):
                opened.send(message)
                assert json.loads(opened.recv(timeout=10)) == json.loads(message)
            with pytest.raises(InvalidStatus) as second:
                connect(f"ws://127.0.0.1:{running.app.port}/files/echo")
            assert second.value.response.status_code == 429
        running.records()
        with connect(f"ws://127.0.0.1:{running.app.port}/files/echo") as again:
            again.send(message)
            assert again.recv(timeout=10)
