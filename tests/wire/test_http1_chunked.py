"""Chunked bodies: the end is known to the byte, wherever the network cuts."""

from __future__ import annotations

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1_chunked import MAX_OVERHEAD_BYTES, Chunked

WHOLE = b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Auth-User: root\r\nConnection: close\r\n\r\n"


def fed(*pieces: bytes) -> tuple[bytes, Chunked]:
    body = Chunked()
    return b"".join(body.feed(piece) for piece in pieces), body


def test_a_body_is_the_same_wherever_it_is_cut_and_its_trailers_are_dropped() -> None:
    for cut in range(1, len(WHOLE)):
        data, body = fed(WHOLE[:cut], WHOLE[cut:])
        assert data == b"hello 0123456789"
        assert body.ended
        assert not body.extra
    data, body = fed(*(bytes([byte]) for byte in WHOLE))
    assert (data, body.ended, body.extra) == (b"hello 0123456789", True, False)


@pytest.mark.parametrize(
    "more", [b"\r\n", b"\n", b"\r", b"x", b"\0", WHOLE, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"]
)
def test_what_follows_the_end_is_told_as_extra(more: bytes) -> None:
    data, body = fed(b"5\r\nhello\r\n0\r\n\r\n" + more)
    assert data == b"hello"
    assert body.ended
    assert body.extra
    for cut in range(1, 15):
        data, body = fed((b"5\r\nhello\r\n0\r\n\r\n" + more)[:cut], (b"5\r\nhello\r\n0\r\n\r\n" + more)[cut:])
        assert (data, body.ended, body.extra) == (b"hello", True, True)


@pytest.mark.parametrize(
    "bad",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_\r\nhello\r\n",
        b"\r\n5\r\nhello",
        b"AXX\r\n",
        b"10000000000000005\r\nhello",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;\0\r\nhello\r\n",
        b"5\rhello",
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\nX: y\0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"hello",
    ],
)
def test_what_is_not_chunked_coding_is_refused(bad: bytes) -> None:
    with pytest.raises(UpstreamFailed) as failure:
        fed(bad)
    assert failure.value.error == "http_response_transfer_coding"
    with pytest.raises(UpstreamFailed):
        fed(*(bytes([byte]) for byte in bad))


def drip(body: Chunked) -> None:
    for _ in range(MAX_OVERHEAD_BYTES):
        body.feed(b"aa")


@pytest.mark.parametrize("start", [b"1;", b"1\r\nx\r\n0\r\nX: "])
def test_extensions_and_trailers_without_end_are_refused_at_their_limit(start: bytes) -> None:
    body = Chunked()
    body.feed(start)
    with pytest.raises(UpstreamFailed):
        drip(body)
