"""A reload takes hold whole or not at all: what is refused touches nothing, what is under way ends as it began."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import Running, gateway, until

from tests.flows.canned import OPEN, Said, answer, canned, open_policy, say
from tests.flows.test_faults import CALL, settings

KEY = "tg_ops_" + base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
# numbers.range makes the engine evaluate it in a child process.
APART = OPEN + "\ndecision := false if { some i in numbers.range(1, count(input.action.name)); i == 1000 }\n"


def keys_file(path: Path, *keys: str) -> Path:
    found = [
        {"id": key.split("_")[1], "sha256": hashlib.sha256(key.encode()).hexdigest(), "subject": "ops", "type": "user"}
        for key in keys
    ]
    path.write_text(yaml.safe_dump(found))
    return path


def with_keys(running: Running, path: Path) -> dict[str, Any]:
    return {**running.settings["trust"], "api_keys": {"file": str(path)}}


def test_a_refused_reload_leaves_revocation_by_the_running_key_file_at_work(tmp_path: Path) -> None:
    former = keys_file(tmp_path / "former.yaml", KEY)
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        running.reload(trust=with_keys(running, former))
        assert say(running.app.port, "GET /files/x", f"x-api-key: {KEY}").status == 200
        (tmp_path / "not-a.pem").write_text("nothing")
        wrong = {"url": "https://127.0.0.1:9", "protocol": "http", "tls": {"ca": str(tmp_path / "not-a.pem")}}
        before = dict(running.settings)
        with pytest.raises(Exception, match=r"(?i)pem|cert|x509|ssl"):
            running.reload(
                upstreams={**running.settings["upstreams"], "wrong": wrong},
                trust=with_keys(running, keys_file(tmp_path / "next.yaml", KEY)),
            )
        running.settings = before
        keys_file(former)
        until(
            lambda: say(running.app.port, "GET /files/x", f"x-api-key: {KEY}").status == 401,
            seconds=3,
            what="the revocation of a key that is gone from the running file",
        )
        last = [record["activation"] for record in running.records() if record["kind"] == "activation"][-1]
        assert last["effect"] == "refused"


def test_a_list_that_is_under_way_is_filtered_by_the_policy_it_began_with(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("forecast", "forbidden")]
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"tools": tools}}).encode()

    def late(connection: socket.socket) -> None:
        asked.set()
        go_on.wait(10)
        connection.sendall(answer(body))

    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        running.reload(policy=open_policy(tmp_path, APART, "apart") | {"timeout": "10s"})
        upstream.says["/mcp"] = late
        said: list[Said] = []

        def ask() -> None:
            said.append(say(running.app.port, "POST /tools", "Content-Type: application/json", body=CALL))

        caller = threading.Thread(target=ask)
        caller.start()
        assert asked.wait(10)
        running.reload(policy=open_policy(tmp_path))
        go_on.set()
        caller.join(20)
        assert [tool["name"] for tool in said[0].json()["result"]["tools"]] == ["forecast"]
        record = running.last("outcome")
        assert record["filtered"] == {"shown": 1, "hidden": 1}


def children() -> int:
    """Processes of this one that evaluate a policy."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            command = path.with_name("cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        found += parent == str(os.getpid()) and b"child.py" in command
    return found


def test_the_processes_of_former_policies_end_when_nothing_stands_on_them_any_more(tmp_path: Path) -> None:
    before = children()
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        for number in range(3):
            text = f"{APART}# {number}\n"
            running.reload(policy=open_policy(tmp_path, text, f"apart{number}") | {"timeout": "10s"})
            assert say(running.app.port, "GET /files/x").status == 200
        until(lambda: children() == before + 1, what="the end of the former engines' processes")
    assert children() == before
