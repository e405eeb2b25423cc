"""The thinnest real line and its neighbours: a call through a running gateway, and what its log says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
from rig import gateway, routes_to


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def test_a_model_call_is_recorded_before_it_leaves_and_metered_after(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        headers = {"authorization": f"Bearer {running.issuer.token()}"}
        body = {"model": "small-1", "messages": [{"role": "user", "content": "Oslo?"}]}
        answer = httpx2.post(f"{running.url}/openai/v1/chat/completions", headers=headers, json=body)
        assert answer.status_code == 200, answer.text
        intent, outcome = running.records()[-2:]
        assert (intent["kind"], outcome["kind"]) == ("intent", "outcome")
        assert intent["exchange"] == outcome["exchange"] == answer.headers["x-request-id"]
        assert outcome["usage"]["input_tokens"] == 9
        assert outcome["result"] == "ok"


def test_a_denied_tool_call_is_answered_in_the_protocols_form_and_leaves_a_refusal(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        headers = {"authorization": f"Bearer {running.issuer.token()}", "mcp-protocol-version": "2025-06-18"}
        headers["accept"] = "application/json, text/event-stream"
        denied = httpx2.post(f"{running.url}/weather", headers=headers, json=call("delete_station", station="1"))
        assert denied.status_code == 200
        assert denied.json()["error"]["code"] == -31403
        record = running.records()[-1]
        assert record["kind"] == "refusal"
        assert record["refusal"]["reason"] == "denied"
        assert record["resource"] == {"id": "weather/delete_station", "type": "tool"}
        assert record["decision"]["effect"] == "deny"


def test_nobody_gets_in_without_a_credential_and_the_answer_says_where_to_get_one(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        answer = httpx2.post(f"{running.url}/weather", json=call("get_forecast", city="Oslo"))
        assert answer.status_code == 401
        assert "resource_metadata=" in answer.headers["www-authenticate"]
        assert running.records()[-1]["refusal"]["reason"] == "unauthenticated"


def test_a_path_that_no_route_leads_from_is_recorded_too(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        assert httpx2.get(f"{running.url}/nowhere").status_code == 404
        assert running.records()[-1]["refusal"]["reason"] == "route_unknown"
