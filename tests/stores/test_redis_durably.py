"""Two nodes on a real Redis, one of which is killed: at no moment may the other have room that is not there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.accounts import Ask, Budget, Tally
from gateway.stores.redis_durably import SEEN_SECONDS, Durably
from gateway.stores.redis_wire import Server
from tests.ports.counting import account, budget, charge, closed, place, taken
from tests.rig import run
from tests.stores.redis_server import Log, Node, node, server, until


class Records:
    """How far a log is, as a test says."""

    def __init__(self) -> None:
        self.durable, self.submitted, self.takes = 0, 0, True

    def __call__(self) -> tuple[int, int, bool]:
        return self.durable, self.submitted, self.takes


async def left(of: Node, whole: Budget) -> int:
    [found] = await of.counters.balances([(whole, account(whole))])
    return found.left


async def looked() -> None:
    """Longer than the room is kept back for no reason."""
    await asyncio.sleep(3 * SEEN_SECONDS)


def test_what_a_call_did_not_use_is_free_when_the_log_has_it_and_its_place_at_once() -> None:
    async def story() -> None:
        with server() as redis:
            async with node(redis.at(), name="a") as one, node(redis.at(), name="b") as two:
                log, whole = Records(), budget(amount=10)
                counters = Durably(one.counters, one.counters, log)
                ask = charge(whole, 10)
                assert (await taken(counters, Ask("1", [], [place(most=1)], [ask]))).ok
                counters.close("1", [closed(ask, 2)])
                log.submitted = 7  # its outcome
                assert (await taken(counters, Ask("2", [], [place(most=1)], []))).ok
                await looked()
                assert (await left(two, whole), counters.waiting) == (0, 1)
                log.durable = 6
                await looked()
                assert await left(two, whole) == 0
                log.durable = 7
                await until(lambda: counters.waiting == 0)
                await until(lambda: _is(two, whole, 8))
                assert (await taken(two.counters, Ask("3", [], [], [charge(whole, 8)]))).ok

    run(story())


def test_a_log_that_is_down_gives_nothing_back_and_what_it_made_up_for_does() -> None:
    async def story() -> None:
        with server() as redis:
            async with node(redis.at()) as one:
                log, whole = Records(), budget(amount=10)
                counters = Durably(one.counters, one.counters, log)
                ask = charge(whole, 10)
                await taken(counters, Ask("1", [], [], [ask]))
                log.takes = False
                counters.close("1", [closed(ask, 2)])
                await looked()
                assert (await left(one, whole), counters.waiting) == (0, 1)
                log.takes, log.submitted = True, 1
                await looked()
                assert await left(one, whole) == 0
                log.durable = 1
                await until(lambda: _is(one, whole, 8))

    run(story())


def test_what_a_log_has_when_it_is_closed_is_told_and_nothing_else() -> None:
    async def story() -> None:
        with server() as redis:
            async with node(redis.at()) as one:
                log, whole = Records(), budget(amount=10)
                counters = Durably(one.counters, one.counters, log)
                first, second = charge(whole, 5), charge(whole, 5)
                await taken(counters, Ask("1", [], [], [first]))
                await taken(counters, Ask("2", [], [], [second]))
                counters.close("1", [closed(first, 1)])
                log.submitted = log.durable = 1
                log.takes = False
                counters.finish()
                await until(lambda: _is(one, whole, 4))

    run(story())


def test_a_call_that_holds_nothing_is_closed_at_once() -> None:
    async def story() -> None:
        with server() as redis:
            async with node(redis.at()) as one:
                counters = Durably(one.counters, one.counters, Records())
                assert (await taken(counters, Ask("1", [], [place(most=1)], []))).ok
                counters.close("1", [])
                counters.close("nobody", [closed(charge(budget(), 3), 0)])
                assert counters.waiting == 0
                assert (await taken(counters, Ask("2", [], [place(most=1)], []))).ok

    run(story())


def test_a_node_that_comes_back_never_leaves_its_room_to_others_for_a_moment() -> None:
    """What a killed node had reserved, its recovery settles: told first, released then, however often it comes back."""

    async def killed_and_back(other: Node, redis: Server, turn: int) -> tuple[int, int]:
        whole = replace(budget(amount=10), name=f"b{turn}")
        asked = let_in = 0
        over = False

        async def greedy() -> None:
            nonlocal asked, let_in
            while not over:
                asks = [Ask(f"{turn}-{asked + n}", [], [], [charge(whole, 1)]) for n in range(8)]
                asked += len(asks)
                given = await asyncio.gather(*(taken(other.counters, ask) for ask in asks))
                let_in += sum(found.ok for found in given)

        dead = Node([redis], "a", 2.0)
        dead.keeping.start()
        await dead.there()
        for n in range(10):
            assert (await taken(dead.counters, Ask(f"dead {turn}-{n}", [], [], [charge(whole, 1)]))).ok
        dead.keeping.pause()  # killed: nothing was closed
        job = asyncio.create_task(greedy())
        async with node(redis, name="a", log=Log([whole], [Tally(account(whole), 10)])):
            await until(lambda: asked > 40)
        over = True
        await job
        assert await left(other, whole) == 0
        return asked, let_in

    async def story() -> None:
        with server() as redis:
            async with node(redis.at(), name="b") as other:
                for turn in range(20):
                    asked, let_in = await killed_and_back(other, redis.at(), turn)
                    assert (asked > 40, let_in) == (True, 0), f"turn {turn}"

    run(story())


async def _is(of: Node, whole: Budget, wanted: int) -> bool:
    return await left(of, whole) == wanted
