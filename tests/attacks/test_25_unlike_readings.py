"""Numbers, texts and encodings that two readers understand differently never reach policy or upstream."""

from __future__ import annotations

import pytest

from tests.attacks.mcp_gate import Gate

ROW = 25

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"amount":%s}}}'
TEXT = (CALL % b"0").decode()

ODD = [
    *(CALL % value for value in (
        b"9007199254740992", b"-9007199254740992", b"123456789012345678901234567890", b"NaN", b"Infinity", b"-Infinity",
        b"1e999", b"0x10", b"1_000", b"010", b"+1", b".5", b"1.", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"',
        b'"\xff"', b'"\xc0\xaf"', b'"\x01"', b"undefined", b"'x'", b"/**/1",
    )),
    CALL.replace(b'"id":1', b'"id":9007199254740993') % b"1",
    b"\xef\xbb\xbf" + CALL % b"1",
    TEXT.encode("utf-16"),
    TEXT.encode("utf-16-le"),
    TEXT.encode("utf-32"),
    TEXT.encode() + b"\x00",
    TEXT.encode() + TEXT.encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", ODD)
def test_a_body_that_is_read_in_two_ways_is_refused_and_recorded(body: bytes) -> None:
    gate = Gate()
    reply = gate.legacy(body)
    assert (reply.status, reply.reason) == (400, "malformed")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


@pytest.mark.parametrize("value", [b"9007199254740991", b"-0", b"1e2", b"0.1", b'"\\ud83d\\ude00"', b'"\xe2\x82\xac"'])
def test_an_unusual_value_that_all_read_alike_passes_byte_for_byte(value: bytes) -> None:
    gate = Gate()
    assert gate.legacy(CALL % value).status == 200
    assert [sent[2] for sent in gate.upstream.sent] == [CALL % value]
