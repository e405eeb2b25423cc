"""A connection to Redis that gives one caller's answer to another: cut at every await, never a foreign word."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core.accounts import Ask, CountersUnavailable, Given
from gateway.stores.redis_wire import Link, dial
from tests.ports.counting import budget, charge, closed, place, taken
from tests.stores.redis_server import Node, Running, node, server, until

ROW = 70


async def say(link: Link, words: str, chance: random.Random) -> None:
    """Asks for an echo and must hear nothing else."""
    assert await link.ask("ECHO", words) == words.encode()
    if chance.random() < 0.3:
        found = await asyncio.gather(*(link.ask("ECHO", f"{words} {turn}") for turn in range(3)))
        assert found == [f"{words} {turn}".encode() for turn in range(3)]


async def cut(task: asyncio.Task[None], chance: random.Random) -> bool:
    """Ends it at some moment, most of the time; whether it was ended."""
    if chance.random() < 0.75:
        for _ in range(chance.randint(0, 8)):
            await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


def test_ten_thousand_cut_commands_never_leave_an_answer_to_somebody_else() -> None:
    async def story(running: Running) -> None:
        chance = random.Random(70)
        link = await dial(running.at(), lambda _, __: None, 5.0)
        ended = 0
        for start in range(0, 10_000, 50):
            tasks = [asyncio.create_task(say(link, f"caller {start + at}", chance)) for at in range(50)]
            ended += sum(await asyncio.gather(*(cut(task, chance) for task in tasks)))
        assert 3000 < ended < 9000
        assert await link.ask("ECHO", "last") == b"last"
        assert link.pending == 0
        link.end("the test is over")

    with server() as running:
        asyncio.run(story(running))


async def call(gateway: Node, number: int, chance: random.Random) -> str:
    """One exchange as the pipeline makes it, cut at any moment; what each sees of its own account is exact."""
    of = budget("each", amount=1000 + number)
    ask = charge(of, number, f"caller {number}")
    ident = f"x{number}"
    try:
        given: Given = await taken(gateway.counters, Ask(ident, [], [place("calls", "all", most=100_000)], [ask]))
        assert given.ok
        assert list(given.charges) == [1000], (number, list(given.charges))
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        gateway.counters.close(ident, [closed(ask, number)])
        return "settled"
    except asyncio.CancelledError:
        gateway.counters.close(ident, [closed(ask, 0)])
        return "cut"


async def cut_call(gateway: Node, number: int, chance: random.Random) -> str:
    task = asyncio.create_task(call(gateway, number, chance))
    if chance.random() < 0.6:
        for _ in range(chance.randint(0, 5)):
            await asyncio.sleep(0)
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "cut"  # before it had begun


def test_exchanges_that_are_cut_while_they_ask_hold_nothing_afterwards() -> None:
    async def story(running: Running) -> None:
        chance = random.Random(71)
        async with node(running.at(), wait=10.0) as gateway:
            ends: dict[int, str] = {}
            for start in range(0, 3000, 60):
                batch = range(start, start + 60)
                ended = await asyncio.gather(*(cut_call(gateway, at, chance) for at in batch))
                ends |= dict(zip(batch, ended, strict=True))
            assert 500 < sum(end == "cut" for end in ends.values()) < 2900
            await gateway.counters.drained()
            await gateway.counters.drained()
            of = [budget("each", amount=1000 + at) for at in ends]
            found = await gateway.counters.balances(
                [(one, charge(one, 0, f"caller {at}").account) for one, at in zip(of, ends, strict=True)]
            )
            assert {balance.reserved for balance in found} == {0}
            assert [balance.settled for balance in found] == [at if ends[at] == "settled" else 0 for at in ends]
            places = await taken(gateway.counters, Ask("y", [], [place("calls", "all", most=100_000)], []))
            assert list(places.places) == [99_999]

    with server() as running:
        asyncio.run(story(running))


def test_a_late_answer_is_nobodys_and_what_was_taken_for_it_is_given_back() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), wait=0.2) as gateway:
            running.halt()
            try:
                with pytest.raises(CountersUnavailable, match="in time"):
                    await taken(gateway.counters, Ask("late", [], [place(most=1)], [charge(of, 60)]))
            finally:
                running.go_on()
            await until(lambda: not gateway.counters.slow)
            given = await taken(gateway.counters, Ask("next", [], [place(most=1)], [charge(of, 100)]))
            assert (given.ok, list(given.charges)) == (True, [0])

    with server() as running:
        asyncio.run(story(running))
