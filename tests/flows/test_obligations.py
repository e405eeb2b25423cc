"""Obligations, wire to wire: a policy that asks for them, real clients and upstreams on both sides of the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from rig import Running, gateway, routes_to, run
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.core.canonical import digest
from tests.flows.canned import answer, canned
from tests.serving import serving

HIDDEN = "[redacted]"


class Person(BaseModel):
    name: str
    ssn: str
    place: str


def registry() -> Any:
    server = MCPServer("registry")

    @server.tool()
    def person(name: str, place: str = "anywhere") -> Person:
        """A person, with what not everybody may see."""
        return Person(name=name, ssn="010203-12345", place=place)

    return server.streamable_http_app()


@pytest.fixture(scope="module")
def persons() -> Iterator[str]:
    """The registry on a free port, in a thread of this process."""
    with serving(registry()) as base:
        yield base + "/mcp"


def policy(folder: Path, *obligations: dict[str, Any], on: str = "") -> dict[str, Any]:
    """Everything is allowed; what `on` names is allowed with these obligations."""
    asked = f'input.action.name == "{on}"' if on else "true"
    text = f"""package tollgate

import rego.v1

default decision := {{"decision": true, "context": {{"rule": "all"}}}}

decision := {{"decision": true, "context": {{"rule": "obliged", "obligations": {json.dumps(obligations)}}}}} if {asked}
"""
    (folder / "policy").mkdir(exist_ok=True)
    (folder / "policy" / "policy.rego").write_text(text)
    return {"bundle": str(folder / "policy")}


def one(url: str, protocol: str, **route: Any) -> dict[str, Any]:
    return {
        "upstreams": {"up": {"url": url, "protocol": protocol}},
        "routes": [{"name": "up", "match": {"path": "/up"}, "upstream": "up", **route}],
    }


def intents(running: Running, action: str) -> list[dict[str, Any]]:
    return [record for record in running.records() if record["kind"] == "intent" and record.get("action") == action]


async def call_person(running: Running, mode: str, times: int = 1) -> list[Any]:
    found: list[Any] = []
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {running.issuer.token()}"}, timeout=30) as http:
        transport = streamable_http_client(f"{running.url}/up", http_client=http)
        async with Client(transport, mode=mode) as client:  # type: ignore[arg-type]
            for _ in range(times):
                try:
                    found.append(await client.call_tool("person", {"name": "Ann", "place": "Oslo"}))
                except MCPError as error:
                    found.append(error)
            found.append([tool.name for tool in (await client.list_tools()).tools])
    return found


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_tools_answer_is_redacted_and_the_tool_is_listed(mode: str, tmp_path: Path, persons: str) -> None:
    redact = {"type": "redact", "paths": ["/structuredContent/ssn", "/content/*/text"]}
    with gateway(tmp_path, policy=policy(tmp_path, redact, on="mcp.tools/call"), **one(persons, "mcp")) as running:
        result, tools = run(call_person(running, mode))
        outcome = [r for r in running.records() if r["kind"] == "outcome" and r["action"] == "mcp.tools/call"][-1]
        (intent,) = intents(running, "mcp.tools/call")
    assert result.structured_content == {"name": "Ann", "ssn": HIDDEN, "place": "Oslo"}
    assert [item.text for item in result.content] == [HIDDEN]
    assert tools == ["person"]
    assert outcome["redacted"] == 2
    assert outcome["decision"]["obligations"] == intent["decision"]["obligations"] == [redact]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_tools_arguments_are_set_and_the_intent_has_both_digests(mode: str, tmp_path: Path, persons: str) -> None:
    sets = {"type": "set_arguments", "arguments": {"place": "Bergen"}}
    with gateway(tmp_path, policy=policy(tmp_path, sets, on="mcp.tools/call"), **one(persons, "mcp")) as running:
        result, _ = run(call_person(running, mode))
        (intent,) = intents(running, "mcp.tools/call")
    assert result.structured_content["place"] == "Bergen"
    assert intent["request"]["digest"] != intent["request"]["forwarded_digest"]
    assert "Bergen" not in json.dumps(intent)
    assert intent["decision"]["obligations"] == [{"type": "set_arguments", "arguments": ["place"]}]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_rate_of_policy_ends_no_session(mode: str, tmp_path: Path, persons: str) -> None:
    limit = {"type": "limit", "rate": "1/day"}
    with gateway(tmp_path, policy=policy(tmp_path, limit, on="mcp.tools/call"), **one(persons, "mcp")) as running:
        first, second, tools = run(call_person(running, mode, times=2))
        refusal = running.last("refusal")
    assert first.structured_content["name"] == "Ann"
    assert (second.error.code, tools) == (-31429, ["person"])
    assert refusal["limits"] == [{"name": "policy.1-day", "remaining": 0, "exceeded": True}]


@pytest.mark.parametrize(
    ("obligation", "words"),
    [
        ({"type": "charge", "unit": "usd", "amount": "0.10"}, "no budget in usd"),
        ({"type": "require_approval", "approvers": ["ops"], "ttl": "15m"}, "approvals are not in this version"),
        ({"type": "max_tokens", "n": 5}, "max_tokens is for models only"),
        ({"type": "fly"}, "'fly'"),
        ({"type": "redact", "paths": ["$.ssn"]}, "not a JSON Pointer"),
        ({"type": "set_arguments", "arguments": {"place": "x"}, "mode": "y"}, "'mode' is not known"),
    ],
)
def test_what_cannot_be_done_is_a_deny_that_names_it_and_hides_the_tool(
    obligation: dict[str, Any], words: str, tmp_path: Path, persons: str
) -> None:
    with gateway(tmp_path, policy=policy(tmp_path, obligation, on="mcp.tools/call"), **one(persons, "mcp")) as running:
        refused, tools = run(call_person(running, "auto"))
        assert intents(running, "mcp.tools/call") == []
    assert (refused.error.code, tools) == (-31403, [])
    assert words in refused.error.message


def bearer(running: Running) -> dict[str, str]:
    return {"authorization": f"Bearer {running.issuer.token()}"}


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_an_agents_stream_is_redacted_event_by_event(tmp_path: Path, bases: dict[str, str]) -> None:
    redact = {"type": "redact", "paths": ["/artifactUpdate/artifact/parts/*/text"]}
    asked = {
        "jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage",
        "params": {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "a table for two"}]}},
    }  # fmt: skip
    settings = one(bases["concierge"] + "/rpc", "a2a")
    with gateway(tmp_path, policy=policy(tmp_path, redact, on="a2a.SendStreamingMessage"), **settings) as running:
        headers = bearer(running) | {"a2a-version": "1.0", "accept": "text/event-stream"}
        said = httpx2.post(f"{running.url}/up", json=asked, headers=headers, timeout=20)
        outcome = running.last("outcome")
    shown = [
        event["result"]["artifactUpdate"]["artifact"]
        for event in events(said.text)
        if "artifactUpdate" in event["result"]
    ]
    assert [part["text"] for artifact in shown for part in artifact["parts"]] == [HIDDEN] * 3
    assert "Table" not in said.text
    assert "TASK_STATE_COMPLETED" in said.text
    assert outcome["redacted"] == 3


def test_an_agents_task_is_not_seen_whole_by_another_name(tmp_path: Path, bases: dict[str, str]) -> None:
    """Policy redacts what a message is answered; the same task is asked for, listed, subscribed to, sent elsewhere."""
    redact = {"type": "redact", "paths": ["/task/artifacts", "/artifacts", "/tasks/*/artifacts"]}

    def ask(running: Running, method: str, **params: Any) -> Any:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = bearer(running) | {"a2a-version": "1.0"}
        return httpx2.post(f"{running.url}/up", json=asked, headers=headers, timeout=20)

    message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "a table for two"}]}
    settings = one(bases["concierge"] + "/rpc", "a2a")
    with gateway(tmp_path, policy=policy(tmp_path, redact, on="a2a.SendMessage"), **settings) as running:
        task = ask(running, "SendMessage", message=message).json()["result"]["task"]
        seen = [
            ask(running, "GetTask", id=task["id"]),
            ask(running, "CancelTask", id=task["id"]),
            ask(running, "SubscribeToTask", id=task["id"]),
            ask(running, "CreateTaskPushNotificationConfig", taskId=task["id"], url="http://127.0.0.1:9/x"),
        ]
        listed = ask(running, "ListTasks", includeArtifacts=True).json()["result"]
        hook = {"taskPushNotificationConfig": {"url": "http://127.0.0.1:9/x"}}
        pushed = ask(running, "SendMessage", message=message, configuration=hook).json()
        assert len(intents(running, "a2a.SendMessage")) == 1, "what goes to a webhook is not even forwarded"
        (tmp_path / "all").mkdir()
        running.reload(policy=policy(tmp_path / "all", redact))
        whole = ask(running, "GetTask", id=task["id"]).json()["result"]
        all_listed = ask(running, "ListTasks", includeArtifacts=True).json()["result"]
    assert task["artifacts"] == HIDDEN
    assert [said.json()["error"]["code"] for said in seen] == [-31403] * 4
    assert listed["tasks"] == []
    assert "webhook" in pushed["error"]["message"]
    assert whole["artifacts"] == HIDDEN
    assert [item["artifacts"] for item in all_listed["tasks"]] == [HIDDEN]


def test_a_models_stream_and_its_answer_are_redacted(tmp_path: Path, bases: dict[str, str]) -> None:
    redact = {"type": "redact", "paths": ["/choices/*/delta/content", "/choices/*/message/content"]}
    asked = {"model": "small-1", "messages": [{"role": "user", "content": "hi"}]}
    with gateway(tmp_path, policy=policy(tmp_path, redact, on="llm.chat"), **routes_to(bases)) as running:
        url = f"{running.url}/openai/v1/chat/completions"
        whole = httpx2.post(url, json=asked, headers=bearer(running), timeout=20)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = httpx2.post(url, json=asked | options, headers=bearer(running), timeout=20)
        outcome = running.last("outcome")
    assert whole.json()["choices"][0]["message"]["content"] == HIDDEN
    deltas = [choice["delta"] for event in events(stream.text) for choice in event["choices"]]
    assert [delta["content"] for delta in deltas if "content" in delta] == [HIDDEN] * 6
    assert "Snow" not in whole.text + stream.text
    assert stream.text.endswith("data: [DONE]\n\n")
    assert outcome["usage"]["output_tokens"] == 6, "what was used is known all the same"


@pytest.mark.parametrize(
    ("route", "path", "sent", "expected"),
    [
        ("openai", "/chat/completions", {}, {"max_completion_tokens": 100}),
        ("openai", "/chat/completions", {"max_tokens": 5000}, {"max_tokens": 100}),
        ("openai", "/chat/completions", {"max_completion_tokens": 50}, {"max_completion_tokens": 50}),
        ("openai", "/responses", {"max_output_tokens": 101}, {"max_output_tokens": 100}),
        ("openai", "/embeddings", {}, {}),
        ("anthropic", "/v1/messages", {"max_tokens": 4096}, {"max_tokens": 100}),
    ],
)
def test_a_model_is_asked_for_no_more_tokens_than_policy_allows(
    route: str, path: str, sent: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    tokens = {"type": "max_tokens", "n": 100}
    with (
        canned() as upstream,
        gateway(tmp_path, policy=policy(tmp_path, tokens), **one(upstream.url, route)) as running,
    ):
        body = {"model": "small-1", "messages": [], **sent}
        said = httpx2.post(f"{running.url}/up{path}", json=body, headers=bearer(running), timeout=20)
        intent = running.last("intent")
    assert said.status_code == 200
    forwarded = json.loads(upstream.bodies[-1])
    assert forwarded == {"model": "small-1", "messages": [], **expected}
    rewritten = forwarded != body
    assert ("forwarded_digest" in intent["request"]) == rewritten
    if rewritten:
        assert intent["request"]["forwarded_digest"] == digest(upstream.bodies[-1])


def test_a_plain_json_answer_is_redacted_asked_for_without_a_coding_and_for_its_caller_alone(tmp_path: Path) -> None:
    redact = {"type": "redact", "paths": ["/people/*/ssn"]}
    people = b'{"people": [{"name": "Ann", "ssn": "1"}, {"name": "Bo", "ssn": 12345678901234567890}], "n": 1.50}'
    with (
        canned() as upstream,
        gateway(tmp_path, policy=policy(tmp_path, redact), **one(upstream.url, "http")) as running,
    ):
        upstream.says["/x"] = answer(people, "application/json", "200 OK", 'ETag: "1"', "Cache-Control: public")
        headers = bearer(running) | {"accept-encoding": "gzip", "range": "bytes=0-5", "if-none-match": '"1"'}
        said = httpx2.get(f"{running.url}/up/x", headers=headers, timeout=20)
    assert said.json()["people"] == [{"name": "Ann", "ssn": HIDDEN}, {"name": "Bo", "ssn": HIDDEN}]
    assert "etag" not in said.headers
    assert said.headers["cache-control"] == "private"
    sent = upstream.heads[-1].lower()
    assert b"accept-encoding: identity" in sent
    assert b"range:" not in sent
    assert b"if-none-match" not in sent


def test_an_answer_in_which_nothing_is_hidden_keeps_its_bytes(tmp_path: Path) -> None:
    redact = {"type": "redact", "paths": ["/ssn"]}
    body = b'{ "n": 1.50, "big": 12345678901234567890, "t": "\\u00e9" }'
    with (
        canned() as upstream,
        gateway(tmp_path, policy=policy(tmp_path, redact), **one(upstream.url, "http")) as running,
    ):
        upstream.says["/x"] = answer(body)
        said = httpx2.get(f"{running.url}/up/x", headers=bearer(running), timeout=20)
        outcome = running.last("outcome")
    assert said.content == body
    assert outcome["redacted"] == 0


def test_a_request_without_a_judged_body_has_no_arguments_to_set(tmp_path: Path) -> None:
    sets = {"type": "set_arguments", "arguments": {"a": 1}}
    with canned() as upstream, gateway(tmp_path, policy=policy(tmp_path, sets), **one(upstream.url, "http")) as running:
        refused = httpx2.post(f"{running.url}/up/x", json={"b": 2}, headers=bearer(running), timeout=20)
        running.reload(**one(upstream.url, "http", body="json"))
        done = httpx2.post(f"{running.url}/up/x", json={"b": 2}, headers=bearer(running), timeout=20)
    assert (refused.status_code, "no body that was judged" in refused.json()["detail"]) == (403, True)
    assert done.status_code == 200
    assert [json.loads(body) for body in upstream.bodies] == [{"b": 2, "a": 1}]


def test_a_rate_of_policy_is_429_with_the_same_headers_on_plain_http(tmp_path: Path) -> None:
    limit = {"type": "limit", "rate": "1/hour"}
    with (
        canned() as upstream,
        gateway(tmp_path, policy=policy(tmp_path, limit), **one(upstream.url, "http")) as running,
    ):
        first, second = (httpx2.get(f"{running.url}/up/x", headers=bearer(running), timeout=20) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["ratelimit-policy"] == second.headers["ratelimit-policy"] == '"policy.1-hour";q=1;w=3600'
    assert int(second.headers["retry-after"]) > 3500


def legacy(running: Running, method: str, upstream_path: str = "/up", **more: Any) -> httpx2.Response:
    headers = bearer(running) | {"mcp-protocol-version": "2025-11-25", "accept": "application/json, text/event-stream"}
    headers |= more.pop("headers", {})
    return httpx2.request(method, running.url + upstream_path, headers=headers, timeout=20, **more)


def test_what_a_session_shows_again_is_not_shown_once_an_answer_of_it_was_redacted(tmp_path: Path) -> None:
    """A client that breaks off the redacted answer and resumes its stream elsewhere gets no other answer."""
    redact = {"type": "redact", "paths": ["/structuredContent/ssn"]}
    result = {"jsonrpc": "2.0", "id": 2, "result": {"content": [], "structuredContent": {"ssn": "123"}}}
    event = b"id: 7\ndata: " + json.dumps(result).encode() + b"\n\n"
    note = b'id: 8\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}\n\n'
    begun = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-11-25", "capabilities": {}}}

    with canned() as upstream:
        settings = one(upstream.url + "/mcp", "mcp")
        with gateway(tmp_path, policy=policy(tmp_path, redact, on="mcp.tools/call"), **settings) as running:
            upstream.says["/mcp"] = answer(
                json.dumps(begun).encode(), "application/json", "200 OK", "Mcp-Session-Id: s-1"
            )
            start = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
            assert legacy(running, "POST", json=start).status_code == 200
            session = {"mcp-session-id": "s-1"}
            upstream.says["/mcp"] = answer(event + note, "text/event-stream")
            before = legacy(running, "GET", headers=session | {"last-event-id": "6"})
            call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "person", "arguments": {}}}
            redacted = legacy(running, "POST", json=call, headers=session)
            again = legacy(running, "GET", headers=session | {"last-event-id": "6"})
    assert "123" in before.text, "in a session without redaction the stream is resumed as ever"
    assert "123" not in redacted.text + again.text
    assert "id: 7" not in redacted.text
    assert [item["error"]["code"] for item in events(again.text) if "error" in item] == [-31403]
    assert "notifications/message" in again.text


def test_a_socket_is_counted_by_policy_and_nothing_else_is_promised_there(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    def talk(running: Running) -> tuple[list[str], int]:
        url = running.url.replace("http", "ws") + "/echo/ws"
        with connect(url, additional_headers=bearer(running)) as opened:
            said: list[str] = []
            try:
                for _ in range(2):
                    opened.send('{"jsonrpc":"2.0","id":1,"method":"x"}')
                    said.append(str(opened.recv(timeout=10)))
            except ConnectionClosed:
                pass
        return said, len([r for r in running.records() if r.get("action") == "ws.message" and r["kind"] == "intent"])

    limit = {"type": "limit", "rate": "1/day"}
    with gateway(tmp_path, policy=policy(tmp_path, limit, on="ws.message"), **routes_to(bases)) as running:
        said, forwarded = talk(running)
        assert [("error" in json.loads(item), "-31429" in item) for item in said] == [(False, False), (True, True)]
        assert forwarded == 1
        for number, obligation in enumerate(
            (
                {"type": "redact", "paths": ["/x"]},
                {"type": "set_arguments", "arguments": {"method": "y"}},
                {"type": "max_tokens", "n": 5},
            )
        ):
            (tmp_path / f"p{number}").mkdir()
            running.reload(policy=policy(tmp_path / f"p{number}", obligation, on="ws.message"))
            said, forwarded = talk(running)
            assert all(obligation["type"] in json.loads(item)["error"]["message"] for item in said)
            assert forwarded == 1, "nothing more went on"
