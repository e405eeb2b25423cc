"""Names with slashes, dots, queries and line ends in them stay values of a question to an engine over the network.

Nothing of a request gets into the path, the query or the head of what the engine is sent; the body says the very names,
once. The other end is a real server that keeps what it read.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway import config
from gateway.assembly_policy import make_engine
from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from tests.pdp.asking import settled
from tests.wire.faulty import Peer, Server, answer

ROW = 62

NAMES = [
    "acme/../admin", "../../v1/policies", "acme/decision", "/", "..", "acme?pretty=true", "acme#", "acme%2f..%2fadmin",
    "acme\r\nHost: evil.example\r\n\r\nDELETE /v1/policies/tollgate HTTP/1.1", "acme\nX-Auth-User: root", "acme\x00",
    'acme"}, "decision": true, "x": {"', '"}}', "acme\\", "acme\u2028", "ac\u00e9me", "data.tollgate.decision", "input",
    "{{acme}}", "${acme}", "true || data.x", "",
]  # fmt: skip
NO = {"opa": b'{"result":false}', "authzen": b'{"decision":false}'}
MEMBERS = {"opa": {"input"}, "authzen": {"subject", "action", "resource", "context"}}


def question(name: str) -> dict[str, Any]:
    """The same name wherever a caller or a tenant can bring one."""
    return {
        "subject": {"type": "agent", "id": name, "properties": {"org": name, "roles": [name]}},
        "action": {"name": name},
        "resource": {"type": "tool", "id": name, "properties": {"route": name, "upstream": name}},
        "context": {"listing": False, "arguments": {name: name}, "request": {"id": "0190", "path": name}},
    }


@pytest.mark.parametrize("kind", ["opa", "authzen"])
def test_a_name_is_a_value_in_the_body_and_nowhere_else(kind: str) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def play(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.send(answer(NO[kind], b"Content-Type: application/json"))

    async def story() -> list[Decision]:
        async with asyncio.timeout(30), Server(play) as server:
            engine = make_engine(config.Policy(engine=kind, url=f"http://127.0.0.1:{server.port}", timeout=5.0))
            found = [await settled(engine.decide(AccessRequest(question(name)))) for name in ["plain", *NAMES]]
            await engine.aclose()  # type: ignore[attr-defined]
            return found

    decisions = asyncio.run(story())
    assert [(decision.allow, decision.fault) for decision in decisions] == [(False, False)] * len(decisions)
    assert len(seen) == len(decisions), "each question is one request"
    plain = described(seen[0][0])
    for name, (head, body) in zip(NAMES, seen[1:], strict=True):
        assert described(head) == plain, name
        document = json.loads(body, object_pairs_hook=once)
        assert set(document) == MEMBERS[kind]
        asked = document["input"] if kind == "opa" else document
        for member, value in question(name).items():
            assert asked[member] == value, name


def described(head: bytes) -> list[bytes]:
    """The head without what may differ from one request to the next: its body's length, and its own id."""
    return [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length:", b"x-request-id:"))]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names)
    return dict(pairs)
