"""Price lists written as YAML, and calls as the protocols classify them, for the tests of prices and estimates."""

from __future__ import annotations

import json
from typing import Any

from gateway import config
from gateway.assembly_prices import table
from gateway.core.exchange import Call, Exchange, Head, Principal
from gateway.core.ports import Protocol
from gateway.core.snapshot import Route, Snapshot, Upstream
from gateway.ledger.prices import PriceTable
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm

NOW = 1_790_000_000.0  # in September 2026
PATHS = {"chat": "chat/completions", "responses": "responses", "embeddings": "embeddings", "messages": "messages"}


def prices(text: str) -> PriceTable:
    return table(config.read_prices(("currency: usd\n" + text).encode(), "prices.yaml"), "sha256:test")


def exchange(
    protocol: Protocol,
    path: str,
    body: bytes | None,
    *,
    upstream: str = "models",
    listed: PriceTable | None = None,
    asked: Call | None = None,
    time: float = NOW,
) -> Exchange:
    nobody: Any = None
    head = Head("POST", path, path, "", "gw.example", "https", ((b"content-type", b"application/json"),), "192.0.2.1")
    route = Route("m", "/m", "", upstream, "required", "json")
    where = Upstream(upstream, protocol.name, "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/v1")
    snapshot = Snapshot(
        revision="1", routes=nobody, upstreams={}, authenticator=nobody, engine=nobody, ledger=nobody,
        prices=listed or PriceTable(), public_url="", hosts=frozenset(), origins=frozenset(), policy_headers=(),
        judged_body_bytes=1 << 22, body_bytes=1 << 22,
    )  # fmt: skip
    made = Exchange("0", time, 0.0, head, snapshot, route, where, protocol, body=body)
    made.principal = Principal("agent:idp/a", "agent")
    made.asked = asked if asked is not None else protocol.classify(made)
    assert isinstance(made.asked, Call), made.asked
    return made


def model(api: str, body: dict[str, Any], **members: Any) -> Exchange:
    """A call of a model; `model` is `m` unless the body says."""
    protocol = Llm(ANTHROPIC if api == "messages" else OPENAI)
    return exchange(protocol, f"/m/v1/{PATHS[api]}", json.dumps({"model": "m", **body}).encode(), **members)
