"""The pool: reuse, bounds, deadlines, one repeat at most, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client, PoolLimits
from tests.wire.faulty import HOST, Peer, Server, answer, chunks, echo, run, until


async def ask(client: Http1Client, body: bytes = b"x", **options: bool) -> bytes | None:
    return (await client.send("POST", "/", HOST, body, **options)).complete


def held(limits: PoolLimits, server: Server, **times: float) -> Http1Client:
    return Http1Client(server.upstream(**times), None, limits)


class Gate:
    """A server that answers its n-th connection's requests when it is told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[int] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)

    async def play(self, peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            self.asked.put_nowait(peer.number)
            await self.go.acquire()
            await peer.send(answer(body))


def test_the_connection_used_last_is_used_first() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = Http1Client(server.upstream(), None)
            both = [asyncio.create_task(ask(client, b"%d" % number)) for number in range(2)]
            await gate.asked.get()
            await gate.asked.get()
            assert client.in_flight == 2
            for _ in both:
                gate.go.release()
            await asyncio.gather(*both)
            assert client.in_flight == 0
            gate.go.release()
            await ask(client)
            last = await gate.asked.get()
            for _ in range(5):
                gate.go.release()
                await ask(client)
                assert await gate.asked.get() == last
            assert server.connections == 2
            await client.aclose()

    run(story)


def test_no_more_connections_than_allowed_are_open_and_waiters_are_served_in_turn() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = held(PoolLimits(connections=2, waiters=10), server)
            done: list[int] = []

            async def call(number: int) -> None:
                assert await ask(client, b"%d" % number) == b"%d" % number
                done.append(number)

            calls = [asyncio.create_task(call(number)) for number in range(8)]
            for _ in range(8):
                await gate.asked.get()
                gate.go.release()
            await asyncio.gather(*calls)
            assert server.connections == 2
            assert sorted(done) == list(range(8))
            assert done[2:] == sorted(done[2:])
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_waiters_are_bounded_and_wait_no_longer_than_the_connect_deadline() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = held(PoolLimits(connections=1, waiters=1), server, connect=0.1)
            first = asyncio.create_task(ask(client))
            await gate.asked.get()
            second = asyncio.create_task(ask(client))
            await asyncio.sleep(0)
            with pytest.raises(UpstreamFailed) as failure:
                await ask(client)
            assert (failure.value.error, failure.value.timeout) == ("connection_limit_reached", False)
            with pytest.raises(UpstreamFailed) as failure:
                await second
            assert (failure.value.error, failure.value.timeout) == ("connection_limit_reached", True)
            assert not failure.value.sent
            gate.go.release()
            assert await first == b"x"
            await client.aclose()

    run(story)


@pytest.mark.parametrize("promised", ["connection", "place"])
def test_what_was_promised_to_a_waiter_that_is_cancelled_goes_to_the_next(promised: str) -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = held(PoolLimits(connections=1, keepalive=4.0 if promised == "connection" else 0.0), server)
            first = asyncio.create_task(ask(client, b"1"))
            await gate.asked.get()
            second = asyncio.create_task(ask(client, b"2"))
            third = asyncio.create_task(ask(client, b"3"))
            await asyncio.sleep(0)
            gate.go.release()
            gate.go.release()
            assert await first == b"1"  # by now the second was promised something and has not run yet, or is about to
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            gate.go.release()
            assert await third == b"3"
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_a_place_promised_to_a_waiter_that_is_cancelled_in_the_same_moment_goes_to_the_next() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" if peer.number == 1 else answer(b"x"))
            await peer.gone()

        async with Server(play) as server:
            client = held(PoolLimits(connections=1), server)
            first = await client.send("GET", "/", HOST, None)
            second = asyncio.create_task(ask(client, b"2"))
            third = asyncio.create_task(ask(client, b"3"))
            await asyncio.sleep(0)
            first.close()  # frees the place and promises it to the second, which has not run yet
            second.cancel()
            assert await third == b"x"
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_waiters_that_are_cancelled_at_every_moment_leave_the_pool_whole() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            client = held(PoolLimits(connections=2, waiters=100), server)
            for turns in range(30):
                calls = [asyncio.create_task(ask(client, b"%d" % number)) for number in range(8)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert found[1::2] == [b"%d" % number for number in range(1, 8, 2)]
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_an_idle_connection_that_the_upstream_closed_is_not_used() -> None:
    async def story() -> None:
        closed = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(b"%d" % peer.number))
            peer.writer.close()
            closed.set()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            for number in range(1, 6):
                closed.clear()
                assert await ask(client) == b"%d" % number  # POST, not idempotent: it must not meet a dead connection
                await closed.wait()  # the end is on the wire; our loop may not have read it yet
            await client.aclose()

    run(story)


def test_an_idle_connection_is_closed_in_time_and_sooner_where_the_upstream_says_so() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(answer(b"", b"Keep-Alive: timeout=1"))

        async with Server(echo) as server, Server(play) as brief:
            client = held(PoolLimits(keepalive=0.05), server)
            await ask(client)
            assert server.open == 1
            await until(lambda: server.open == 0)
            other = held(PoolLimits(keepalive=60.0), brief)
            await ask(other)  # closes after a second: we would ask just then
            await until(lambda: brief.open == 0)
            await client.aclose()
            await other.aclose()

    run(story)


def test_idle_connections_are_bounded_and_the_oldest_goes() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = held(PoolLimits(idle=2), server)
            calls = [asyncio.create_task(ask(client)) for _ in range(5)]
            for _ in calls:
                await gate.asked.get()
            for _ in calls:
                gate.go.release()
            await asyncio.gather(*calls)
            await until(lambda: server.open == 2)
            await client.aclose()

    run(story)


async def _reused(play_second, *, method: str = "GET", idempotent: bool, body=None):  # type: ignore[no-untyped-def]
    """One good exchange, then `play_second` meets the next on the same connection. The outcome and what was asked."""
    asked: list[int] = []

    async def play(peer: Peer) -> None:
        await peer.request()
        asked.append(peer.number)
        await peer.send(answer(b"%d" % peer.number))
        await peer.request()
        asked.append(peer.number)
        await play_second(peer)

    async with Server(play) as server:
        client = Http1Client(server.upstream(response=0.3), None)
        assert (await client.send("GET", "/", HOST, None)).complete == b"1"
        outcome: object
        try:
            outcome = (await client.send(method, "/", HOST, body, idempotent=idempotent)).complete
        except UpstreamFailed as failure:
            outcome = failure
        await client.aclose()
        return outcome, asked


def test_an_idempotent_call_is_repeated_once_on_a_fresh_connection() -> None:
    async def close(peer: Peer) -> None:
        peer.writer.close()

    async def story() -> None:
        assert await _reused(close, idempotent=True, method="PUT", body=b"b") == (b"2", [1, 1, 2])

    run(story)


def test_what_is_not_idempotent_is_never_repeated() -> None:
    async def close(peer: Peer) -> None:
        peer.reset()

    async def story() -> None:
        failure, asked = await _reused(close, idempotent=False, method="POST", body=b"b")
        assert isinstance(failure, UpstreamFailed)
        assert failure.sent
        assert asked == [1, 1]

    run(story)


@pytest.mark.parametrize("partial", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"junk"])
def test_nothing_is_repeated_once_a_byte_of_the_answer_came(partial: bytes) -> None:
    async def begin(peer: Peer) -> None:
        await peer.send(partial)
        peer.writer.close()

    async def story() -> None:
        failure, asked = await _reused(begin, idempotent=True)
        assert isinstance(failure, UpstreamFailed)
        assert asked == [1, 1]

    run(story)


def test_a_late_answer_and_a_streamed_body_are_not_repeated() -> None:
    async def hang(peer: Peer) -> None:
        await peer.gone()

    async def close(peer: Peer) -> None:
        peer.reset()

    async def story() -> None:
        failure, asked = await _reused(hang, idempotent=True)
        assert isinstance(failure, UpstreamFailed)
        assert failure.timeout
        assert asked == [1, 1]
        failure, asked = await _reused(close, idempotent=True, method="PUT", body=chunks(b"a"))
        assert isinstance(failure, UpstreamFailed)
        assert asked == [1, 1]

    run(story)


def test_a_fresh_connection_that_ends_without_an_answer_is_not_asked_again() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()

        async with Server(play) as server:
            client = Http1Client(server.upstream(), None)
            with pytest.raises(UpstreamFailed) as failure:
                await ask(client, idempotent=True)
            assert failure.value.error == "connection_terminated"
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_a_repeat_finds_room_in_a_full_pool_of_idle_connections() -> None:
    async def story() -> None:
        bad: set[int] = {1, 2}
        both = asyncio.Barrier(2)

        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number < 3:
                await both.wait()
            await peer.send(answer(b"%d" % peer.number))
            await peer.request()
            if peer.number not in bad:
                await peer.send(answer(b"again"))

        async with Server(play) as server:
            client = held(PoolLimits(connections=2), server)
            await asyncio.gather(ask(client), ask(client))
            assert await ask(client, idempotent=True) == b"3"
            assert client.in_flight == 0
            await client.aclose()

    run(story)


def test_a_retired_client_ends_what_is_idle_and_lets_the_rest_finish() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = Http1Client(server.upstream(), None)
            gate.go.release()
            await ask(client)
            await gate.asked.get()
            call = asyncio.create_task(ask(client, b"late"))
            await gate.asked.get()
            client.retire()
            await asyncio.sleep(0)
            assert server.open == 1
            gate.go.release()
            assert await call == b"late"
            await until(lambda: server.open == 0)
            gate.go.release()
            assert await ask(client, b"later still") == b"later still"  # an exchange that pinned the old snapshot
            await until(lambda: server.open == 0)
            await client.aclose()

    run(story)


def test_a_closed_client_fails_what_is_under_way_and_what_waits() -> None:
    async def story() -> None:
        gate = Gate()
        async with Server(gate.play) as server:
            client = held(PoolLimits(connections=1), server)
            calls = [asyncio.create_task(ask(client)) for _ in range(3)]
            await gate.asked.get()
            await client.aclose()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(item, UpstreamFailed) for item in found)
            with pytest.raises(UpstreamFailed):
                await ask(client)
            assert client.in_flight == 0

    run(story)


def test_the_timer_runs_only_while_something_is_open() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            client = held(PoolLimits(keepalive=0.02), server)
            assert client.ticking is False
            await ask(client)
            assert client.ticking is True
            await until(lambda: not client.ticking and server.open == 0)
            await ask(client)
            await client.aclose()
            assert client.ticking is False

    run(story)
