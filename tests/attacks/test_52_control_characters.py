"""No byte that a terminal or a log reader obeys comes through the front in a target, a method or a header."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 52
MARKS = [b"\x1b[31m", b"\x1b]0;x\x07", b"\r\n", b"\n", b"\r", b"\x08", b"\x00", b"\x7f", b"\xc2\x9b31m", b"\xc2\x85",
         b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\x9b", b"\xff"]  # fmt: skip


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("mark", MARKS)
def test_a_raw_control_character_is_refused_everywhere(front: Listener, mark: bytes) -> None:
    for raw in (
        request(b"GET", b"/a" + mark + b"b"),
        request(b"GET", b"/a?" + mark),
        request(b"GE" + mark + b"T", b"/"),
        request(b"GET", b"/", b"User-Agent: a" + mark + b"b"),
        request(b"GET", b"/", b"X-" + mark + b": b"),
        request(b"GET", b"/", host=b"a" + mark + b"b"),
    ):
        if mark == b"\r\n" and b"User-Agent: a" in raw:
            raw = raw.replace(b"\r\nb", b"\r\n b")  # a line of its own would be an honest header
        answer = front.refused(raw)
        assert answer.status == 400
        assert mark.strip() == b"" or mark not in answer.body


@pytest.mark.parametrize("escape", [b"%1b[31m", b"%0a", b"%0d%0a", b"%00", b"%7f", b"%1B%5B"])
def test_an_encoded_control_character_is_no_path(front: Listener, escape: bytes) -> None:
    assert front.refused(request(b"GET", b"/a" + escape)).status == 400


@pytest.mark.parametrize("escape", [b"%e2%80%a8", b"%c2%9b31m", b"%e2%80%ae"])
def test_what_stays_encoded_is_one_printable_line(front: Listener, escape: bytes) -> None:
    front.ask(request(b"GET", b"/a" + escape + b"?b=%1b%0a" + escape, b"Connection: close"))
    head = front.seen[-1].head
    for text in (head.method, head.target, head.path, head.query, head.authority):
        assert text.isascii()
        assert text.isprintable()


def test_what_a_header_may_hold_beyond_ascii_has_no_controls(front: Listener) -> None:
    front.ask(request(b"GET", b"/", "User-Agent: Zürich → 東京 🙂".encode(), b"Connection: close"))
    value = front.seen[-1].head.first(b"user-agent")
    assert value is not None
    assert not any(unicodedata.category(mark) in ("Cc", "Zl", "Zp") for mark in value.decode())
