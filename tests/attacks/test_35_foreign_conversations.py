"""A conversation or a stored response belongs to the caller who got it; in anyone else's hands it goes nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rig import Running, gateway

from tests.flows.canned import Canned, Said, answer, canned, open_policy, say

ROW = 35
EVENTS = b'event: response.created\ndata: {"type": "response.created", "response": {"id": "resp_s"}}\n\ndata: {}\n\n'


def settings(folder: Path, upstream: Canned) -> dict[str, Any]:
    kinds = {"openai": "openai", "agent": "a2a"}
    return {
        "policy": open_policy(folder),
        "upstreams": {name: {"url": upstream.url + f"/{name}", "protocol": kind} for name, kind in kinds.items()},
        "routes": [{"name": name, "match": {"path": f"/{name}"}, "upstream": name} for name in kinds],
    }


def post(gate: Running, who: str, path: str, **body: Any) -> Said:
    token = gate.issuer.token(subject=who)
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
    return say(gate.app.port, f"POST {path}", *headers, body=json.dumps(body).encode())


def get(gate: Running, who: str, path: str, method: str = "GET") -> Said:
    return say(gate.app.port, f"{method} {path}", f"Authorization: Bearer {gate.issuer.token(subject=who)}")


def test_a_stored_response_in_another_callers_hands_is_refused_and_recorded(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        kept = json.dumps({"id": "resp_1", "object": "response", "conversation": {"id": "conv_1"}}).encode()
        upstream.says["/openai/v1/responses"] = answer(kept)
        asked = {"model": "m", "input": "hi"}
        assert post(gate, "ann", "/openai/v1/responses", **asked).rest == kept
        upstream.heads.clear()
        for named in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}):
            refused = post(gate, "bob", "/openai/v1/responses", **asked, **named)
            assert (refused.status, refused.json()["error"]["reason"]) == (403, "session_foreign")
            assert gate.last("refusal")["refusal"]["reason"] == "session_foreign"
        for method, path in (("GET", "resp_1"), ("DELETE", "resp_1"), ("GET", "resp%5F1/input_items")):
            assert get(gate, "bob", f"/openai/v1/responses/{path}", method).status == 403
        assert get(gate, "bob", "/openai/v1/conversations/conv_1/items").status == 403
        guessed = post(gate, "bob", "/openai/v1/responses", **asked, previous_response_id="resp_9")
        assert (guessed.status, guessed.json()["error"]["reason"]) == (404, "session_unknown")
        assert upstream.heads == []
        assert post(gate, "ann", "/openai/v1/responses", **asked, previous_response_id="resp_1").status == 200


def test_a_response_that_was_streamed_is_its_callers_too(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        upstream.says["/openai/v1/responses"] = answer(EVENTS, "text/event-stream")
        asked = {"model": "m", "input": "hi", "stream": True}
        assert EVENTS in post(gate, "ann", "/openai/v1/responses", **asked).rest
        assert post(gate, "bob", "/openai/v1/responses", **asked, previous_response_id="resp_s").status == 403
        assert post(gate, "ann", "/openai/v1/responses", **asked, previous_response_id="resp_s").status == 200


def test_a_conversation_with_an_agent_in_another_callers_hands_is_refused(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        task = {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_WORKING"}}
        upstream.says["/agent"] = answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": task}}).encode())

        def send(who: str, method: str = "SendMessage", **params: Any) -> dict[str, Any]:
            found: dict[str, Any] = post(gate, who, "/agent", jsonrpc="2.0", id=1, method=method, params=params).json()
            return found

        def message(**named: str) -> dict[str, Any]:
            return {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}], **named}

        assert send("ann", message=message())["result"]["task"]["contextId"] == "c-1"
        upstream.heads.clear()
        assert send("bob", message=message(contextId="c-1"))["error"]["code"] == -31403
        assert send("bob", message=message(context_id="c-1"))["error"]["code"] == -31403
        assert send("bob", "ListTasks", contextId="c-1")["error"]["code"] == -31403
        assert gate.last("refusal")["refusal"]["reason"] == "session_foreign"
        assert upstream.heads == []
        assert "result" in send("ann", message=message(contextId="c-1"))
        own = {"message": {"messageId": "x", "contextId": "bobs-own", "parts": []}}
        upstream.says["/agent"] = answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": own}).encode())
        assert "result" in send("bob", message=message(contextId="bobs-own")), "a name of the caller's own is accepted"
        assert send("ann", message=message(contextId="bobs-own"))["error"]["code"] == -31403
