"""Deadlines and caps: who is late or too many is closed, nobody else notices. Time stands still until it is moved."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any

import pytest

from tests.wire.front_rig import App, Listener, RealClock, StillClock, Wire, listening, request

CLOSE = b"Connection: close"


def still(app: App | None = None, **limits: Any) -> Any:
    return listening(app, clock=StillClock(), **limits)


def gated(entered: list[int]) -> tuple[App, list[asyncio.Event]]:
    """An application that waits at a gate before it answers, and reads nothing."""
    gates: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.append(1)
        gate = asyncio.Event()
        gates.append(gate)
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return app, gates


def inside(front: Listener, count: int) -> None:
    front.until(lambda: len(front.front.door.inside) == count)


# deadlines


def test_a_connection_that_never_says_a_word_is_closed() -> None:
    with still(head_timeout=10) as front, front.connect() as wire:
        inside(front, 1)
        front.move(9.9)
        inside(front, 1)
        front.move(0.2)
        assert wire.closed()
        assert front.bad == []


def test_a_head_that_does_not_end_is_a_408() -> None:
    with still(head_timeout=10) as front, front.connect() as wire:
        inside(front, 1)
        front.move(8)
        wire.send(b"GET / HTTP/1.1\r\n")
        front.until(lambda: all(guest.pending for guest in front.front.door.inside))
        front.move(9)
        for number in range(3):  # more of it gives no more time
            wire.send(b"X-%d: y\r\n" % number)
            front.call(lambda: None)
        front.move(1.1)
        answer = wire.read()
        assert answer is not None
        assert (answer.status, json.loads(answer.body)["reason"]) == (408, "client_timeout")
        assert wire.closed()
        assert front.bad == [("127.0.0.1", "head.late")]
        assert front.seen == []


def test_a_second_head_has_its_own_deadline() -> None:
    with still(head_timeout=10, keepalive=75) as front, front.connect() as wire:
        wire.send(request() + b"GET / HT")
        assert wire.read()
        front.move(9.9)
        inside(front, 1)
        front.move(0.2)
        answer = wire.read()
        assert answer is not None
        assert answer.status == 408


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with still(keepalive=75) as front, front.connect() as wire:
        for _ in range(2):
            wire.send(request())
            assert wire.read()
            front.move(74)
        front.move(2)
        assert wire.closed()


def test_an_application_has_all_the_time_it_needs() -> None:
    entered: list[int] = []
    app, gates = gated(entered)
    with still(app) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: 2", body=b"ok"))
        front.until(lambda: bool(gates))
        front.move(100_000)
        front.call(lambda: gates[0].set())
        answer = wire.read()
        assert answer is not None
        assert answer.status == 200


def test_a_body_that_stops_is_a_408_and_the_application_is_told() -> None:
    with still(body_timeout=60) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: 10", body=b"abc"))
        front.until(lambda: bool(front.seen and front.seen[0].body))
        front.move(59)
        front.call(lambda: None)
        assert front.seen[0].ended == ""
        front.move(2)
        answer = wire.read()
        assert answer is not None
        assert (answer.status, answer.values(b"connection")) == (408, [b"close"])
        assert (front.seen[0].ended, front.seen[0].body) == ("refused", b"abc")
        assert wire.closed()


def test_a_body_that_drips_is_no_better_than_one_that_stops() -> None:
    with still(body_timeout=60) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: 1000"))
        front.until(lambda: bool(front.seen))
        for number in range(61):
            wire.send(b"x")
            front.until(lambda: len(front.seen[0].body) > number)  # noqa: B023 (called before the next number)
            front.move(1)
            if front.seen[0].ended:
                break
        answer = wire.read()
        assert answer is not None
        assert answer.status == 408
        assert len(front.seen[0].body) < 62


def test_a_large_body_that_keeps_coming_has_longer() -> None:
    piece = b"x" * 20_000
    with still(body_timeout=60) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: %d" % (100 * len(piece)), CLOSE))
        for number in range(100):
            wire.send(piece)
            front.until(lambda: bool(front.seen) and len(front.seen[0].body) == len(piece) * (number + 1))  # noqa: B023
            front.move(2)
        answer = wire.read()
        assert answer is not None
        assert answer.status == 200


def test_a_client_is_not_late_while_it_is_we_who_do_not_read() -> None:
    entered: list[int] = []
    app, gates = gated(entered)
    with still(app, body_timeout=60) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: 1000000", body=b"x" * 500_000))
        front.until(lambda: bool(gates))
        [connection] = front.front.door.inside
        front.until(lambda: connection.flow.read_paused)
        for _ in range(5):
            front.move(70)
        front.call(lambda: gates[0].set())
        assert wire.read()
        wire.send(b"x" * 500_000 + request())
        front.until(lambda: len(gates) == 2)
        front.call(lambda: gates[1].set())
        assert wire.read()


def test_a_client_is_not_late_while_it_waits_for_its_100() -> None:
    entered: list[int] = []
    app, gates = gated(entered)
    with still(app, body_timeout=60) as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 10"))
        front.until(lambda: bool(gates))
        front.move(61)
        front.move(61)
        front.call(lambda: gates[0].set())
        answer = wire.read()
        assert answer is not None
        assert answer.status == 200


def test_a_refused_connection_does_not_stay() -> None:
    with still() as front, front.connect() as wire:
        wire.send(b"\x00")
        assert wire.read()
        inside(front, 1)
        wire.send(b"x" * 1000)
        front.move(1.9)
        inside(front, 1)
        front.move(0.2)
        inside(front, 0)


async def endless(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 30_000, "more_body": True})


def test_a_reader_that_stops_is_dropped_and_its_exchange_ends() -> None:
    with still(endless, body_timeout=60) as front, front.connect() as wire:
        wire.send(request())
        front.until(lambda: any(guest.flow.write_paused for guest in front.front.door.inside))
        front.move(59)
        assert front.front.exchanges == 1
        front.move(2)
        front.until(lambda: front.front.exchanges == 0)
        inside(front, 0)


def test_a_slow_reader_that_keeps_reading_is_not_dropped() -> None:
    with still(endless, body_timeout=60) as front, front.narrow() as wire:
        wire.send(request())
        front.until(lambda: any(guest.flow.write_paused for guest in front.front.door.inside))
        [connection] = front.front.door.inside
        for _ in range(4):
            _take(wire, 300_000)
            front.until(lambda: connection.flow.write_paused)
            front.move(50)
        assert front.front.exchanges == 1


def test_a_reader_of_one_large_answer_must_only_keep_reading() -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3000000")]})
        await send({"type": "http.response.body", "body": b"x" * 3_000_000})

    with still(large, body_timeout=60) as front, front.narrow() as wire:
        wire.send(request())
        front.until(lambda: any(guest.flow.write_paused for guest in front.front.door.inside))
        for _ in range(3):
            _take(wire, 200_000)
            front.move(61)
            inside(front, 1)
        front.move(61)
        inside(front, 0)


def _take(wire: Wire, count: int) -> None:
    while count > 0:
        count -= len(wire.sock.recv(min(count, 65536)))


def test_an_answer_that_nobody_reads_does_not_keep_a_closing_connection() -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    with still(large, body_timeout=60) as front, front.connect() as wire:
        wire.send(request())
        front.until(lambda: any(guest.transport.is_closing() for guest in front.front.door.inside))
        inside(front, 1)
        front.move(61)
        inside(front, 0)


def test_neither_does_one_that_is_small_enough_to_wait_in_the_buffer() -> None:
    async def small(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"x" * 60_000})

    with still(small, body_timeout=60) as front, front.narrow() as wire:
        wire.send(request())
        front.until(lambda: any(guest.transport.is_closing() for guest in front.front.door.inside))
        [connection] = front.front.door.inside
        assert not connection.flow.write_paused
        assert front.call(connection.transport.get_write_buffer_size) > 0
        front.move(61)
        inside(front, 0)


def test_a_fault_while_sweeping_ends_one_connection_and_not_the_sweeping() -> None:
    with still(head_timeout=10) as front, front.connect() as bad, front.connect() as good:
        inside(front, 2)
        first = next(iter(front.front.door.inside))
        front.call(lambda: setattr(first, "read_expired", None))
        front.move(11)
        inside(front, 0)
        assert bad.closed()
        assert good.closed()


def test_the_sweep_runs_by_itself_and_rests_when_nobody_is_there() -> None:
    with listening(clock=RealClock(), head_timeout=0.2) as front:
        with front.connect() as wire:
            assert wire.closed()
        front.until(lambda: front.front.door._timer is None)


# caps


def test_the_oldest_silent_connection_of_a_peer_gives_way_to_its_newest() -> None:
    with still(half_open_per_peer=5) as front:
        wires: list[Wire] = []
        for number in range(5):
            wires.append(front.connect())
            inside(front, number + 1)
        wires[0].send(b"GET / HT")
        with front.connect() as good:
            good.send(request(b"GET", b"/", CLOSE))
            assert [answer.status for answer in good.all()] == [200]
        assert wires[0].closed()
        inside(front, 4)
        assert front.bad == [("127.0.0.1", "half_open")]
        for wire in wires:
            wire.sock.close()


def test_one_peers_silent_connections_do_not_touch_another_peers() -> None:
    with still(half_open_per_peer=3) as front:
        with front.connect(source="127.0.0.2") as other:
            inside(front, 1)
            wires = [front.connect() for _ in range(10)]
            front.until(lambda: len(front.bad) == 7)
            other.send(request(b"GET", b"/", CLOSE))
            assert [answer.status for answer in other.all()] == [200]
        for wire in wires:
            wire.sock.close()


def test_a_served_connection_is_not_half_open_until_it_begins_another_head() -> None:
    with still(half_open_per_peer=2) as front:
        wires = [front.connect() for _ in range(1)]
        for _ in range(5):
            wire = front.connect()
            wire.send(request())
            assert wire.read()
            wires.append(wire)
        assert front.bad == []
        assert front.front.door.half_open() == 1
        for number, wire in enumerate(wires[1:]):
            wire.send(b"GET / H")
            front.until(lambda: len(front.bad) == max(0, number))  # noqa: B023 (called before the next number)
        for wire in wires:
            wire.sock.close()


def test_a_trusted_proxys_connections_are_not_one_peers() -> None:
    with still(half_open_per_peer=2, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),)) as front:
        wires = [front.connect() for _ in range(6)]
        inside(front, 6)
        assert front.bad == []
        wires[0].send(request(b"GET", b"/", b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https", CLOSE))
        assert wires[0].read()
        assert (front.seen[0].head.peer, front.seen[0].head.scheme) == ("203.0.113.9", "https")
        assert (front.seen[0].scope["client"], front.seen[0].scope["scheme"]) == (("203.0.113.9", 0), "https")
        for wire in wires:
            wire.sock.close()


def test_beyond_the_cap_on_connections_the_longest_idle_one_gives_way() -> None:
    with still(connections=3) as front:
        wires = [front.connect() for _ in range(3)]
        for wire in wires:
            wire.send(request())
            assert wire.read()
        with front.connect() as newcomer:
            newcomer.send(request())
            assert newcomer.read()
            assert wires[0].closed()
            for wire in wires[1:]:
                wire.send(request())
                assert wire.read()
        for wire in wires:
            wire.sock.close()


def test_beyond_the_cap_with_nobody_idle_a_newcomer_is_told_503() -> None:
    app, gates = gated([])
    with still(app, connections=3) as front:
        wires = [front.connect() for _ in range(3)]
        for wire in wires:
            wire.send(request())
        front.until(lambda: len(gates) == 3)
        answer = front.refused(request())
        assert (answer.status, json.loads(answer.body)["reason"], answer.values(b"retry-after")) == (
            503,
            "overloaded",
            [b"1"],
        )
        front.call(lambda: [gate.set() for gate in gates])
        for wire in wires:
            assert wire.read()
        inside(front, 3)
        for wire in wires:
            wire.sock.close()


def test_far_beyond_the_cap_nothing_is_said_at_all() -> None:
    app, gates = gated([])
    with still(app, connections=1) as front, front.connect() as first:
        first.send(request())
        front.until(lambda: len(gates) == 1)
        wires = [front.connect() for _ in range(80)]
        front.until(lambda: len(front.bad) == 80)
        assert len(front.front.door.inside) <= 66
        front.call(lambda: gates[0].set())
        assert first.read()
        for wire in wires:
            wire.sock.close()


def test_more_exchanges_than_the_cap_are_told_503_and_the_others_go_on() -> None:
    app, gates = gated([])
    with still(app, exchanges=2) as front:
        wires = [front.connect() for _ in range(2)]
        for wire in wires:
            wire.send(request())
        front.until(lambda: len(gates) == 2)
        answer = front.refused(request(b"POST", b"/", b"Content-Length: 3", body=b"abc"))
        assert (answer.status, json.loads(answer.body)["retry_after"]) == (503, 1)
        front.call(lambda: [gate.set() for gate in gates])
        for wire in wires:
            assert wire.read()
            wire.sock.close()
        front.until(lambda: front.front.exchanges == 0)
        with front.connect() as wire:
            wire.send(request())
            front.until(lambda: len(gates) == 3)
            front.call(lambda: gates[2].set())
            assert wire.read()


def test_a_head_that_is_given_up_is_counted_and_one_never_begun_is_not() -> None:
    with still() as front:
        with front.connect():
            inside(front, 1)
        inside(front, 0)
        with front.connect() as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost:")
            front.until(lambda: any(guest.pending for guest in front.front.door.inside))
        front.until(lambda: front.bad == [("127.0.0.1", "head.incomplete")])


@pytest.mark.parametrize("limits", [{}, {"head_timeout": 1.0}])
def test_the_sweep_is_coarse_but_never_coarser_than_a_limit(limits: dict[str, float]) -> None:
    with listening(**limits) as front:
        assert front.front.door.sweep_every == (0.25 if limits else 0.5)
