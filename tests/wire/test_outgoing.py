"""The two parts of an upstream request's head: what is remembered is only what the caller's head and the route say."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Call, Principal
from gateway.core.reasons import UpstreamFailed
from gateway.wire.headers import outgoing, request_headers
from gateway.wire.outgoing import Fixed, Outgoing
from tests.wire.test_upstream_headers import exchange

HOST = (b"host", b"upstream.test")


def test_a_repeated_head_is_encoded_once_and_each_exchange_has_its_own_id() -> None:
    first = exchange([(b"x-b", b"1")])
    second = exchange([])
    second.id, second.head, second.upstream = "exchange-2", first.head, first.upstream
    one, two = outgoing(first), outgoing(second)
    assert one.fixed is two.fixed
    head = two.head("POST", "/a", b"content-length: 0\r\n")
    assert b"x-request-id: exchange-2\r\n" in head
    assert first.id.encode() not in head
    assert head.startswith(b"POST /a HTTP/1.1\r\nhost: ")
    assert two.head("GET", "/b", b"").startswith(b"GET /b HTTP/1.1\r\nhost: ")
    assert list(two) == request_headers(second)


def test_another_upstream_route_or_call_of_the_same_head_gets_headers_of_its_own() -> None:
    first = exchange([(b"cookie", b"a=b"), (b"x-b", b"1"), (b"signature", b"s")])

    def sent(**changed: Any) -> list[tuple[bytes, bytes]]:
        other = exchange([], **changed)
        other.head = first.head
        return list(outgoing(other))

    plain = sent()
    assert (b"cookie", b"a=b") not in plain
    assert (b"cookie", b"a=b") in sent(cookies="pass")
    assert (b"x-b", b"1") not in sent(call=Call("a", "t", "i", drop_headers=frozenset({b"x-b"})))
    assert sent(call=Call("a", "t", "i", headers=((b"x-b", b"2"),))).count((b"x-b", b"2")) == 1
    assert (b"x-b", b"1") not in sent(call=Call("a", "t", "i", headers=((b"x-b", b"2"),)))
    assert sent() == plain
    signer = exchange([])
    signer.head, signer.principal = first.head, Principal("agent:x/y", "agent", proof="thumb")
    assert (b"signature", b"s") not in list(outgoing(signer))
    assert (b"signature", b"s") in sent()


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\n", b"\x00", b"\x7f"])
def test_a_control_byte_in_either_part_is_not_sent(bad: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="control byte"):
        Outgoing(Fixed([HOST]), [(b"x", bad)]).head("GET", "/", b"")
    with pytest.raises(UpstreamFailed, match="control byte"):
        Outgoing(Fixed([HOST, (b"x", bad)]), []).head("GET", "/", b"")


@pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding", b"connection", b"x y", b"x:"])
def test_framing_and_a_second_host_are_nobodys_to_add(name: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        Outgoing(Fixed([HOST]), [(name, b"1")]).head("GET", "/", b"")


def test_without_a_host_nothing_is_sent() -> None:
    with pytest.raises(UpstreamFailed, match="Host"):
        Outgoing(Fixed([]), [(b"x", b"1")]).head("GET", "/", b"")
