"""A price list in a running gateway: what calls cost stands in their records, a list that changes is in force next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from rig import Running, gateway, until

from tests.flows.canned import Canned, Said, answer, canned, open_policy, say

LIST = """
currency: usd
models:
  - {model: m, input: 1, output: 10, cached: 0.1}
tools:
  - {tool: tools/draw, per_call: 0.01, reported_up_to: 0.5}
  - {tool: tools/*, per_call: 0.01}
"""
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Snow in Oslo?"}], "max_tokens": 20}
COUNTS = {"prompt_tokens": 1000, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 400}}


def events(*documents: Any) -> bytes:
    shown = (document if isinstance(document, str) else json.dumps(document) for document in documents)
    return b"".join(f"data: {data}\n\n".encode() for data in shown)


def piece(text: str) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], "usage": None}


LAST = {"object": "chat.completion.chunk", "choices": [], "usage": COUNTS}


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[tuple[Running, Canned]]:
    (folder / "prices.yaml").write_text(LIST)
    with canned() as upstream:
        sections: dict[str, Any] = {
            "prices": str(folder / "prices.yaml"),
            "policy": open_policy(folder),
            "upstreams": {
                "models": {"url": upstream.url, "protocol": "openai"},
                "tools": {"url": upstream.url + "/mcp", "protocol": "mcp", "tools": {"pin": "none"}},
            },
            "routes": [
                {"name": "models", "match": {"path": "/models"}, "upstream": "models", "auth": "anonymous"},
                {"name": "asks", "match": {"path": "/asks"}, "upstream": "models", "auth": "anonymous",
                 "include_usage": "inject"},
                {"name": "tools", "match": {"path": "/tools"}, "upstream": "tools", "auth": "anonymous"},
            ],
        }  # fmt: skip
        with gateway(folder, **(sections | settings)) as running:
            yield running, upstream


def chat(running: Running, route: str = "models", **members: Any) -> Said:
    body = json.dumps({**CHAT, **members}).encode()
    return say(running.app.port, f"POST /{route}/chat/completions", "Content-Type: application/json", body=body)


def tool(running: Running, name: str, ident: int = 1) -> Said:
    body = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": {"name": name, "arguments": {}}}
    wants = "Accept: application/json, text/event-stream"
    head = ("Content-Type: application/json", wants, "MCP-Protocol-Version: 2025-11-25")
    return say(running.app.port, "POST /tools", *head, body=json.dumps(body).encode())


def shown_of(found: Said) -> bytes:
    """The body without its framing."""
    if found.value("transfer-encoding") is None:
        return found.rest
    whole, rest = b"", found.rest
    while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
        rest = rest.partition(b"\r\n")[2]
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return whole


def test_what_a_call_cost_stands_in_its_record(tmp_path: Path) -> None:
    with serving(tmp_path) as (running, upstream):
        document = {"object": "chat.completion", "choices": [], "usage": COUNTS, "service_tier": "default"}
        upstream.says["/chat/completions"] = answer(json.dumps(document).encode())
        assert chat(running).status == 200
        usage = running.last("outcome")["usage"]
        # 600 * 1 + 400 * 0.1 + 7 * 10 micro-dollars
        assert (usage["usd"], usage["cached_tokens"], usage["tier"]) == ("0.00071", 400, "default")
        upstream.says["/chat/completions"] = answer(b'{"error": {}}', status="400 Bad Request")
        assert chat(running).status == 400
        assert "usd" not in running.last("outcome")["usage"]


def test_a_list_that_changes_is_in_force_and_one_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as (running, upstream):
        document = {"object": "chat.completion", "choices": [], "usage": COUNTS}
        upstream.says["/chat/completions"] = answer(json.dumps(document).encode())
        revision = running.app.snapshot.revision
        (tmp_path / "prices.yaml").write_text(LIST.replace("output: 10", "output: 1000"))
        until(lambda: running.app.snapshot.revision != revision, what="the new list")
        chat(running)
        assert running.last("outcome")["usage"]["usd"] == "0.00764"
        found = [record for record in running.records() if record["kind"] == "activation"][-1]
        assert (found["activation"]["effect"], found["activation"]["why"]) == ("accepted", "prices")
        assert found["activation"]["prices"] == running.app.snapshot.prices.revision
        (tmp_path / "prices.yaml").write_text("currency: usd\nmodels: [{model: m, input: -1, output: 1}]\n")

        def refusals() -> list[dict[str, Any]]:
            return [one for one in running.records() if one["kind"] == "activation" and "refused" in json.dumps(one)]

        until(lambda: len(refusals()) == 1, what="the refusal")
        assert "models[0].input: not a decimal number of dollars" in json.dumps(refusals()[0])
        chat(running)
        assert running.last("outcome")["usage"]["usd"] == "0.00764"


def test_a_stream_is_asked_for_its_usage_and_the_caller_never_sees_that(tmp_path: Path) -> None:
    with serving(tmp_path) as (running, upstream):
        shown, end = events(piece("Snow"), piece(" in Oslo")), events("[DONE]")
        upstream.says["/chat/completions"] = answer(shown + events(LAST) + end, "text/event-stream")
        found = chat(running, "asks", stream=True)
        assert shown_of(found) == shown + end
        sent = json.loads(upstream.bodies[-1])
        assert sent == {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        usage = running.last("outcome")["usage"]
        assert (usage["input_tokens"], usage["output_tokens"], usage.get("estimated")) == (1000, 7, None)
        assert usage["usd"] == "0.00071"
        intent = running.last("intent")
        assert intent["request"]["forwarded_digest"] != intent["request"]["digest"]
        assert b"accept-encoding: identity" in upstream.heads[-1].lower()


def test_the_vendors_own_client_sees_no_usage_that_it_did_not_ask_for(tmp_path: Path) -> None:
    with serving(tmp_path) as (running, upstream):
        shown = [{**piece(text), "id": "c", "created": 1, "model": "m"} for text in ("Snow", " in Oslo")]
        upstream.says["/chat/completions"] = answer(events(*shown, LAST, "[DONE]"), "text/event-stream")
        client = openai.OpenAI(base_url=f"{running.url}/asks", api_key=running.issuer.token(), max_retries=0)
        with client, client.chat.completions.create(**CHAT, stream=True) as stream:
            chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "Snow in Oslo"
        assert [chunk.usage for chunk in chunks] == [None, None]
        assert running.last("outcome")["usage"]["output_tokens"] == 7


@pytest.mark.parametrize(
    ("route", "members"),
    [
        ("models", {"stream": True}),
        ("asks", {"stream": True, "stream_options": {"include_usage": True}}),
        ("asks", {}),
    ],
)
def test_whoever_asked_itself_or_streams_not_gets_every_byte(
    tmp_path: Path, route: str, members: dict[str, Any]
) -> None:
    with serving(tmp_path) as (running, upstream):
        whole = events(piece("Snow"), LAST, "[DONE]")
        upstream.says["/chat/completions"] = answer(whole, "text/event-stream")
        assert shown_of(chat(running, route, **members)) == whole
        assert json.loads(upstream.bodies[-1]) == {**CHAT, **members}
        assert "forwarded_digest" not in running.last("intent")["request"]


def test_an_answer_to_an_injected_call_that_is_no_stream_passes(tmp_path: Path) -> None:
    with serving(tmp_path) as (running, upstream):
        said = b'{"error": {"message": "unknown parameter: stream_options"}}'
        upstream.says["/chat/completions"] = answer(said, status="400 Bad Request")
        found = chat(running, "asks", stream=True)
        assert (found.status, found.rest) == (400, said)


def result(ident: int, cost: Any) -> dict[str, Any]:
    meta = {"tollgate/cost": cost} if cost is not None else {}
    return {"jsonrpc": "2.0", "id": ident, "result": {"content": [], "_meta": meta}}


@pytest.mark.parametrize(
    ("name", "said", "usd", "reported"),
    [
        ("draw", result(1, None), "0.01", None),
        ("draw", result(1, {"usd": "0.12"}), "0.12", "0.12"),
        ("draw", result(1, {"usd": "9"}), "0.5", "9"),
        ("draw", result(1, {"usd": 0}), "0.01", None),
        ("draw", result(2, {"usd": "0"}), "0.01", None),
        ("draw", {"id": 1, "result": {"structuredContent": result(1, {"usd": "0"})["result"]}}, "0.01", None),
        ("other", result(1, {"usd": "0"}), "0.01", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_may_say_what_it_cost_where_the_list_lets_it(
    tmp_path: Path, name: str, said: dict[str, Any], usd: str, reported: str | None, streamed: bool
) -> None:
    with serving(tmp_path) as (running, upstream):
        said = {"jsonrpc": "2.0", **said}
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
        shown = events(progress, said) if streamed else json.dumps(said).encode()
        upstream.says["/mcp"] = answer(shown, "text/event-stream" if streamed else "application/json")
        found = tool(running, name)
        if said["id"] == 1:
            assert shown_of(found) == shown
        usage = running.last("outcome")["usage"]
        assert (usage["usd"], usage.get("reported")) == (usd, reported)


def test_a_budget_stops_before_its_amount_is_spent_and_counts_what_was(tmp_path: Path) -> None:
    budget = {"name": "little", "key": ["route"], "unit": "usd", "amount": "0.025", "period": "day"}
    with serving(tmp_path, budgets=[budget]) as (running, upstream):
        upstream.says["/mcp"] = answer(json.dumps(result(1, None)).encode())
        assert [tool(running, "other").json().get("error", {}).get("code") for _ in range(3)] == [None, None, -31402]
        spent = [one["budgets"][0] for one in running.records() if one["kind"] == "outcome"]
        assert [(one["reserved"], one["settled"]) for one in spent] == [("0.01", "0.01")] * 2


def test_a_call_without_a_price_is_refused_by_a_budget_in_dollars_and_named(tmp_path: Path) -> None:
    budget = {"name": "little", "key": ["route"], "unit": "usd", "amount": 5, "period": "day"}
    with serving(tmp_path, budgets=[budget]) as (running, _):
        found = chat(running, model="unheard-of")
        assert found.status == 402
        assert running.last("refusal")["refusal"]["rule"] == "little: no price for unheard-of"


def test_where_the_budget_lets_it_a_call_without_a_price_is_marked(tmp_path: Path) -> None:
    budget = {"name": "little", "key": ["route"], "unit": "usd", "amount": 5, "period": "day", "unpriced": "allow"}
    with serving(tmp_path, budgets=[budget]) as (running, upstream):
        upstream.says["/chat/completions"] = answer(json.dumps({"choices": [], "usage": COUNTS}).encode())
        assert chat(running, model="unheard-of").status == 200
        usage = running.last("outcome")["usage"]
        assert usage["unpriced"] is True
        assert "usd" not in usage


def test_who_asks_a_model_that_reasons_for_no_usage_pays_for_what_was_reserved(tmp_path: Path) -> None:
    budget = {"name": "little", "key": ["route"], "unit": "usd", "amount": 5, "period": "day"}
    listed = LIST.replace("output: 10,", "output: 10, reasoning: true,")
    with serving(tmp_path, budgets=[budget]) as (running, upstream):
        revision = running.app.snapshot.revision
        (tmp_path / "prices.yaml").write_text(listed)
        until(lambda: running.app.snapshot.revision != revision, what="the new list")
        upstream.says["/chat/completions"] = answer(events(piece("Snow"), "[DONE]"), "text/event-stream")
        chat(running, stream=True)
        [charge] = running.last("outcome")["budgets"]
        assert charge["settled"] == charge["reserved"]
        upstream.says["/chat/completions"] = answer(events(piece("Snow"), LAST, "[DONE]"), "text/event-stream")
        chat(running, "asks", stream=True)
        [charge] = running.last("outcome")["budgets"]
        assert charge["settled"] == "0.00071"
