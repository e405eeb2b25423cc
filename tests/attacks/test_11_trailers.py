"""What stands in trailers is read to its end and never becomes a header."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_cases import HIDDEN
from tests.wire.front_rig import Listener, listening, request

ROW = 11
CHUNKED = (b"Transfer-Encoding: chunked", b"Trailer: X-Auth-User")


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    "trailer",
    [
        b"X-Auth-User: root", b"Host: evil", b"Authorization: Bearer x", b"Content-Length: 100",
        b"Transfer-Encoding: chunked", b"Connection: close", b"Content-Type: text/html", b"Cookie: a=b",
        b"Mcp-Session-Id: x", b"X_Auth_User: root",
    ],
)  # fmt: skip
def test_a_trailer_is_dropped_and_changes_nothing(front: Listener, trailer: bytes) -> None:
    with front.connect() as wire:
        wire.send(
            request(b"POST", b"/", *CHUNKED, body=b"2\r\nok\r\n0\r\n" + trailer + b"\r\n\r\n")
            + request(b"GET", b"/next")
        )
        first, second = wire.read(), wire.read()
    assert first is not None
    assert second is not None
    assert (first.body, second.status) == (b"ok", 200)
    assert [seen.head.headers for seen in front.seen[-2:]] == [((b"host", b"gw.example"),)] * 2
    assert front.seen[-1].head.path == "/next"


@pytest.mark.parametrize(
    "trailer", [b"X : y", b"X", b" X: y", b"X: y\n", b"X: y\x00", b"\nX: y", b"X: y\r\n folded", b": y"]
)
def test_a_malformed_trailer_is_refused(front: Listener, trailer: bytes) -> None:
    body = b"2\r\nok\r\n0\r\n" + trailer + b"\r\n\r\n"
    assert front.refused(request(b"POST", b"/", *CHUNKED, body=body) + HIDDEN).status == 400


def test_trailers_without_end_are_refused(front: Listener) -> None:
    body = b"0\r\n" + b"X: y\r\n" * 3000
    assert front.refused(request(b"POST", b"/", *CHUNKED, body=body)).status == 431
