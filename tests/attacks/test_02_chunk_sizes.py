"""Malformed chunks: refused, never passed on, whether they come with the head or after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import BASE, HIDDEN, SIZES, never_a_request
from tests.wire.front_rig import Listener, listening

ROW = 2
HEAD = BASE + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = [
    *(size + b"\r\nhello\r\n0\r\n\r\n" for size in SIZES),
    *(b"2\r\nab\r\n" + size + b"\r\nhello\r\n0\r\n\r\n" for size in SIZES), b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"5\r\r\nhello\r\n0\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0x0\r\n\r\n",
    b"5\r\nhello\r\n-0\r\n\r\n", b"5\r\nhello\r\n0 \r\n\r\n", b"fffffffffffffff0\r\n", b"7fffffffffffffff\r\n",
    b"80000000\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("body", BODIES)
def test_a_malformed_chunk_in_the_first_packet_is_no_request(front: Listener, body: bytes) -> None:
    never_a_request(front, HEAD + body + HIDDEN)


@pytest.mark.parametrize("body", BODIES)
def test_a_malformed_chunk_in_a_later_packet_is_never_a_whole_body(front: Listener, body: bytes) -> None:
    before = len(front.seen)
    with front.connect() as wire:
        wire.send(HEAD)
        front.until(lambda: len(front.seen) == before + 1)
        for at in range(len(body)):
            wire.send(body[at : at + 1])
            front.call(lambda: None)
        wire.send(HIDDEN)
        answers = wire.all()
    assert [answer.status in (400, 413) for answer in answers] == [True]
    assert [seen.ended for seen in front.seen[before:]] == ["refused"]


def test_a_good_chunked_body_with_an_extension_is_still_served(front: Listener) -> None:
    raw = BASE + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"
    assert [answer.body for answer in front.ask(raw)] == [b"hello"]
