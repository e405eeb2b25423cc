"""Where the gateway itself breaks: the caller is told in its protocol's form, the record says it, nothing passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rig import gateway

from gateway.protocols.http import Http
from gateway.protocols.mcp import Mcp
from gateway.stores.sqlite import SqliteHandles
from tests.flows.canned import answer, canned, open_policy, say

CALL = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}).encode()
INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def settings(folder: Path, url: str) -> dict[str, Any]:
    return {
        "policy": open_policy(folder),
        "upstreams": {
            "files": {"url": url, "protocol": "http"},
            "tools": {"url": url + "/mcp", "protocol": "mcp"},
        },
        "routes": [
            {"name": name, "match": {"path": f"/{name}"}, "upstream": name, "auth": "anonymous"}
            for name in ("files", "tools")
        ],
    }


def breaks(*_: object) -> Any:
    raise KeyError("tg_secret of the caller")


def test_a_protocol_that_breaks_on_a_request_forwards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        monkeypatch.setattr(Mcp, "classify", breaks)
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL)
        assert said.status == 500
        assert said.json()["error"]["code"] == -32603
        record = running.last("refusal")
        assert said.value("x-request-id") == record["exchange"]
        assert record["refusal"]["reason"] == "fault"
        assert record["response"]["status"] == 500
        assert "tg_secret" not in json.dumps(record)
        assert upstream.heads == []


def test_a_protocol_that_breaks_on_an_answer_shows_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/mcp"] = answer(b'{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}')
        monkeypatch.setattr(Mcp, "filter", breaks)
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL)
        assert said.status == 500
        assert said.json()["error"]["data"]["reason"] == "fault"
        record = running.last("outcome")
        assert (record["result"], record["refusal"]["reason"]) == ("error", "fault")
        assert record["fault"] == "answer: KeyError"


def test_a_store_that_breaks_shows_no_session_and_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        result = b'{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}'
        upstream.says["/mcp"] = answer(result, "application/json", "200 OK", "Mcp-Session-Id: abc")
        monkeypatch.setattr(SqliteHandles, "bind", breaks)
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": INITIALIZE}).encode()
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=body)
        assert said.status == 500
        assert said.value("mcp-session-id") is None
        assert running.last("outcome")["result"] == "error"


def test_a_websocket_that_breaks_the_protocol_is_refused_before_the_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        monkeypatch.setattr(Http, "classify", breaks)
        upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        said = say(running.app.port, "GET /files", *upgrade, "Connection: Upgrade")
        assert said.status == 500
        assert said.value("x-request-id") == running.last("refusal")["exchange"]
        assert upstream.heads == []


def test_an_event_that_cannot_be_judged_cuts_the_stream_and_is_an_error(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        upstream.says["/mcp"] = head + b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\ndata: [1]\n\n'
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL)
        assert said.status == 200
        assert not said.rest.endswith(b"0\r\n\r\n"), "the cut stream ended as if it were whole"
        record = running.last("outcome")
        assert record["result"] == "error"
        assert record["fault"].startswith("answer: ")


def test_a_json_answer_that_cannot_be_judged_names_the_upstream_in_proxy_status(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/mcp"] = answer(b'{"jsonrpc":"2.0","id":7,"result":{"tools":{}}}')
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL)
        assert said.status == 502
        assert "next-hop=tools" in (said.value("proxy-status") or "")
        assert running.last("outcome")["result"] == "error"


def test_an_answer_cut_while_it_is_judged_is_the_upstreams_failure(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        upstream.says["/mcp"] = answer(b'{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}')[:-5]
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL)
        assert said.status == 502
        assert said.value("proxy-status") == "tollgate; error=http_response_incomplete; next-hop=tools"
        assert running.last("outcome")["result"] == "upstream_gone"


def test_a_count_too_large_for_the_log_does_not_take_the_outcome_with_it(tmp_path: Path) -> None:
    with canned() as upstream:
        upstream.says["/v1/chat/completions"] = answer(b'{"model":"m","usage":{"prompt_tokens":9007199254740993}}')
        whole = {
            "policy": open_policy(tmp_path),
            "upstreams": {"model": {"url": upstream.url, "protocol": "openai"}},
            "routes": [{"name": "m", "match": {"path": "/m"}, "upstream": "model", "auth": "anonymous"}],
        }
        with gateway(tmp_path, **whole) as running:
            body = b'{"model":"m","messages":[]}'
            said = say(running.app.port, "POST /m/v1/chat/completions", "Content-Type: application/json", body=body)
            assert said.status == 200
            record = running.last("outcome")
            assert record["exchange"] == said.value("x-request-id")
            assert record["usage"]["estimated"] is True
