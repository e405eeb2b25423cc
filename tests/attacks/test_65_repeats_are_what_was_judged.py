"""A call that is sent again, or elsewhere, is the one that was judged: the same bytes, recorded once."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

from rig import gateway

from tests.flows.canned import answer, canned, open_policy, say

ROW = 65

LIST = b'{"jsonrpc":"2.0", "id":7,\t"method":"tools/list","params":{ "cursor" : "c" }}'
TOOLS = b'{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}'
RETRIES = {"attempts": 3, "budget": "100%", "least": 10, "pause": "1ms"}


def settings(folder: Path, **where: Any) -> dict[str, Any]:
    upstream = {"protocol": "mcp", "tools": {"pin": "none"}, "retries": RETRIES, **where}
    return {
        "policy": open_policy(folder),
        "upstreams": {"tools": upstream},
        "routes": [{"name": "tools", "match": {"path": "/tools"}, "upstream": "tools", "auth": "anonymous"}],
    }


class Failing:
    """Drops the first `times` connections without an answer."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, connection: socket.socket) -> None:
        self.times -= 1
        if self.times < 0:
            connection.sendall(answer(TOOLS))


def test_every_attempt_has_the_bytes_that_were_judged(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, url=upstream.url + "/mcp")) as running:
        upstream.says["/mcp"] = Failing(2)
        said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=LIST)
        assert said.json()["result"] == {"tools": []}
        assert upstream.bodies == [LIST] * 3
        assert len(set(upstream.heads)) == 1, "not a byte of the head differs either"
        records = [record for record in running.records() if record["kind"] in ("intent", "outcome")]
        assert [record["kind"] for record in records] == ["intent", "outcome"]
        digest = "sha256:" + hashlib.sha256(LIST).hexdigest()
        assert [record["request"]["digest"] for record in records] == [digest] * 2
        assert records[1]["upstream"]["attempts"] == 3


def test_another_address_gets_the_same_but_for_its_own_name(tmp_path: Path) -> None:
    with canned() as first, canned() as second:
        wanted = settings(tmp_path, urls=[item.url + "/mcp" for item in (first, second)])
        with gateway(tmp_path, **wanted) as running:
            first.says["/mcp"] = second.says["/mcp"] = failing = Failing(1)
            said = say(running.app.port, "POST /tools", "Content-Type: application/json", body=LIST)
            assert said.status == 200
            assert failing.times == -1
            assert (first.bodies, second.bodies) == ([LIST], [LIST])
            [one], [other] = first.heads, second.heads
            assert one.replace(b"127.0.0.1:%d" % first.port, b"") == other.replace(b"127.0.0.1:%d" % second.port, b"")


def test_a_call_that_does_something_is_sent_once_however_often_that_fails(tmp_path: Path) -> None:
    call = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": {}}}
    ).encode()
    with canned() as first, canned() as second:
        wanted = settings(tmp_path, urls=[item.url + "/mcp" for item in (first, second)])
        with gateway(tmp_path, **wanted) as running:
            for fails in (Failing(100), answer(b"{}", "application/json", "503 Service Unavailable")):
                first.says["/mcp"] = second.says["/mcp"] = fails
                before = len(first.bodies) + len(second.bodies)
                say(running.app.port, "POST /tools", "Content-Type: application/json", body=call)
                assert len(first.bodies) + len(second.bodies) == before + 1
