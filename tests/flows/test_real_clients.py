"""The official clients, unmodified, straight at an upstream and through the gateway: base URL and credential differ.

Each client runs its scenario (tests/clients/<name>/) twice. What it was allowed it must have seen identically; what it
was denied must have reached it as its own proper error, with the policy's words, and must not have ended its session.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rig import ROOT, Running, gateway, routes_to

from gateway.identity.apikey import mint

pytestmark = pytest.mark.slow

CLIENTS = ROOT / "tests" / "clients"
ENVIRONMENTS = ROOT / ".cache"
PATIENCE_SECONDS = 90

STATION = "Deleting a station destroys its measurements for good. Ask the weather team to do it"
MODEL = "None of the roles of {caller} (reader) allows large-1 on {upstream}"
WEBHOOK = "None of the roles of {caller} (reader) allows CreateTaskPushNotificationConfig on concierge"
OPENING = "None of the roles of {caller} (reader) allows WS /shut/ws on echo"
WORD = "This is not said here"

# Beside the shipped policy: one word that may not be said on a WebSocket.
SPOKEN = f"""
package tollgate

refusal := {{"rule": "spoken", "reason": "{WORD}"}} if {{
	input.action.name == "ws.message"
	input.context.arguments.method == "forbidden"
}}
"""


@dataclass(frozen=True)
class Client:
    """One client in one of its modes. `straight` and `through` are paths behind the upstream's and the gateway's base
    URL; `denied` is what each step that is denied has to look like, by its name."""

    name: str
    driver: str
    upstream: str
    route: str
    straight: str
    through: str
    denied: dict[str, dict[str, Any]]
    more: dict[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    scheme: str = "http"


def rpc(kind: str, text: str) -> dict[str, Any]:
    return {"class": kind, "code": -31403, "text": text}


def mcp(name: str, driver: str, error: str, **more: str) -> Client:
    denied = {"denied": rpc(error, STATION)}
    actions = ("mcp.tools/call", "mcp.tools/list", "mcp.resources/read", "mcp.prompts/get", "mcp.resources/list")
    return Client(name, driver, "weather", "weather", "/mcp", "/weather", denied, more, ("tools",), actions)


def a2a(name: str, driver: str, denied: dict[str, Any], **more: str) -> Client:
    end = "/" if driver == NODEA else ""  # the JavaScript client resolves the card's address against its base URL
    actions = ("a2a.GetAgentCard", "a2a.SendMessage", "a2a.SendStreamingMessage", "a2a.GetTask", "a2a.CancelTask")
    denied = {"denied": {"text": WEBHOOK, **denied}}
    return Client(name, driver, "concierge", "concierge", end, "/concierge" + end, denied, more, ("card",), actions)


def llm(name: str, straight: str, through: str, actions: tuple[str, ...]) -> Client:
    denied = {
        step: {"class": "PermissionDeniedError", "status": 403, "text": MODEL} for step in ("denied", "denied stream")
    }
    return Client(
        name, f"{name}/drive.py", "model", name, straight, through, denied, lists=("models",), actions=actions
    )


OWN = ("card", "no such task")

NODE1, NODE2, NODEA = "node/drive-mcp1.mjs", "node/drive-mcp2.mjs", "node/drive-a2a.mjs"
REFUSED = {"class": "A2AClientError"}

ALL = [
    mcp("mcp1", "mcp1/drive.py", "McpError"),
    mcp("mcp2-legacy", "mcp2/drive.py", "MCPError", mode="legacy"),
    mcp("mcp2-auto", "mcp2/drive.py", "MCPError", mode="auto"),
    mcp("mcp2-modern", "mcp2/drive.py", "MCPError", mode="2026-07-28"),
    mcp("typescript-mcp1", NODE1, "McpError"),
    mcp("typescript-mcp2-legacy", NODE2, "ProtocolError", mode="legacy"),
    mcp("typescript-mcp2-auto", NODE2, "ProtocolError", mode="auto"),
    mcp("typescript-mcp2-modern", NODE2, "ProtocolError", mode="2026-07-28"),
    a2a("a2a-jsonrpc", "a2a/drive.py", REFUSED, binding="JSONRPC", version="1.0"),
    a2a("a2a-rest", "a2a/drive.py", REFUSED, binding="HTTP+JSON", version="1.0"),
    a2a("a2a-jsonrpc-0.3", "a2a/drive.py", REFUSED, binding="JSONRPC", version="0.3"),
    a2a("a2a-rest-0.3", "a2a/drive.py", REFUSED, binding="HTTP+JSON", version="0.3"),
    a2a("javascript-a2a-jsonrpc", NODEA, {"class": "JsonRpcTransportError"}, binding="JSONRPC"),
    a2a("javascript-a2a-rest", NODEA, {"class": "RestA2AErrorImpl"}, binding="HTTP+JSON"),
    llm("openai", "/v1", "/openai/v1", ("llm.chat", "llm.embeddings", "llm.models")),
    llm("anthropic", "", "/anthropic", ("llm.chat", "llm.count_tokens", "llm.models")),
    Client(
        "websockets", "websockets/drive.py", "model", "echo", "/ws", "/echo/ws",
        {
            "denied": {"saw": -31403, "text": WORD},
            "denied opening": {"class": "InvalidStatus", "status": 403, "text": OPENING},
        },
        actions=("ws.open", "ws.message"), scheme="ws",
    ),
]  # fmt: skip


@pytest.mark.parametrize("client", ALL, ids=lambda client: client.name)
def test_a_real_client_sees_what_it_saw_before_and_survives_what_it_is_denied(
    client: Client, tmp_path: Path, bases: dict[str, str]
) -> None:
    straight = drive(client, bases[client.upstream], client.straight, "any", shut=client.straight)
    with gateway(tmp_path, **settings(tmp_path, bases)) as running:
        credential, caller = key(tmp_path, running) if client.route in ("openai", "anthropic") else token(running)
        through = drive(client, running.url, client.through, credential, shut="/shut/ws")
        url = running.url + client.through
        records = running.records()
    assert list(through) == list(straight), "the session ended early"
    for step, seen in straight.items():
        if step in client.denied:
            text = client.denied[step]["text"].format(caller=caller, upstream=client.route)
            check_denied(client.denied[step], through[step], text)
        elif step == "no such task":  # the gateway itself says it: it knows whose tasks there are
            assert re.search("TaskNotFound|not found|404", str(through[step]["error"])), through[step]
        elif step in client.lists:
            check_list(step, seen["saw"], through[step]["saw"], url)
        else:
            assert through[step] == seen, step
    cut = sum("peer closed connection" in json.dumps(seen) for seen in straight.values())
    check_records(client, caller, records, cut)


def test_a_missing_environment_fails_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(globals(), "ENVIRONMENTS", tmp_path)
    for client in (ALL[0], ALL[-3], next(item for item in ALL if item.driver == NODE1)):
        with pytest.raises(pytest.fail.Exception, match="make test"):
            command(client)


def settings(folder: Path, bases: dict[str, str]) -> dict[str, Any]:
    """The demo's routes, API keys, the shipped policy and one rule more; nothing limits, so that all answers count."""
    policy = folder / "policy"
    shutil.copytree(ROOT / "policies" / "rego", policy)
    (policy / "spoken.rego").write_text(SPOKEN)
    found = routes_to(bases)
    found["routes"].append({"name": "shut", "match": {"path": "/shut"}, "upstream": "echo"})
    (folder / "keys.yaml").write_text("[]")
    return {**found, "policy": {"bundle": str(policy)}}


def token(running: Running) -> tuple[str, str]:
    return running.issuer.token(), "agent:idp/planner"


def key(folder: Path, running: Running) -> tuple[str, str]:
    """An API key, which is what a vendor's client sends; `x-api-key` or a bearer, as it likes."""
    made, digest = mint("sdk")
    entry = {"id": "sdk", "sha256": digest, "subject": "sdk", "type": "agent", "org": "acme", "roles": ["reader"]}
    (folder / "keys.yaml").write_text(json.dumps([entry]))
    trust = {**running.settings["trust"], "api_keys": {"file": str(folder / "keys.yaml")}}
    running.reload(trust=trust)
    return made, "key:sdk"


def command(client: Client) -> list[str]:
    """The interpreter of the client's own environment, and its driver."""
    if client.driver.endswith(".mjs"):
        interpreter = ENVIRONMENTS / "node" / "node_modules" / ".bin" / "node"
    else:
        interpreter = ENVIRONMENTS / "clients" / client.driver.partition("/")[0] / "bin" / "python"
    if not interpreter.exists():
        pytest.fail(f"{interpreter} is not here: run make test, whose tests/components.sh installs it")
    return [str(interpreter), str(CLIENTS / client.driver)]


def drive(client: Client, base: str, path: str, credential: str, **paths: str) -> dict[str, Any]:
    """The transcript of one run, by step, without what differs from run to run."""
    base = base.replace("http", client.scheme, 1)
    asked = {**client.more, **{name: base + shut for name, shut in paths.items()}}
    done = subprocess.run(
        command(client), input=json.dumps({"url": base + path, "credential": credential, **asked}), text=True,
        capture_output=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{client.name} ended: {done.stderr[-3000:]}"
    return {item.pop("step"): item for item in alike(json.loads(done.stdout), base + path)}


def alike(transcript: list[dict[str, Any]], url: str) -> list[dict[str, Any]]:
    """Ids in the order in which they appear, no times of day, no address of the one we asked; but for the two steps in
    which the gateway speaks for itself."""
    text = json.dumps([item if item["step"] not in OWN else {"step": item["step"]} for item in transcript])
    ids: dict[str, str] = {}
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    text = re.sub(rf"(exchange_id\W+){uuid}", r"\1its own", text)
    text = re.sub(uuid, lambda found: ids.setdefault(found[0], f"id {len(ids) + 1}"), text)
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "now", text).replace(url, "URL")
    return [item if item["step"] in OWN else said for item, said in zip(transcript, json.loads(text), strict=True)]


def check_denied(wanted: dict[str, Any], seen: dict[str, Any], text: str) -> None:
    if "saw" in wanted:  # no error for the client: a message in the connection that says so
        answer = json.loads(seen["saw"])
        assert answer["error"]["code"] == wanted["saw"]
        assert answer["error"]["message"] == text
        assert answer["error"]["data"]["reason"] == "denied"
        return
    error = seen["error"]
    for name in ("class", "code", "status"):
        assert error.get(name) == wanted.get(name, error.get(name)), error
    assert text in json.dumps(error, ensure_ascii=False), error


def check_list(step: str, straight: Any, through: Any, url: str) -> None:
    """Lists are filtered and cards are rewritten; what is left is as it was."""
    if step == "tools":
        assert through["tools"] == [tool for tool in straight["tools"] if tool["name"] == "get_forecast"]
        assert {**through, "tools": []} == {**straight, "tools": []}
    elif step == "models":
        assert through == [model for model in straight if model["id"].startswith("small-")]
    else:
        ways = [item["url"] for item in through["supportedInterfaces"]]
        assert ways == [url.rstrip("/") + "/rpc", url.rstrip("/") + "/rest"]
        assert through["skills"] == straight["skills"]
        assert through["name"] == straight["name"]


def check_records(client: Client, caller: str, records: list[dict[str, Any]], cut: int) -> None:
    """`cut`: answers that the upstream itself leaves unfinished."""
    records = [record for record in records if record.get("route") in (client.route, "shut")]
    assert {record["subject"]["id"] for record in records} == {caller}
    done = [record for record in records if record["kind"] == "outcome"]
    refused = [record for record in records if record["kind"] == "refusal"]
    assert set(client.actions) <= {record["action"] for record in done}
    assert {record["result"] for record in done} <= {"ok", "client_gone", "upstream_gone"}
    assert sum(record["result"] == "upstream_gone" for record in done) == cut
    denied = [record for record in refused if record["refusal"]["reason"] == "denied"]
    assert [record["decision"]["effect"] for record in denied] == ["deny"] * len(client.denied)
    assert {record["refusal"]["reason"] for record in refused} <= {"denied", "session_unknown"}
