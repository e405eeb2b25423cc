"""HTTP/2 is not spoken here: its preface, its upgrade and its pseudo-headers are refused or not honoured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 6
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("rest", [b"", SETTINGS, SETTINGS + b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82"])
def test_the_preface_is_a_505_and_nothing_behind_it_is_read(front: Listener, rest: bytes) -> None:
    assert front.refused(PREFACE + rest + request()).status == 505


def test_the_preface_cut_anywhere_is_refused_the_same(front: Listener) -> None:
    for at in range(1, 18):
        with front.connect() as wire:
            wire.send(PREFACE[:at])
            front.call(lambda: None)
            wire.send(PREFACE[at:])
            assert [answer.status for answer in wire.all()] == [505]


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/1.2", b"HTTP/0.9"])
def test_another_version_in_a_request_line_is_refused(front: Listener, version: bytes) -> None:
    assert front.refused(b"GET / " + version + b"\r\nHost: a\r\n\r\n").status in (400, 505)


@pytest.mark.parametrize(
    "upgrade", [b"h2c", b"H2C", b"h2", b"h2c, websocket", b"websocket, h2c", b"HTTP/2.0", b"TLS/1.0"]
)
def test_an_upgrade_is_neither_honoured_nor_forwarded(front: Listener, upgrade: bytes) -> None:
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABkAAQAAP__")
    with front.connect() as wire:
        wire.send(request(b"GET", b"/", *lines))
        answer = wire.read()
        assert answer is not None
        assert answer.status == 200
        assert answer.values(b"upgrade") == []
        assert front.seen[-1].head.headers == ((b"host", b"gw.example"),)
        wire.send(PREFACE + SETTINGS)
        answer = wire.read()
        assert answer is not None
        assert answer.status == 505
        assert wire.closed()


@pytest.mark.parametrize("line", [b":path: /admin", b":method: GET", b":authority: evil", b":: x", b":"])
def test_a_pseudo_header_is_a_malformed_line(front: Listener, line: bytes) -> None:
    assert front.refused(request(b"GET", b"/", line)).status == 400
