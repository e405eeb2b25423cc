"""TLS connections before their handshake is over: they count for their peer, and nobody locks anybody out with them."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.wire.server import server_tls
from tests.wire.certificates import Authority
from tests.wire.front_rig import HOST, Listener, Wire, listening, request

CLOSE = b"Connection: close"
HELLO = b"\x16\x03\x01\x02\x00\x01"  # the beginning of a ClientHello


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@contextmanager
def front_of(authority: Authority, **limits: Any) -> Iterator[Listener]:
    cert, key = authority.issue("localhost")
    with listening(tls=server_tls(str(cert), str(key)), **limits) as found:
        yield found


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.ca))


def inside(front: Listener, count: int) -> None:
    front.until(lambda: len(front.front.door.inside) == count)


def served(front: Listener, authority: Authority) -> bool:
    with front.connect(trusting(authority)) as good:
        good.send(request(b"GET", b"/", CLOSE))
        return [answer.status for answer in good.all()] == [200]


def test_silent_handshakes_give_way_to_newer_ones_of_their_peer(authority: Authority) -> None:
    with front_of(authority, half_open_per_peer=3) as front:
        wires: list[Wire] = []
        for number in range(3):
            wires.append(front.connect())
            wires[-1].send(HELLO[: number * 3])
            inside(front, number + 1)
        assert served(front, authority)
        assert wires[0].closed()
        assert front.bad == [("127.0.0.1", "half_open")]
        for _ in range(5):
            wires.append(front.connect())
        front.until(lambda: front.front.door.half_open() <= 3 and len(front.bad) >= 5)
        inside(front, 3)


def test_one_peers_handshakes_do_not_touch_anothers(authority: Authority) -> None:
    with front_of(authority, half_open_per_peer=2) as front:
        slow = socket.create_connection((HOST, front.front.port), source_address=("127.0.0.2", 0))
        slow.settimeout(10)
        inside(front, 1)
        for _ in range(6):
            front.connect()
        front.until(lambda: len(front.bad) == 4)
        with trusting(authority).wrap_socket(slow, server_hostname="localhost") as late:
            late.sendall(request(b"GET", b"/", CLOSE))
            assert late.recv(100).startswith(b"HTTP/1.1 200")


def test_a_handshake_and_the_head_behind_it_are_one_place(authority: Authority) -> None:
    with front_of(authority, half_open_per_peer=2) as front:
        wires = [front.connect(trusting(authority)) for _ in range(2)]
        inside(front, 2)
        assert front.front.door.half_open() == 2
        assert front.bad == []
        for wire in wires:
            wire.send(request())
            assert wire.read()
        assert front.front.door.half_open() == 0
        assert served(front, authority)


def test_handshakes_count_among_all_connections(authority: Authority) -> None:
    with front_of(authority, connections=3) as front:
        for number in range(3):
            front.connect()
            inside(front, number + 1)
        assert front.connect().closed(), "without TLS nothing can be said"
        assert front.bad == [("127.0.0.1", "connections")]
        inside(front, 3)


def test_a_full_listener_takes_a_newcomer_for_an_idle_connection_and_counts_it_once(authority: Authority) -> None:
    with front_of(authority, connections=1) as front:
        first = front.connect(trusting(authority))
        first.send(request())
        assert first.read()
        assert served(front, authority)
        assert first.closed()


def test_a_handshake_that_is_late_or_fails_is_dropped_and_told(authority: Authority) -> None:
    with front_of(authority, head_timeout=0.5) as front:
        silent = front.connect()
        assert silent.closed()
        garbage = front.connect()
        garbage.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while garbage._more():
            pass
        assert not garbage.rest.startswith(b"HTTP")
        front.until(lambda: len(front.bad) == 2)
        assert front.bad == [("127.0.0.1", "tls.late"), ("127.0.0.1", "tls.handshake")]
        assert front.seen == []
        inside(front, 0)


def test_a_listener_without_descriptors_goes_on_when_there_are_some(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with front_of(authority) as front:
        waits = socket.socket()
        waits.settimeout(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            waits.connect((HOST, front.front.port))
            front.until(lambda: "a connection cannot be accepted" in caplog.text)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with trusting(authority).wrap_socket(waits, server_hostname="localhost") as late:
            late.sendall(request(b"GET", b"/", CLOSE))
            assert late.recv(100).startswith(b"HTTP/1.1 200")
