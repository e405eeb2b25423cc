"""Connection names hop-by-hop headers, and only those: what identity, routing and policy read cannot be taken away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 9
COUNTING = [
    b"Host", b"Authorization", b"Cookie", b"X-Api-Key", b"Api-Key", b"Content-Type", b"Content-Length",
    b"Transfer-Encoding", b"Content-Encoding", b"Origin", b"Mcp-Session-Id", b"Mcp-Method", b"Mcp-Name",
    b"MCP-Protocol-Version", b"A2A-Version", b"X-Forwarded-For", b"Forwarded", b"Traceparent", b"X-Request-Id",
    b"Sec-WebSocket-Key", b"Last-Event-ID", b"Signature", b"DPoP", b"Via", b"If-Match",
]  # fmt: skip


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("name", COUNTING)
@pytest.mark.parametrize("form", [b"%b", b"close, %b", b"%b, close", b"keep-alive,%b", b" , %b ,", b"\t%b"])
def test_a_header_that_counts_cannot_be_named(front: Listener, name: bytes, form: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert front.refused(request(b"POST", b"/", b"Connection: " + form % spelling)).status == 400


def test_naming_it_in_a_second_line_does_not_help(front: Listener) -> None:
    assert front.refused(request(b"GET", b"/", b"Connection: close", b"connection: authorization")).status == 400


def test_a_callers_own_header_goes_away_with_the_hop(front: Listener) -> None:
    front.ask(request(b"GET", b"/", b"X-Auth-User: me", b"X-B: 1", b"Connection: X-Auth-User, close"))
    assert front.seen[-1].head.headers == ((b"host", b"gw.example"), (b"x-b", b"1"))
