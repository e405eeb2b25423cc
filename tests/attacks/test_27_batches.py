"""A batch would be one decision for many calls: in every wrapping it is one refusal, one record, and nothing leaves."""

from __future__ import annotations

import pytest

from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import call, dump

ROW = 27

CALL = call("tools/call", {"name": "a"})
BATCH = dump([CALL])


@pytest.mark.parametrize(
    "body",
    [
        BATCH,
        dump([CALL, call("tools/call", {"name": "b"}, 2)]),
        dump([[CALL]]),
        dump([]),
        b" \r\n\t" + BATCH,
        b"\xef\xbb\xbf" + BATCH,
        b"\xef\xbb\xbf \n" + BATCH,
        BATCH[:-1],
        dump([{"jsonrpc": "2.0", "method": "notifications/initialized"}]),
        dump([{"jsonrpc": "2.0", "id": 1, "result": {}}]),
    ],
)
def test_a_batch_is_an_invalid_request_once(body: bytes) -> None:
    for era in ("2025-03-26", "2025-11-25", "2026-07-28"):
        gate = Gate()
        reply = gate.raw(body, [("content-type", "application/json"), ("mcp-protocol-version", era)])
        assert (reply.status, reply.code, reply.json["id"]) == (400, -32600, None)
        assert gate.upstream.sent == []
        assert gate.kinds == ["refusal"]


@pytest.mark.parametrize(
    ("content_type", "status", "code"), [("text/event-stream", 415, -32600), ("application/json", 400, -32700)]
)
def test_a_batch_framed_as_an_event_is_refused(content_type: str, status: int, code: int) -> None:
    gate = Gate()
    reply = gate.raw(b"data: " + BATCH + b"\n\n", [("content-type", content_type)])
    assert (reply.status, reply.code) == (status, code)
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]
