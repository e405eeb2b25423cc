"""Lease mode: as strict while Redis is there; away, on within what is held, and never more than that."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.accounts import Ask, Balance, Budget, CountersUnavailable
from gateway.stores.redis_leases import HOLD_SECONDS
from tests.ports.counting import account, budget, charge, closed, grown, place, rate, sliding, taken
from tests.stores.redis_server import Node, RealClock, Running, node, server, until


def run(story: Callable[[Running], Awaitable[None]]) -> None:
    async def whole(running: Running) -> None:
        async with asyncio.timeout(120):
            await story(running)

    with server() as running:
        asyncio.run(whole(running))


async def spend(gateway: Node, of: Budget, ident: str, amount: int, settled: int | None) -> bool:
    ask = charge(of, amount)
    given = await taken(gateway.leases, Ask(ident, [], [], [ask]))
    if given.ok and settled is not None:
        gateway.leases.close(ident, [closed(ask, settled)])
    return given.ok


async def balance(gateway: Node, of: Budget) -> Balance:
    await gateway.counters.drained()
    [found] = await gateway.counters.balances([(of, account(of))])
    return found


async def settle_down(gateway: Node) -> None:
    """The lease is as large as it is to be."""
    for _ in range(3):
        gateway.leases.tend()
        await gateway.counters.drained()


def leased(gateway: Node) -> int:
    return sum(sum(held.amounts.values()) for id, held in gateway.counters.truth.open.items() if id[:6] == "lease:")


def test_a_lease_is_never_more_than_its_share_nor_than_an_eighth_of_what_is_left() -> None:
    async def story(running: Running) -> None:
        of, narrow = budget(amount=100_000), budget("narrow", amount=1000)
        async with node(running.at()) as gateway:
            assert await spend(gateway, of, "1", 10, 10)
            await settle_down(gateway)
            assert 20 <= leased(gateway) <= 5000
            for at in range(50):
                assert await spend(gateway, of, f"2-{at}", 1000, 1000)
                await settle_down(gateway)
                assert leased(gateway) <= 5000
            assert leased(gateway) > 2000
        async with node(running.at()) as gateway:
            assert await spend(gateway, narrow, "3", 900, 900)
            await settle_down(gateway)
            assert 0 < leased(gateway) <= 100 // 8
            found = await balance(gateway, narrow)
            assert (found.settled, found.reserved) == (900, leased(gateway))

    run(story)


def test_redis_away_for_a_while_costs_nobody_a_call_and_overspends_nothing() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=100_000)
        limits = ([rate(count=100_000)], [place(most=100)])
        chance = random.Random(4)
        async with node(running.at(), wait=0.25) as gateway:
            total = 0

            async def call(at: str) -> None:
                nonlocal total
                ask = charge(of, 10)
                given = await taken(gateway.leases, Ask(at, *limits, [ask]))
                assert given.ok
                came = chance.randint(1, 10)
                total += came
                gateway.leases.close(at, [closed(ask, came)])

            for at in range(100):
                await call(f"before-{at}")
            await settle_down(gateway)
            ahead = leased(gateway)
            assert ahead > 200
            running.stop()
            for at in range(ahead // 10):
                await call(f"away-{at}")
            assert gateway.leases.without >= ahead // 10 - 1
            await gateway.leases.check()  # ready all the while
            running.again()  # and it has forgotten everything
            await until(lambda: gateway.counters.connected)
            await settle_down(gateway)
            found = await balance(gateway, of)
            assert (found.settled, found.reserved) == (total, leased(gateway))

    run(story)


def test_what_the_lease_does_not_reach_nobody_may_spend() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=1000)
        async with node(running.at(), wait=0.2) as gateway:
            assert await spend(gateway, of, "1", 10, 10)
            await settle_down(gateway)
            ahead = leased(gateway)
            assert 0 < ahead <= 50
            running.stop()
            passed = 0
            for at in range(ahead):
                passed += await spend(gateway, of, f"away-{at}", 1, 1)
            assert passed == ahead
            with pytest.raises(CountersUnavailable):
                await spend(gateway, of, "one-more", 1, 1)
            with pytest.raises(CountersUnavailable):
                await spend(gateway, budget("never-used"), "2", 1, 1)

    run(story)


@pytest.mark.slow
def test_two_gateways_in_lease_mode_never_pass_the_cap_with_redis_coming_and_going() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=20_000)
        chance = random.Random(9)
        async with node(running.at(), name="a", wait=0.1) as one, node(running.at(), name="b", wait=0.1) as two:
            await until(lambda: one.keeping.peers == two.keeping.peers == {"a", "b"})
            spent, over = 0, asyncio.Event()

            async def callers(gateway: Node, name: str) -> None:
                nonlocal spent
                at = 0
                while not over.is_set():
                    at += 1
                    await asyncio.sleep(chance.random() * 0.01)
                    amount = chance.randint(1, 20)
                    ask = charge(of, amount)
                    try:
                        given = await taken(gateway.leases, Ask(f"{name}-{at}", [], [], [ask]))
                    except CountersUnavailable:
                        continue
                    if given.ok:
                        await asyncio.sleep(chance.random() * 0.01)
                        gateway.leases.close(f"{name}-{at}", [closed(ask, amount)])
                        spent += amount

            async def weather() -> None:
                for _ in range(4):
                    await asyncio.sleep(0.3)
                    gateway_tend()
                    running.halt()
                    await asyncio.sleep(0.4)
                    running.go_on()
                    await asyncio.sleep(0.3)
                    running.client().flushall()
                over.set()

            def gateway_tend() -> None:
                one.leases.tend()
                two.leases.tend()

            jobs = [callers(gateway, f"{gateway.counters.names.node}{at}") for gateway in (one, two) for at in range(4)]
            await asyncio.gather(weather(), *jobs)
            await until(lambda: one.counters.connected and two.counters.connected)
            assert spent <= 20_000
            assert one.leases.without + two.leases.without > 0
            gateway_tend()
            one.leases.release()
            two.leases.release()
            await two.counters.drained()
            found = await balance(one, of)
            assert (found.settled, found.reserved) == (spent, 0)

    run(story)


def test_a_lease_is_given_back_where_somebody_is_refused_for_it() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=1000)
        async with node(running.at()) as gateway:
            assert await spend(gateway, of, "1", 10, 10)
            await settle_down(gateway)
            ahead = leased(gateway)
            assert ahead > 0
            assert not await spend(gateway, of, "2", 990, None)
            await gateway.counters.drained()
            assert leased(gateway) == 0
            assert await spend(gateway, of, "3", 990, None)

    run(story)


def test_away_each_gateway_has_its_part_of_rates_and_places() -> None:
    async def story(running: Running) -> None:
        async with node(running.at(), name="a", wait=0.2) as one, node(running.at(), name="b", wait=0.2) as two:
            await until(lambda: one.keeping.peers == two.keeping.peers == {"a", "b"})
            running.stop()
            for make, whole in ((lambda: rate(count=10), 10), (lambda: sliding(most=10), 10)):
                passed = 0
                for gateway in (one, two):
                    for at in range(10):
                        given = await taken(gateway.leases, Ask(f"{make().name}-{at}", [make()], [], []))
                        passed += given.ok
                assert passed == whole
            inside = 0
            for gateway in (one, two):
                for at in range(10):
                    given = await taken(gateway.leases, Ask(f"p-{at}", [], [place(most=6)], []))
                    inside += given.ok
            assert inside == 6
            for gateway in (one, two):
                gateway.leases.close("p-0", [])
                assert (await taken(gateway.leases, Ask("q", [], [place(most=6)], []))).ok
            shadow = [rate(count=2, shadow=True)]
            shadowed = [await taken(one.leases, Ask(f"s-{at}", shadow, [], [])) for at in range(4)]
            assert all(given.ok for given in shadowed)
            assert list(shadowed[3].exceeded) == ["rate"]

    run(story)


def test_streams_grow_out_of_the_lease_and_are_settled_where_they_began() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=10_000)
        begun = charge(of, 100)
        async with node(running.at(), wait=0.2) as gateway:
            assert (await taken(gateway.leases, Ask("stream", [], [], [begun]))).ok
            await settle_down(gateway)
            assert leased(gateway) > 50
            running.halt()
            assert (await grown(gateway.leases, "stream", [charge(of, 50)])).ok
            assert (await taken(gateway.leases, Ask("another", [], [], [charge(of, 20)]))).ok
            assert (await grown(gateway.leases, "another", [charge(of, 20)])).ok
            with pytest.raises(CountersUnavailable):
                await grown(gateway.leases, "another", [charge(of, 5000)])
            running.go_on()
            await until(lambda: not gateway.counters.slow and gateway.counters.connected)
            gateway.leases.close("stream", [closed(begun, 140)])
            gateway.leases.close("another", [closed(charge(of, 20), 33)])
            await settle_down(gateway)
            found = await balance(gateway, of)
            assert (found.settled, found.reserved) == (173, leased(gateway))

    run(story)


class Ahead(RealClock):
    def __init__(self) -> None:
        self.by = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.by


def test_a_lease_of_a_redis_that_was_not_heard_for_too_long_is_nobodys() -> None:
    async def story(running: Running) -> None:
        of, clock = budget(amount=1000), Ahead()
        async with node(running.at(), wait=0.2, clock=clock) as gateway:
            assert await spend(gateway, of, "1", 10, 10)
            await settle_down(gateway)
            running.stop()
            assert await spend(gateway, of, "2", 1, 1)
            clock.by = 60.0
            assert await spend(gateway, of, "3", 1, 1)
            clock.by = HOLD_SECONDS + 1
            with pytest.raises(CountersUnavailable):
                await spend(gateway, of, "4", 1, 1)
            with pytest.raises(CountersUnavailable):
                await gateway.leases.check()

    run(story)


def test_what_a_silent_gateway_had_leased_is_freed_by_another_and_its_open_exchanges_stay() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=1000)
        async with node(running.at(), name="b") as living:
            dead = Node([running.at()], "a", 2.0)
            dead.keeping.start()
            await dead.there()
            assert await spend(dead, of, "1", 10, None)
            await settle_down(dead)
            ahead = leased(dead)
            dead.keeping.pause()  # as if it had been killed
            assert (await balance(living, of)).reserved == 10 + ahead
            running.client().zadd("{tollgate}nodes", {"a": int(time.time()) - 119})
            await living.keeping.reap()
            assert (await balance(living, of)).reserved == 10 + ahead
            running.client().zadd("{tollgate}nodes", {"a": int(time.time()) - 121})
            await living.keeping.reap()
            assert (await balance(living, of)).reserved == 10

    run(story)
