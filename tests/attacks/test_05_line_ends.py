"""Bare LF, bare CR, NUL and their like at every place of a head; folded lines; spaces where none may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import HIDDEN, never_a_request
from tests.wire.front_rig import Listener, listening

ROW = 5
HEAD = b"POST /a?b=c HTTP/1.1\r\nHost: gw.example\r\nX-A: value one\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("mark", [b"\n", b"\r", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x1b", b"\x08", b"\xff"])
@pytest.mark.parametrize("at", range(1, len(HEAD) - 3))
def test_a_control_byte_anywhere_in_a_head_is_a_400(front: Listener, mark: bytes, at: int) -> None:
    never_a_request(front, HEAD[:at] + mark + HEAD[at:] + b"hello" + HIDDEN)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\x0b", b"\x85", b"\xe2\x80\xa8"])
@pytest.mark.parametrize("number", range(4))
def test_a_line_ends_with_cr_lf_and_nothing_else(front: Listener, end: bytes, number: int) -> None:
    lines = HEAD.split(b"\r\n")[:-2]
    raw = b""
    for index, line in enumerate(lines):
        raw += line + (end if index == number else b"\r\n")
    never_a_request(front, raw + b"\r\nhello" + HIDDEN)


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t", b"\r\n  \t "])
@pytest.mark.parametrize("name", [b"X-A", b"Host", b"Transfer-Encoding", b"Authorization", b"Content-Length"])
def test_a_folded_line_is_a_400(front: Listener, fold: bytes, name: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + name + b": one" + fold + b"X-Auth-User: root\r\n\r\n"
    never_a_request(front, head + HIDDEN)
    never_a_request(front, b"POST / HTTP/1.1\r\n" + fold[2:] + b"Host: a\r\n\r\n" + HIDDEN)


@pytest.mark.parametrize("space", [b" ", b"\t", b"  ", b"\x0b", b"\xa0"])
def test_a_space_before_the_colon_is_a_400(front: Listener, space: bytes) -> None:
    for name in (b"X-A", b"Host", b"Content-Length", b"Transfer-Encoding"):
        never_a_request(front, b"POST / HTTP/1.1\r\nHost: a\r\n" + name + space + b": 1\r\n\r\n" + HIDDEN)


def test_a_header_hidden_in_a_value_reaches_nobody(front: Listener) -> None:
    for mark in (b"\n", b"\r", b"\x00\n", b"\r\r\n"):
        never_a_request(front, b"GET / HTTP/1.1\r\nHost: a\r\nX: a" + mark + b"X-Auth-User: root\r\n\r\n")
