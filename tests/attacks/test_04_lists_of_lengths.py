"""Lengths that stand twice or in a list, codings other than one `chunked`, and chunked in HTTP/1.0."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import CODINGS, HIDDEN, never_a_request
from tests.wire.front_rig import Listener, listening

ROW = 4


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("values", [(b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b""), (b"5", b"05")])
@pytest.mark.parametrize("between", [b"", b"X: y\r\n", b"Content-Type: text/plain\r\n"])
@pytest.mark.parametrize("spelling", [b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
def test_a_second_length_is_refused_even_when_it_agrees(
    front: Listener, values: tuple[bytes, bytes], between: bytes, spelling: bytes
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + values[0] + b"\r\n" + between
    never_a_request(front, head + spelling + b": " + values[1] + b"\r\n\r\nhello" + HIDDEN)


@pytest.mark.parametrize("coding", CODINGS)
def test_no_coding_at_all_is_taken_from_http_1_0(front: Listener, coding: bytes) -> None:
    head = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: " + coding
    never_a_request(front, head + b"\r\n\r\n0\r\n\r\n" + HIDDEN)
