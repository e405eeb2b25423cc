"""A body belongs to its request whatever the method; Expect and Upgrade cannot move where it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import HIDDEN
from tests.wire.front_rig import Listener, listening, request

ROW = 23


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST"])
def test_a_body_is_read_as_a_body_for_every_method(front: Listener, method: bytes) -> None:
    before = len(front.seen)
    with front.connect() as wire:
        wire.send(request(method, b"/", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN) + request(b"GET", b"/next"))
        assert wire.read(head=method == b"HEAD")
        assert wire.read()
    assert [(seen.head.path, seen.body) for seen in front.seen[before:]] == [("/", HIDDEN), ("/next", b"")]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_without_a_length_there_is_no_body(front: Listener, method: bytes) -> None:
    before = len(front.seen)
    with front.connect() as wire:
        wire.send(request(method, b"/") + HIDDEN)
        assert wire.read()
        assert wire.read()
    assert [seen.head.path for seen in front.seen[before:]] == [
        "/",
        "/hidden",
    ]  # plainly two requests, for every reader


@pytest.mark.parametrize(
    "lines", [(b"Content-Length: 0",), (b"Expect: 100-continue", b"Content-Length: 0"), (b"Expect: 100-continue",)]
)
def test_a_zero_length_ends_the_request(front: Listener, lines: tuple[bytes, ...]) -> None:
    with front.connect() as wire:
        wire.send(request(b"POST", b"/", *lines) + request(b"GET", b"/next"))
        first, second = wire.read(), wire.read()  # no 100: no body is expected
        assert first is not None
        assert second is not None
        assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize(
    "value", [b"100-Continue-x", b"y 100-continue", b"100-continue, 100-continue", b"x", b"", b"\xc2\xa0100-continue"]
)
def test_an_unknown_expectation_ends_the_connection(front: Listener, value: bytes) -> None:
    assert front.refused(
        request(b"POST", b"/", b"Expect: " + value, b"Content-Length: 5", body=b"hello") + HIDDEN
    ).status in (400, 417)


def test_a_body_that_did_not_wait_for_its_100_is_still_a_body(front: Listener) -> None:
    before = len(front.seen)
    with front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN))
        while b"\r\n\r\n" not in wire.rest or wire.rest.startswith(b"HTTP/1.1 100"):
            if wire.rest.startswith(b"HTTP/1.1 100"):
                wire.interim()
            else:
                assert wire._more()
        answer = wire.read()
    assert answer is not None
    assert answer.body == HIDDEN
    assert [seen.head.path for seen in front.seen[before:]] == ["/"]


@pytest.mark.parametrize("protocol", [b"h2c", b"h2", b"TLS/1.2", b"HTTP/2.0", b"h2c, websocket"])
def test_an_upgrade_with_a_body_hides_nothing(front: Listener, protocol: bytes) -> None:
    before = len(front.seen)
    lines = (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: " + protocol,
        b"HTTP2-Settings: AAMAAABk",
        b"Content-Length: %d" % len(HIDDEN),
    )
    with front.connect() as wire:
        wire.send(request(b"POST", b"/", *lines, body=HIDDEN) + request(b"GET", b"/next"))
        assert wire.read()
        assert wire.read()
    assert [(seen.head.path, seen.body) for seen in front.seen[before:]] == [("/", HIDDEN), ("/next", b"")]
    assert front.seen[before].head.first(b"upgrade") is None
    assert front.seen[before].head.first(b"http2-settings") is None


def test_a_websocket_handshake_hides_nothing(front: Listener) -> None:
    lines = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Sec-WebSocket-Version: 13",
    )
    for extra, body in (
        ((), HIDDEN),
        ((b"Content-Length: 5",), b"hello" + HIDDEN),
        ((b"Transfer-Encoding: chunked",), b"0\r\n\r\n" + HIDDEN),
    ):
        assert front.refused(request(b"GET", b"/ws", *lines, *extra, body=body)).status == 400
