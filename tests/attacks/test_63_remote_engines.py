"""Whatever an engine answers over the network, or fails to, is a deny within the deadline unless it is a decision.

Each shape is played by a real server on a real socket, for a question alone and for the items of a list.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway import config
from gateway.assembly_policy import make_engine
from gateway.core.breaking import State
from gateway.core.exchange import Decision
from gateway.core.reasons import EngineFault
from gateway.pdp.remote import RemoteEngine
from tests.pdp.asking import request, settled
from tests.pdp.failure_shapes import AUTHZEN, JSON, OPA, SHAPES, YES, Shape, saying
from tests.wire.faulty import Peer, Server, answer, run, until

ROW = 63
DEADLINE = 0.3
SLACK = 0.5  # of a busy machine; without a deadline the slow shapes would hang for ever

HTTP = [(engine, name, shape) for engine in ("opa", "authzen") for name, shape in SHAPES.items()]
OWN = [("opa", name, shape) for name, shape in OPA.items()] + [
    ("authzen", name, item) for name, item in AUTHZEN.items()
]


def made(kind: str, port: int, timeout: float = DEADLINE, **more: Any) -> RemoteEngine:
    settings = config.Policy(engine=kind, url=f"http://127.0.0.1:{port}", timeout=timeout, **more)
    engine = make_engine(settings)
    assert isinstance(engine, RemoteEngine)
    return engine


async def asked(engine: RemoteEngine, many: int = 0) -> tuple[list[Decision], float]:
    started = time.monotonic()
    if many:
        found: list[Decision] = await settled(engine.decide_many([request({"n": n}) for n in range(many)]))
    else:
        found = [await settled(engine.decide(request({"city": "Oslo"})))]
    return found, time.monotonic() - started


@pytest.mark.parametrize(("kind", "name", "shape"), HTTP + OWN, ids=[f"{kind} {name}" for kind, name, _ in HTTP + OWN])
def test_it_is_a_deny_within_the_deadline(kind: str, name: str, shape: Shape) -> None:
    async def story() -> None:
        async with Server(shape.play) as server:
            engine = made(kind, server.port)
            [found], took = await asked(engine)
            assert found.allow is False
            assert found.fault is shape.fault, found
            assert found.rule.startswith(shape.rule), found
            assert found.reason
            assert took < DEADLINE + SLACK
            items, took = await asked(engine, many=3)
            assert not any(item.allow for item in items)
            if kind == "opa" or shape.fault:  # what AuthZEN says of one question is no answer to several
                assert {item.fault for item in items} == {shape.fault}, items
            assert took < DEADLINE + SLACK
            await engine.aclose()

    asyncio.run(bounded(story))


async def bounded(story: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(30):
        await story()


@pytest.mark.parametrize("kind", ["opa", "authzen", "cerbos"])
def test_an_engine_that_is_down_is_a_deny(kind: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and nobody listens

        async def story() -> None:
            engine = made(kind, nobody.getsockname()[1])
            [found], took = await asked(engine)
            assert (found.allow, found.fault) == (False, True)
            assert "unavailable" in found.rule or "refused" in found.rule or found.rule == "late", found
            assert took < DEADLINE + SLACK
            with pytest.raises(EngineFault):
                await engine.check()
            await engine.aclose()

        asyncio.run(bounded(story))


GRPC: dict[str, Callable[[Peer], Awaitable[None]]] = {}


def grpc_shape(play: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    GRPC[play.__name__] = play
    return play


@grpc_shape
async def slow(peer: Peer) -> None:
    await peer.gone()


@grpc_shape
async def closed_at_once(peer: Peer) -> None:
    pass


@grpc_shape
async def http1(peer: Peer) -> None:
    await peer.send(answer(YES, JSON))
    await peer.gone()


@grpc_shape
async def html(peer: Peer) -> None:
    await peer.send(answer(b"<html>true</html>", b"Content-Type: text/html", status=b"500 Oh"))


@grpc_shape
async def garbage(peer: Peer) -> None:
    await peer.send(b"\x00\xff" * 5000)
    await peer.gone()


@grpc_shape
async def reset(peer: Peer) -> None:
    await peer.reader.read(1)
    peer.reset()


@grpc_shape
async def half_a_handshake(peer: Peer) -> None:
    """HTTP/2's settings, and nothing after them."""
    await peer.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    await peer.gone()


@grpc_shape
async def a_frame_too_large(peer: Peer) -> None:
    await peer.send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 100_000)
    await peer.gone()


@pytest.mark.parametrize("name", GRPC)
def test_what_is_no_grpc_is_a_deny_within_the_deadline(name: str) -> None:
    async def story() -> None:
        async with Server(GRPC[name]) as server:
            engine = made("cerbos", server.port)
            for many in (0, 3):
                found, took = await asked(engine, many)
                assert {(item.allow, item.fault) for item in found} == {(False, True)}, found
                assert took < DEADLINE + SLACK
            await engine.aclose()

    asyncio.run(bounded(story))


def test_no_redirect_is_followed() -> None:
    async def story() -> None:
        asked_for: list[bytes] = []

        async def elsewhere(peer: Peer) -> None:
            asked_for.append(await peer.head())
            await peer.send(answer(YES, JSON))

        async with Server(elsewhere) as other:
            place = b"Location: http://127.0.0.1:%d/v1/data" % other.port
            async with Server(saying(answer(YES, JSON, place, status=b"307 Temporary Redirect"))) as server:
                engine = made("opa", server.port)
                [found], _ = await asked(engine)
                assert (found.allow, found.rule) == (False, "status 307")
                assert asked_for == []
                await engine.aclose()

    run(story)


def test_the_breaker_opens_asks_once_and_closes_again() -> None:
    async def story() -> None:
        good = asyncio.Event()
        questions = 0

        async def play(peer: Peer) -> None:
            nonlocal questions
            while True:
                await peer.request()
                questions += 1
                await peer.send(answer(YES, JSON, status=b"200 OK" if good.is_set() else b"500 Oh"))

        now = 1000.0
        async with Server(play) as server:
            engine = made("opa", server.port)
            engine._monotonic = lambda: now  # type: ignore[method-assign]
            for _ in range(5):
                await asked(engine)
            assert (questions, engine.breaker()) == (5, State.OPEN)
            [found], _ = await asked(engine)
            assert (found.allow, found.fault, found.rule) == (False, True, "breaker_open: status 500")
            assert len((await asked(engine, many=4))[0]) == 4
            assert questions == 5, "nothing was asked"
            with pytest.raises(EngineFault, match="status 500"):
                await engine.check()
            now += 1.0
            await asked(engine)
            assert (questions, engine.breaker()) == (6, State.OPEN), "the one probe failed"
            now += 1.0
            good.set()
            [found], _ = await asked(engine)
            assert (found.allow, engine.breaker()) == (True, State.CLOSED)
            await engine.aclose()

    run(story)


def test_a_question_that_is_refused_does_not_open_the_breaker() -> None:
    """One caller whose requests an engine does not take must not cut off the others."""

    async def story() -> None:
        async with Server(saying(answer(b"{}", JSON, status=b"400 Bad Request"))) as server:
            engine = made("opa", server.port)
            for _ in range(20):
                [found], _ = await asked(engine)
                assert (found.fault, found.rule) == (True, "status 400")
            assert engine.breaker() is State.CLOSED
            await engine.aclose()

    run(story)


def test_a_list_of_which_something_was_answered_does_not_count_as_a_failure() -> None:
    """An upstream that lists very much must not cut off everybody."""

    async def story() -> None:
        answered = 0

        async def play(peer: Peer) -> None:
            nonlocal answered
            while True:
                await peer.request()
                answered += 1
                if answered % 40 > 20:
                    await peer.gone()
                await peer.send(answer(YES, JSON))

        async with Server(play) as server:
            engine = made("opa", server.port)
            for _ in range(5):
                found, took = await asked(engine, many=200)
                assert took < DEADLINE + SLACK
                assert {item.rule for item in found if not item.allow} == {"late"}
                assert any(item.allow for item in found)
            assert engine.breaker() is State.CLOSED
            await engine.aclose()

    asyncio.run(bounded(story))


def test_a_caller_that_leaves_is_no_failure_and_leaves_nothing_behind() -> None:
    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.gone()

        async with Server(play) as server:
            engine = made("opa", server.port, timeout=20.0)
            for _ in range(10):
                task = asyncio.ensure_future(settled(engine.decide(request())))
                await until(lambda: server.open > 0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await until(lambda: server.open == 0)
            assert engine.breaker() is State.CLOSED
            await engine.aclose()

    run(story)
