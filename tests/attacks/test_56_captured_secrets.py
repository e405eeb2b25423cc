"""Row 56: with captures on, what callers send as secrets is nowhere in what the gateway keeps or shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import gateway, routes_to

ROW = 56
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5LWNhbmFyeS1jYW5hcnk"
PEM = "-----BEGIN EC PRIVATE KEY-----\nY2FuYXJ5LXByaXZhdGUta2V5LWNhbmFyeQ\n-----END EC PRIVATE KEY-----"
TG = "tg_canary_" + "Qx7-_" * 8 + "end"
CANARIES: dict[str, Any] = {
    "canary-named": {"password": "canary-named"},
    "canary-deep": {"a": [{"b": {"clientSecret": {"value": ["canary-deep"]}}}]},
    "canary-in-json": {"payload": json.dumps({"user": "ann", "api_key": "canary-in-json with spaces"})},
    "canary-in-json-twice": {"payload": json.dumps(json.dumps({"token": "canary-in-json-twice"}))},
    "canary-in-shell": {"command": "curl -H 'Authorization: Bearer canary-in-shell' https://x"},
    "canary-in-query": {"url": "https://x/?a=1&access_token=canary-in-query&b=2"},
    "Y2FuYXJ5LXByaXZhdGUta2V5LWNhbmFyeQ": {"note": f"my key: {PEM} thanks"},
    "Y2FuYXJ5LWNhbmFyeS1jYW5hcnk": {"note": f"{JWT}"},
    "Qx7-_Qx7-_": {"note": [f"use {TG}"]},
    "4000056655665556": {"note": "4000056655665556"},
    "4000 0566 5566 5556": {"note": "card 4000 0566 5566 5556."},
    "4242424242424242": {"number": 4242424242424242},
}


@pytest.mark.parametrize("level", ["full", "shape"])
def test_no_secret_of_a_callers_is_kept(tmp_path: Path, bases: dict[str, str], level: str) -> None:
    sections = routes_to(bases)
    with gateway(
        tmp_path, **sections, audit={"capture": level, "checkpoint": {"every": "100ms"}},
        policy={"bundle": str(Path(__file__).parent.parent.parent / "policies" / "rego"), "headers": ["x-my-secret"]},
    ) as running:  # fmt: skip
        headers = {"authorization": f"Bearer {running.issuer.token()}", "x-my-secret": "canary-in-header"}
        rpc = headers | {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
        for arguments in CANARIES.values():
            params = {"name": "get_forecast", "arguments": {"city": "Oslo", **arguments}}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            httpx2.post(f"{running.url}/weather?secret=canary-in-target", headers=rpc, json=message)
            chat = {"model": "small-1", "messages": [{"role": "user", "content": json.dumps(arguments)}]}
            httpx2.post(f"{running.url}/openai/v1/chat/completions", headers=headers, json=chat)
            httpx2.post(f"{running.url}/echo/x", headers=headers, json=arguments)
        records = running.records()
        captured = [record for record in records if "capture" in record.get("request", {})]
        assert len(captured) >= 2 * len(CANARIES)
        admin = {"authorization": f"Bearer {running.admin_token}"}
        shown = httpx2.get(f"{running.admin_url}/api/v1/records?limit=500", headers=admin).content
        shown += httpx2.get(f"{running.admin_url}/metrics", headers=admin).content
    kept = {path.name: path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file()} | {"": shown}
    for canary in (*CANARIES, "canary-in-header", "canary-in-target"):
        for name, data in kept.items():
            assert canary.encode() not in data, (canary, name)


def test_the_same_gateway_keeps_what_is_no_secret(tmp_path: Path, bases: dict[str, str]) -> None:
    """So that the test above cannot pass because nothing was kept at all."""
    with gateway(tmp_path, **routes_to(bases), audit={"capture": "full"}) as running:
        headers = {"authorization": f"Bearer {running.issuer.token()}"}
        chat = {"model": "small-1", "messages": [{"role": "user", "content": "canary of no importance"}]}
        httpx2.post(f"{running.url}/openai/v1/chat/completions", headers=headers, json=chat)
        assert "canary of no importance" in json.dumps(running.last("intent"))
