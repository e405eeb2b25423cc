"""What two processes of a gateway say to each other arrives whole, in order, or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.core.posting import PostGone, PostRefused
from gateway.wire.post import connected
from tests.wire.posts import posts


def story(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await job()

    asyncio.run(bounded())


def test_what_is_told_arrives_in_order_and_whole_whatever_its_size() -> None:
    async def main() -> None:
        async with posts() as (one, other):
            heard: list[tuple[int, bytes]] = []
            done = asyncio.Event()
            other.told(b"r", lambda number, said: heard.append((number, said)))
            other.told(b"e", lambda number, said: done.set())
            sent = [(number, os.urandom(size)) for number, size in enumerate([0, 1, 12, 13, 14, 65_536, 3_000_000, 5])]
            for number, said in sent:
                one.tell(b"r", number, said)
            one.tell(b"e", 0, b"")
            await done.wait()
            assert heard == sent

    story(main)


def test_questions_are_answered_under_their_own_number_also_out_of_turn() -> None:
    async def main() -> None:
        async with posts() as (one, other):
            first = asyncio.Event()

            async def slow(said: bytes) -> bytes:
                await first.wait()
                return said + b" at last"

            def quick(said: bytes) -> bytes:
                first.set()
                return said + b" at once"

            other.asked(b"S", slow)
            other.asked(b"Q", quick)
            late, soon = one.ask(b"S", b"slow"), one.ask(b"Q", b"quick")
            assert (await soon, await late) == (b"quick at once", b"slow at last")

    story(main)


def test_why_there_is_no_answer_is_told() -> None:
    async def main() -> None:
        async with posts() as (one, other):

            def refuses(said: bytes) -> bytes:
                raise ValueError("not today")

            async def fails(said: bytes) -> bytes:
                raise ValueError("nor later")

            other.asked(b"R", refuses)
            other.asked(b"F", fails)
            for kind, why in ((b"R", "not today"), (b"F", "nor later")):
                with pytest.raises(PostRefused, match=why):
                    await one.ask(kind, b"")

    story(main)


def test_who_waits_for_the_dead_is_told_so_and_who_asks_later_too() -> None:
    async def main() -> None:
        async with posts() as (one, other):

            async def never(said: bytes) -> bytes:
                await asyncio.Event().wait()
                return b""

            other.asked(b"N", never)
            waiting = one.ask(b"N", b"")
            await asyncio.sleep(0)
            other.close()
            with pytest.raises(PostGone):
                await waiting
            with pytest.raises(PostGone):
                await one.ask(b"N", b"")
            one.tell(b"r", 1, b"nobody hears it")

    story(main)


def test_what_makes_no_sense_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def main(said: bytes) -> None:
        ours, theirs = socket.socketpair()
        gone = asyncio.Event()
        with theirs:
            await connected(ours, gone.set)
            theirs.sendall(said)
            await gone.wait()

    for said in (b"\xff\xff\xff\xffr" + bytes(8), b"\0\0\0\0?" + bytes(8)):
        with caplog.at_level(logging.CRITICAL, "tollgate.post"):
            story(lambda said=said: main(said))  # type: ignore[misc]


def test_the_last_words_of_the_dead_are_heard_though_nobody_can_answer_them() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        gone = asyncio.Event()
        heard: list[int] = []
        post = await connected(ours, gone.set, lambda made: made.told(b"r", lambda number, said: heard.append(number)))
        theirs.sendall(b"".join(b"\0\0\0\x04r" + number.to_bytes(8, "big") + b"last" for number in range(1000)))
        theirs.close()
        for number in range(1000):
            post.tell(b"d", number, bytes(1000))  # what is written to it fails before all of it is read
        await gone.wait()
        assert heard == list(range(1000))

    story(main)
