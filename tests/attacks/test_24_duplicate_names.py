"""A member that occurs twice means one thing to policy and another to the upstream: the message is refused."""

from __future__ import annotations

import pytest

from tests.attacks.mcp_gate import Gate

ROW = 24

DUPLICATES = [
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"a"}}',
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","name":"evil"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","na\\u006de":"evil"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","\\u006e\\u0061me":"evil"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"p":"/ok","p":"/etc"}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[{"y":{"z":1,"z":2}}]}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"k":1,"k":2}}}',
]
# For a reader that ignores case these are duplicates as well, or the member that policy did not see.
LOOKALIKES = [
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"PARAMS":{"name":"b"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","Name":"evil"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Arguments":{"p":"/etc"}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argument\xc5\xbf":{"p":"/etc"}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}}',
]


@pytest.mark.parametrize("body", DUPLICATES + LOOKALIKES)
def test_a_member_that_occurs_twice_in_any_spelling_is_refused_and_recorded(body: bytes) -> None:
    gate = Gate()
    reply = gate.legacy(body)
    assert (reply.status, reply.reason) == (400, "malformed")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


def test_the_same_name_in_two_objects_is_no_duplicate() -> None:
    gate = Gate()
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":{"name":"x"}}}}'
    assert gate.legacy(body).status == 200
    assert [sent[2] for sent in gate.upstream.sent] == [body]
