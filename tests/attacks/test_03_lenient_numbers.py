"""What int() would take and HTTP does not: lengths and sizes with signs, prefixes, marks, other digits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import BASE, HIDDEN, length_cases, never_a_request
from tests.wire.front_rig import Listener, listening

ROW = 3
CASES = dict(length_cases())


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("case", CASES)
def test_no_wrong_number_is_a_length(front: Listener, case: str) -> None:
    never_a_request(front, BASE + CASES[case] + b"\r\n\r\nhello" + HIDDEN)


@pytest.mark.parametrize("size", [b"+5", b"-5", b"0x5", b"1_0", b"", b" 5", b"5 "])
def test_no_wrong_number_is_a_chunk_size(front: Listener, size: bytes) -> None:
    never_a_request(front, BASE + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN)


@pytest.mark.parametrize("number", [b"5", b"05", b"000000000000000005", b" 5", b"5 ", b"\t5\t"])
def test_a_plain_number_is_still_a_length(front: Listener, number: bytes) -> None:
    raw = BASE + b"Connection: close\r\nContent-Length:" + number + b"\r\n\r\nhello"
    assert [answer.body for answer in front.ask(raw)] == [b"hello"]
