"""Every way in which an exchange ends, explained alike by the API, the command line and the log's files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from changing import Caller, changing, pinned
from rig import Running, gateway
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.cli.rig_cli import Shell

POLICY = """\
package tollgate

default decision := {"decision": false, "context": {"rule": "nobody", "reason": "nobody said yes"}}

decision := {"decision": false, "context": {"rule": "bound", "reason": "it is out of bounds"}} if {
    input.context.arguments.params.name == "forbidden"
} else := {"decision": true, "context": {"rule": "numbered"}} if {
    startswith(input.resource.id, "/files/number/")
    to_number(trim_prefix(input.resource.id, "/files/number/")) > 0
} else := {"decision": true, "context": {"rule": "readers", "reason": "readers may read"}} if {
    "reader" in input.subject.properties.roles
    input.resource.id in data.open[input.resource.properties.upstream]
}
"""
DATA = {"open": {"files": ["/files/open"], "sockets": ["/sockets"], "weather": ["weather"]}}
FORBIDDEN = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "forbidden"}})


@dataclass(frozen=True)
class World:
    """A gateway that still runs, and the exchanges that it had, by what became of them."""

    gate: Running
    ids: dict[str, str]

    def get(self, what: str) -> dict[str, Any]:
        found = httpx2.get(
            f"{self.gate.admin_url}/api/v1/decisions/{self.ids[what]}",
            headers={"authorization": f"Bearer {self.gate.admin_token}"}, timeout=30,
        )  # fmt: skip
        assert found.status_code == 200, found.text
        document: dict[str, Any] = found.json()
        return document


def settings(folder: Path, files: int, sockets: int, weather: str) -> dict[str, Any]:
    (folder / "policies").mkdir()
    (folder / "policies" / "decision.rego").write_text(POLICY)
    (folder / "policies" / "data.json").write_text(json.dumps(DATA))
    found = pinned(weather, "none")
    for name, port in (("files", files), ("sockets", sockets)):
        found["upstreams"][name] = {"url": f"http://127.0.0.1:{port}", "protocol": "http"}
        found["routes"].append({"name": name, "match": {"path": f"/{name}"}, "upstream": name})
    found["routes"][0]["capture"] = "full"
    found["limits"] = [{"name": "few", "key": ["subject.id", "resource.id"], "rate": "3/hour", "burst": 3}]
    found["policy"] = {"bundle": str(folder / "policies")}
    return found


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def served(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.socket.close()


def exchanges(gate: Running) -> dict[str, str]:
    bearer = {"authorization": f"Bearer {gate.issuer.token()}"}
    ids: dict[str, str] = {}

    def ask(what: str, path: str, **headers: str) -> int:
        answer = httpx2.get(gate.url + path, headers=headers, timeout=30)
        ids[what] = answer.headers["x-request-id"]
        return answer.status_code

    assert ask("allowed", "/files/open", **bearer) == 200
    assert ask("no rule", "/files/closed", **bearer) == 403
    assert ask("a fault", "/files/number/many", **bearer) == 503
    assert ask("unauthenticated", "/files/open") == 401
    assert ask("no route", "/nowhere", **bearer) == 404
    assert [ask("limited", "/files/open", **bearer) for _ in range(3)] == [200, 200, 429]
    with connect(f"ws://127.0.0.1:{gate.app.port}/sockets", additional_headers=bearer) as socket:
        socket.send(FORBIDDEN)
        ids["a message"] = json.loads(socket.recv())["error"]["data"]["exchange_id"]
    assert Caller(gate, gate.issuer.token()).names() == []
    ids["a list"] = gate.last("outcome")["exchange"]
    denied = Caller(gate).ask("tools/call", name="forecast", arguments={"params": {"name": "forbidden"}})
    ids["captured"] = denied["error"]["data"]["exchange_id"]
    return ids


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("why")
    with ExitStack() as stack:
        files = stack.enter_context(served(ThreadingHTTPServer(("127.0.0.1", 0), _Files)))
        sockets = stack.enter_context(served(serve(lambda socket: [*socket], "127.0.0.1", 0)))
        weather = stack.enter_context(changing()).url
        gate = stack.enter_context(gateway(folder, **settings(folder, files, sockets, weather)))
        yield World(gate, exchanges(gate))


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {item["stage"]: item["verdict"] for item in found["stages"]}


def stage(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in found["stages"] if item["stage"] == name)


def test_an_allow_names_its_rule_and_each_stage_with_its_time(world: World) -> None:
    found = world.get("allowed")
    assert set(verdicts(found).values()) == {"passed"}
    assert stage(found, "identify")["text"] == "the caller is agent:idp/planner"
    assert stage(found, "decide")["text"] == "allow by rule readers"
    assert stage(found, "decide")["ms"] > 0
    times = [item["time"] for item in found["stages"] if "time" in item]
    assert times == sorted(times)
    assert len(times) == 3, "the head, the intent, the outcome"
    assert "at 127.0.0.1:" in stage(found, "forward")["text"]
    why = found["why"]
    assert (why["matched"], why["input_from"]) == (True, "memory")
    assert why["rule"] | {"text": ""} == {
        "label": "readers", "name": "tollgate.decision", "file": "decision.rego", "line": 10, "text": "",
    }  # fmt: skip
    assert "readers may read" in why["rule"]["text"]
    assert why["input"] == found["decision"]["input"]
    assert "nearest" not in why


def test_no_rule_matched_is_said_with_what_was_missing_and_the_nearest_that_would_do(world: World) -> None:
    found = world.get("no rule")
    assert verdicts(found)["decide"] == "refused"
    assert verdicts(found)["ledger"] == "not reached"
    why = found["why"]
    assert (why["matched"], why["rule"]["default"]) == (False, True)
    assert "data.open.files" not in why["missing"]
    assert why["nearest"][0]["place"] == "input.resource.id"
    assert why["nearest"][0]["to"] == "/files/open"


def test_a_fault_of_the_policy_says_where_it_came_from(world: World) -> None:
    found = world.get("a fault")
    assert (verdicts(found)["decide"], found["refusal"]["reason"]) == ("refused", "policy_unavailable")
    assert found["decision"]["rule"].startswith("error: decision.rego:9")
    assert {"place": "input.resource.id", "value": "/files/number/many"} in found["why"]["reads"]
    assert "nearest" not in found["why"]


def test_who_was_not_identified_was_never_asked_about(world: World) -> None:
    for what, where in (("unauthenticated", "identify"), ("no route", "route")):
        found = world.get(what)
        assert verdicts(found)[where] == "refused", what
        assert set(verdicts(found).values()) - {"passed"} == {"refused", "not reached"}
        assert "why" not in found
        assert stage(found, where)["text"] == found["refusal"]["text"]


def test_a_limit_refuses_what_policy_allowed_and_the_decision_was_kept(world: World) -> None:
    found = world.get("limited")
    assert (verdicts(found)["decide"], verdicts(found)["ledger"]) == ("passed", "refused")
    assert stage(found, "decide")["kept"] is True
    assert found["why"]["matched"] is True
    assert "nearest" not in found["why"], "policy is not what stood in the way"


def test_a_list_says_how_many_items_were_not_shown(world: World) -> None:
    found = world.get("a list")
    assert found["filtered"] == {"hidden": 1, "shown": 0}
    assert "0 items were shown and 1 were not" in stage(found, "answer")["text"]
    assert found["why"]["rule"]["label"] == "readers"


def test_a_message_of_a_socket_is_an_exchange_of_its_own(world: World) -> None:
    found = world.get("a message")
    assert "parent" in found
    assert "identify" not in verdicts(found), "that was done for the socket"
    assert verdicts(found)["decide"] == "refused"
    assert found["why"]["rule"]["label"] == "bound"
    assert found["why"]["matched"] is True
    assert {"place": "input.context.arguments.params.name", "type": "text of 9 characters"} in found["why"]["reads"]
    assert found["why"]["nearest"][0]["place"] == "input.context.arguments.params.name"


def test_arguments_that_a_record_keeps_are_what_an_explanation_goes_by(world: World) -> None:
    record = world.get("captured")["records"][-1]
    assert record["request"]["capture"]["level"] == "full"
    assert world.get("captured")["why"]["rule"]["label"] == "bound"


ALL = ["allowed", "no rule", "a fault", "unauthenticated", "no route", "limited", "a message", "a list", "captured"]


@pytest.mark.parametrize("what", ALL)
def test_the_api_the_command_line_and_the_files_tell_the_same(world: World, shell: Shell, what: str) -> None:
    found = world.get(what)
    ident, gate = world.ids[what], world.gate
    running = ["--admin", gate.admin_url, "--token-file", str(gate.folder / "admin.token")]
    assert unsearched(shell("explain", ident, *running, "--json").json) == unsearched(found)
    gate.records()
    files = ["--data-dir", str(gate.folder / "var"), "--config", str(gate.folder / "gateway.yaml")]
    offline = shell("explain", ident, *files, "--json")
    assert offline.code == 0, offline.err
    document = offline.json
    assert document["records"] == found["records"]
    assert verdicts(document) == verdicts(found)
    if what == "a message":  # its arguments are in no file
        assert "audit.capture" in document["why"]["note"]
    elif "why" in found:
        assert document["why"].pop("input_from") == "records"
        assert unsearched(document)["why"] == {
            name: value for name, value in unsearched(found)["why"].items() if name != "input_from"
        }
    text = shell("explain", ident, *running).out
    assert str(found["summary"]) in text
    if "rule" in found.get("why", {}):
        assert found["why"]["rule"]["text"].split("\n")[0] in text
    assert ("No rule matched" in text) == (what == "no rule")


def unsearched(found: dict[str, Any]) -> dict[str, Any]:
    """How much was tried within the time is the machine's business."""
    why = found.get("why")
    if not isinstance(why, dict):
        return found
    return {**found, "why": {name: value for name, value in why.items() if not name.startswith("nearest")}}


def test_a_policy_of_another_revision_explains_nothing(world: World, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "other.rego").write_text(POLICY + "\n# another one\n")
    files = ["--data-dir", str(world.gate.folder / "var"), "--bundle", str(tmp_path)]
    why = shell("explain", world.ids["no rule"], *files, "--json").json["why"]
    assert set(why) == {"revision", "note"}
    assert "another one decided" in why["note"]


def test_a_policy_that_was_replaced_still_explains_what_it_decided(world: World) -> None:
    gate = world.gate
    before = world.get("no rule")["why"]
    (gate.folder / "policies" / "decision.rego").write_text(POLICY + "\n# changed\n")
    gate.reload()
    try:
        after = world.get("no rule")["why"]
        assert after["input_from"] == "records", "the former engine's memory is gone with it"
        assert (after["revision"], after["rule"]) == (before["revision"], before["rule"])
    finally:
        (gate.folder / "policies" / "decision.rego").write_text(POLICY)
        gate.reload()


def test_who_may_not_administer_is_told_nothing(world: World) -> None:
    url = f"{world.gate.admin_url}/api/v1/decisions/{world.ids['no rule']}"
    assert httpx2.get(url).status_code == 401
    caller = httpx2.get(url, headers={"authorization": f"Bearer {world.gate.issuer.token()}"})
    assert caller.status_code == 401
    assert "rego" not in caller.text
    denied = httpx2.get(
        f"{world.gate.url}/files/closed", headers={"authorization": f"Bearer {world.gate.issuer.token()}"}
    )
    assert "nobody said yes" in denied.text
    assert "default" not in denied.text
    assert "decision.rego" not in denied.text
