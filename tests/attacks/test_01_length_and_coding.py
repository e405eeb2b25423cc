"""Content-Length beside Transfer-Encoding: one 400, closed, and nothing behind it is ever a request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import BASE, HIDDEN, coding_cases, never_a_request, written
from tests.wire.front_rig import Listener, listening

ROW = 1
CASES = dict(coding_cases())


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("case", CASES)
def test_no_reading_of_the_length_hides_a_request(front: Listener, case: str) -> None:
    never_a_request(front, written(CASES[case]))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE"])
def test_no_method_and_no_version_makes_a_difference(front: Listener, method: bytes, version: bytes) -> None:
    head = method + b" /public HTTP/" + version + b"\r\nHost: gw.example\r\n"
    with front.connect() as wire:
        before = len(front.seen)
        wire.send(head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN)
        answer = wire.read(head=method == b"HEAD")
        assert answer is not None
        assert answer.status == 400
        assert wire.closed()
        assert len(front.seen) == before


def test_the_hidden_request_is_not_found_when_it_comes_later(front: Listener) -> None:
    with front.connect() as wire:
        before = len(front.seen)
        wire.send(BASE + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        answer = wire.read()
        assert answer is not None
        assert answer.status == 400
        wire.send(HIDDEN)
        assert wire.closed()
        assert len(front.seen) == before


def test_a_lone_length_and_a_lone_coding_are_still_served(front: Listener) -> None:
    close = b"Connection: close\r\n"
    assert [a.body for a in front.ask(BASE + close + b"Content-Length: 5\r\n\r\n0\r\n\r\n")] == [b"0\r\n\r\n"]
    assert [a.body for a in front.ask(BASE + close + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")] == [b""]
