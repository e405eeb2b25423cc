"""Depth and size bombs are refused in time that grows with their size, and no recursion escapes."""

from __future__ import annotations

import time

import pytest

from gateway.protocols.mcp import Mcp
from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import call, dump, exchange

ROW = 26

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":%s}}}'


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        CALL % (b"[" * 100_000),
        CALL % (b"[" * 100_000 + b"]" * 100_000),
        CALL % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        CALL % (b"[" * 62 + b"]" * 62),
        b"[{" * 50_000,
    ],
)
def test_a_body_that_is_too_deep_is_refused(body: bytes) -> None:
    gate = Gate()
    reply = gate.legacy(body)
    assert (reply.status, reply.reason) == (400, "malformed")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


def test_the_deepest_allowed_body_passes() -> None:
    gate = Gate()
    assert gate.legacy(CALL % (b"[" * 61 + b"]" * 61)).status == 200


def test_refusing_a_bomb_costs_less_than_reading_an_honest_body_of_its_size() -> None:
    def spent(body: bytes) -> float:
        best = 1e9
        for _ in range(5):
            opened = exchange(Mcp(), body)
            started = time.process_time()
            opened.protocol.classify(opened)
            best = min(best, time.process_time() - started)
        return best

    honest = dump(call("tools/call", {"name": "a", "arguments": {"x": [{"n": number} for number in range(11_000)]}}))
    assert spent(b"[" * len(honest)) < spent(honest)
    assert spent(CALL % (b"[" * len(honest))) < spent(honest)
