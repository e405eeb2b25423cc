"""A reload takes hold whole or not at all: what is refused touches nothing, what is under way ends as it began."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import Running, gateway, until

from gateway.pdp.syntax import PolicyRefused
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


def test_exchanges_go_on_while_a_large_policy_is_compiled(tmp_path: Path) -> None:
    """Two to three seconds of compiling on one processor: whoever calls meanwhile waits for none of it."""
    rule = '\ndecision := false if {{ input.action.name == "a{0}"; startswith(input.subject.id, "{0}") }}\n'
    large = OPEN + "".join(rule.format(number) for number in range(5000))
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        policy = open_policy(tmp_path, large, "large")
        calling = threading.Event()
        ended = threading.Event()
        answered: list[tuple[float, int]] = []

        def call() -> None:
            while not ended.is_set():
                answered.append((time.monotonic(), say(running.app.port, "GET /files/x").status))
                calling.set()

        caller = threading.Thread(target=call)
        caller.start()
        try:
            assert calling.wait(10)
            began = time.monotonic()
            running.reload(policy=policy)
            took = time.monotonic() - began
        finally:
            ended.set()
            caller.join(10)
        moments = [moment for moment, _ in answered if began <= moment <= began + took]
        assert {status for _, status in answered} == {200}
        assert len(moments) > 10
        # One call into the engine takes up to half of it, and holds the interpreter. On the loop it would be all of it.
        assert max(later - earlier for earlier, later in pairwise([began, *moments, began + took])) < took * 0.8


def test_what_a_refused_policy_leaves_behind_is_let_go_where_it_was_made(tmp_path: Path) -> None:
    """The engine may not be dropped in another thread than its own; a traceback would carry it there."""
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream.url)) as running:
        before = dict(running.settings)
        for number, wrong in enumerate(
            ("package tollgate\n\ndecision := {", "package tollgate\n\ndecision := http.send({})")
        ):
            with pytest.raises(PolicyRefused, match=r"decision\.rego"):
                running.reload(policy=open_policy(tmp_path, wrong, f"wrong{number}"))
        running.settings = before
        gc.collect()
        assert say(running.app.port, "GET /files/x").status == 200
