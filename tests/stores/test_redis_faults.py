"""Redis stopped, slow, emptied, failed over, restarted; nodes that die: strict counters are exact through it (R4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
import uvloop

from gateway.core.accounts import (
    Account,
    Adjustment,
    Ask,
    Balance,
    Budget,
    CountersUnavailable,
    Standing,
    Tally,
)
from gateway.core.ledger import Counters
from tests.ports.counting import account, budget, charge, closed, place, rate, taken
from tests.stores.redis_server import Log, Node, RealClock, Running, node, server, until


def run(story: Callable[[Running], Awaitable[None]]) -> None:
    async def whole(running: Running) -> None:
        async with asyncio.timeout(90):
            await story(running)

    with server() as running:
        asyncio.run(whole(running))


async def spend(counters: Counters, of: Budget, ident: str, amount: int, settled: int | None) -> bool:
    """One exchange; `settled` None: it stays open."""
    ask = charge(of, amount)
    given = await taken(counters, Ask(ident, [], [], [ask]))
    if given.ok and settled is not None:
        counters.close(ident, [closed(ask, settled)])
    return given.ok


async def balance(gateway: Node, of: Budget, *values: str) -> Balance:
    await gateway.counters.drained()
    [found] = await gateway.counters.balances([(of, account(of, *values))])
    return found


async def answers(gateway: Node) -> bool:
    try:
        await taken(gateway.counters, Ask("probe", [], [], []))
    except CountersUnavailable:
        return False
    return True


def test_redis_away_lets_nobody_through_and_what_was_closed_meanwhile_counts_when_it_is_back() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), wait=0.5) as gateway:
            assert await spend(gateway.counters, of, "before", 30, 20)
            assert await spend(gateway.counters, of, "open", 30, None)
            running.stop()
            refused = []
            for at in range(20):
                began = time.monotonic()
                with pytest.raises(CountersUnavailable):
                    await spend(gateway.counters, of, f"away-{at}", 1, 1)
                refused.append(time.monotonic() - began)
            assert max(refused) < 2.0  # the first ones wait for a connection, for `wait` at most
            assert sorted(refused)[10] < 0.1
            with pytest.raises(CountersUnavailable):
                await gateway.counters.check()
            gateway.counters.close("open", [closed(charge(of, 30), 25)])
            running.again()  # it has forgotten everything
            began = time.monotonic()
            await until(lambda: answers(gateway))
            assert time.monotonic() - began < 5.0
            found = await balance(gateway, of)
            assert (found.settled, found.reserved, found.left) == (45, 0, 55)

    run(story)


def test_redis_that_stands_still_for_two_seconds_refuses_in_time_and_takes_nothing_for_them() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=1000)
        async with node(running.at(), wait=0.25) as gateway:
            running.halt()
            began = time.monotonic()
            waits, at = [], 0
            while time.monotonic() < began + 2.0:
                at += 1
                asked = time.monotonic()
                with pytest.raises(CountersUnavailable):
                    await spend(gateway.counters, of, f"slow-{at}", 1, 1)
                waits.append(time.monotonic() - asked)
                await asyncio.sleep(0.01)
            running.go_on()
            assert max(waits) < 1.0
            assert sum(waits) < 1.5  # only the first waited; the others were told at once
            await until(lambda: answers(gateway))
            assert (await balance(gateway, of)).left == 1000
            assert gateway.counters.truth.open == {}

    run(story)


def test_a_connection_on_which_nothing_comes_back_is_given_up_and_what_was_sent_on_it_counts_for_nobody() -> None:
    async def story(running: Running) -> None:
        of = budget(amount=1000)
        async with node(running.at(), wait=0.1) as gateway:
            assert await spend(gateway.counters, of, "open", 7, None)
            assert (await taken(gateway.counters, Ask("inside", [], [place("one", most=1)], []))).ok
            running.halt()
            asks = [taken(gateway.counters, Ask(f"x{at}", [], [place()], [charge(of, 10)])) for at in range(5)]
            assert all(isinstance(e, CountersUnavailable) for e in await asyncio.gather(*asks, return_exceptions=True))
            await until(lambda: not gateway.counters.connected)
            gateway.counters.close("inside", [])
            running.go_on()  # it carries out what it had been sent, on a connection that has ended
            await until(lambda: answers(gateway))
            found = await balance(gateway, of)
            assert (found.reserved, found.settled) == (7, 0)
            assert list((await taken(gateway.counters, Ask("y", [], [place()], []))).places) == [1]
            assert (await taken(gateway.counters, Ask("z", [], [place("one", most=1)], []))).ok

    run(story)


def test_nothing_is_taken_from_a_server_that_was_not_reconciled_with() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at()) as gateway:
            assert await spend(gateway.counters, of, "1", 10, 10)
            known = running.client().hget("{tollgate}state", "epoch")
            running.client().hset("{tollgate}state", "epoch", "another server")
            assert await spend(gateway.counters, of, "2", 10, 10)
            assert running.client().hget("{tollgate}state", "epoch") == known  # it was reconciled with again
            assert (await balance(gateway, of)).settled == 20

    run(story)


def test_an_emptied_redis_is_filled_by_every_node_before_anybody_is_let_through() -> None:
    async def story(running: Running) -> None:
        of, rolling = budget(), budget("rolling", period="rolling", window=3600, amount=100)
        async with node(running.at(), name="a") as one, node(running.at(), name="b") as two:
            assert await spend(one.counters, of, "a1", 30, 30)
            assert await spend(two.counters, of, "b1", 40, 40)
            assert await spend(two.counters, of, "b2", 20, None)
            assert await spend(two.counters, rolling, "b3", 60, 55)
            await two.counters.adjust(Adjustment("grant", of, account(of), 0, granted=5))
            await two.counters.adjust(Adjustment("set", rolling, account(rolling), 0, most=56))
            await until(lambda: one.keeping.peers == two.keeping.peers == {"a", "b"})
            running.client().flushall()
            ok = await asyncio.gather(
                *(spend(of_node.counters, of, f"{of_node.counters.names.node}{at}", 3, None)
                  for of_node in (one, two) for at in range(10)),
                return_exceptions=True,
            )  # fmt: skip
            assert sum(found is True for found in ok) <= 5
            await until(lambda: answers(one))
            await until(lambda: answers(two))
            found = await balance(one, of)
            assert (found.settled, found.granted, found.left % 3) == (70, 5, 0)
            assert found.left >= 0
            seen = await balance(one, rolling)
            assert (seen.settled, seen.most, seen.left) == (55, 56, 1)

    run(story)


@pytest.mark.slow
def test_a_node_waits_for_the_others_that_were_there_when_redis_was_emptied() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), name="a", wait=0.3) as one, node(running.at(), name="b") as two:
            assert await spend(two.counters, of, "b1", 80, 80)
            await until(lambda: one.keeping.peers == {"a", "b"})
            two.keeping.pause()  # it lives, and does not come back yet
            running.client().flushall()
            await until(lambda: not one.counters.connected)
            for at in range(4):
                with pytest.raises(CountersUnavailable):
                    await spend(one.counters, of, f"a{at}", 50, None)
            two.keeping.start()
            await two.there()
            await one.there()
            assert not await spend(one.counters, of, "later", 50, None)
            assert await spend(one.counters, of, "fits", 20, None)

    run(story)


@pytest.mark.slow
def test_a_failover_to_a_replica_that_lacks_the_last_writes_loses_nothing() -> None:
    async def story(primary: Running) -> None:
        of = budget()
        with server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
            await until(lambda: replica.client().info("replication").get("master_link_status") == "up")
            servers = (primary.at(), replica.at())
            async with node(*servers, name="a", wait=0.5) as one, node(*servers, name="b", wait=0.5) as two:
                assert await spend(one.counters, of, "a1", 10, 10)
                assert await spend(one.counters, of, "a2", 5, None)
                await one.counters.drained()
                await until(lambda: one.keeping.peers == two.keeping.peers == {"a", "b"})
                replica.client().replicaof("127.0.0.1", 1)  # from here on it hears nothing
                assert await spend(two.counters, of, "b1", 40, 40)
                assert await spend(two.counters, of, "b2", 25, None)
                one.counters.close("a2", [closed(charge(of, 5), 5)])
                await two.counters.drained()
                primary.stop()
                replica.client().replicaof("NO", "ONE")
                began = time.monotonic()
                await until(lambda: answers(one))
                await until(lambda: answers(two))
                print(f"failed over after {time.monotonic() - began:.2f} s")
                found = await balance(one, of)
                assert (found.settled, found.reserved, found.left) == (55, 25, 20)
                assert not await spend(one.counters, of, "more", 21, None)

    run(story)


def test_a_process_that_died_is_closed_by_what_its_log_says_and_by_nobody_else() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), name="b") as other:
            async with node(running.at(), name="a") as dying:
                assert await spend(dying.counters, of, "settled", 10, 10)
                assert await spend(dying.counters, of, "with-intent", 20, None)
                assert await spend(dying.counters, of, "without", 30, None)
                await dying.counters.drained()
            assert (await balance(other, of)).left == 40  # nobody knows yet what became of it
            log = Log([of], [Tally(account(of), 30)])  # 10, and 20 that recovery closed as unknown
            async with node(running.at(), name="a", log=log) as again:
                found = await balance(again, of)
                assert (found.settled, found.reserved, found.left) == (30, 0, 70)
                assert await spend(again.counters, of, "next", 70, 1)
                assert (await balance(other, of)).settled == 31

    run(story)


def test_scripts_that_redis_lost_are_loaded_again() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at()) as gateway:
            assert await spend(gateway.counters, of, "1", 1, 1)
            running.client().script_flush()
            assert await spend(gateway.counters, of, "2", 1, 1)
            assert (await balance(gateway, of)).settled == 2

    run(story)


def test_two_processes_of_one_name_do_not_count_together() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), name="a", wait=0.2) as one:
            assert await spend(one.counters, of, "1", 10, None)
            async with node(running.at(), name="a", wait=0.2) as newer:
                assert await spend(newer.counters, of, "2", 10, 10)
                with pytest.raises(CountersUnavailable):
                    await spend(one.counters, of, "3", 1, 1)
                await until(lambda: "another gateway counts under the name a" in one.counters.why)
                with pytest.raises(CountersUnavailable, match="another gateway"):
                    await spend(one.counters, of, "4", 1, 1)
                assert await spend(newer.counters, of, "5", 10, 10)

    run(story)


def test_asking_twice_under_one_id_is_a_fault() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at()) as gateway:
            assert await spend(gateway.counters, of, "1", 10, None)
            with pytest.raises(RuntimeError, match="twice"):
                await spend(gateway.counters, of, "1", 10, None)
            assert (await balance(gateway, of)).left == 90

    run(story)


class Jumping(RealClock):
    """A clock that an operator sets."""

    def __init__(self) -> None:
        self.by = 0.0

    def time(self) -> float:
        return super().time() + self.by


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
def test_a_gateways_clock_that_is_set_gives_no_rate_and_no_rolling_budget_back(by: float) -> None:
    async def story(running: Running) -> None:
        clock = Jumping()
        of = budget("rolling", period="rolling", window=1800)
        async with node(running.at(), clock=clock) as gateway:
            assert (await taken(gateway.counters, Ask("1", [rate(count=1)], [], []))).ok
            assert await spend(gateway.counters, of, "2", 60, 60)
            clock.by = by
            assert not (await taken(gateway.counters, Ask("3", [rate(count=1)], [], []))).ok
            assert not await spend(gateway.counters, of, "4", 50, None)
            assert await spend(gateway.counters, of, "5", 40, 40)

    run(story)


def test_a_grant_ends_when_it_was_to_end_and_rolling_debts_are_forgiven_oldest_first() -> None:
    async def story(running: Running) -> None:
        of, rolling = budget(), budget("rolling", period="rolling", window=3600)
        until_then = int(time.time()) + 2
        async with node(running.at()) as gateway:
            await gateway.counters.adjust(Adjustment("1", of, account(of), 0, granted=50, until=until_then))
            assert (await balance(gateway, of)).granted == 50

            async def lapsed() -> bool:
                return (await balance(gateway, of)).granted == 0

            await until(lapsed)
            assert await spend(gateway.counters, rolling, "2", 60, 60)
            await gateway.counters.adjust(Adjustment("3", rolling, account(rolling), 0, forgiven=45))
            assert (await balance(gateway, rolling)).settled == 15
            assert await spend(gateway.counters, rolling, "4", 1, 1)
            assert (await balance(gateway, rolling)).settled == 16

    run(story)


def test_what_the_log_says_is_counted_before_the_first_exchange() -> None:
    async def story(running: Running) -> None:
        of, rolling = budget(), budget("rolling", period="rolling", window=3600)
        now = int(time.time())
        tallies = [
            Tally(account(of), 90, granted=10, most=120, set_at=1.0),
            Tally(Account("rolling", '["acme"]', ""), 70, slices=((now - 7200, 60), (now - 60, 10))),
        ]
        async with node(running.at(), log=Log([of, rolling], tallies)) as gateway:
            found = await balance(gateway, of)
            assert (found.most, found.granted, found.settled, found.left) == (120, 10, 90, 40)
            assert (await balance(gateway, rolling)).settled == 10
            assert not await spend(gateway.counters, of, "1", 41, None)
            assert await spend(gateway.counters, of, "2", 40, None)

    run(story)


def test_a_gateway_that_stopped_in_order_is_not_waited_for() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), name="a") as one:
            async with node(running.at(), name="b") as two:
                assert await spend(two.counters, of, "b1", 80, 80)
                await until(lambda: one.keeping.peers == {"a", "b"})
            assert running.client().zrange("{tollgate}nodes", 0, -1) == [b"a"]

    run(story)


def test_the_loop_that_serves_drives_the_connection_too() -> None:
    """uvloop's transports are none of asyncio's."""

    async def story(running: Running) -> None:
        async with asyncio.timeout(30), node(running.at()) as gateway:
            assert await spend(gateway.counters, budget(), "1", 10, 10)

    with server() as running:
        uvloop.run(story(running))


def test_places_live_on_while_their_exchanges_do_and_are_free_when_those_have_left() -> None:
    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at()) as gateway:
            for at in ("stays", "leaves"):
                assert (await taken(gateway.counters, Ask(at, [], [place(at, most=1)], [charge(of, 1)]))).ok
            for at in ("stays", "leaves"):
                running.client().delete(f"{{tollgate}}place:{at}:k")  # as if they had lapsed
            gateway.counters.leave("leaves")
            await gateway.keeping.keep()
            assert not (await taken(gateway.counters, Ask("1", [], [place("stays", most=1)], []))).ok
            assert (await taken(gateway.counters, Ask("2", [], [place("leaves", most=1)], []))).ok

    run(story)


class Broken(Log):
    """A book that fails twice, in ways that nobody foresaw."""

    async def standing(self) -> tuple[Sequence[Budget], Standing]:
        found = await super().standing()
        if self.asked < 3:
            raise KeyError("not foreseen")
        return found


def test_a_fault_while_it_reconciles_is_tried_again_and_lets_nobody_through(caplog: pytest.LogCaptureFixture) -> None:
    async def story(running: Running) -> None:
        log = Broken()
        gateway = Node([running.at()], "gw-1", 2.0, log)
        gateway.keeping.start()
        await until(lambda: "KeyError" in gateway.counters.why)
        with pytest.raises(CountersUnavailable):
            await taken(gateway.counters, Ask("1", [], [], []))
        await gateway.there()
        assert (await taken(gateway.counters, Ask("2", [], [], []))).ok
        assert log.asked == 3
        await gateway.keeping.aclose()

    run(story)


def test_a_fault_of_the_beat_ends_the_connection_and_the_next_one_begins_another() -> None:
    async def story(running: Running) -> None:
        async with node(running.at()) as gateway:
            beats = 0

            def tend() -> None:
                nonlocal beats
                beats += 1
                if beats == 2:  # the first is at the start
                    raise KeyError("not foreseen")

            gateway.keeping.tend = tend
            gateway.keeping.pause()
            gateway.keeping.start()
            await gateway.there()
            await until(lambda: beats > 3)
            assert await spend(gateway.counters, budget(), "1", 1, 1)

    run(story)


@pytest.mark.slow
def test_a_server_that_was_away_for_long_is_asked_when_all_who_were_there_have_come_back_to_it() -> None:
    """Its last word of who was there is old then; each node's own is what counts."""

    async def story(running: Running) -> None:
        of = budget()
        async with node(running.at(), name="a", wait=0.3) as one, node(running.at(), name="b") as two:
            assert await spend(two.counters, of, "b1", 80, 80)
            await until(lambda: one.keeping.peers == {"a", "b"})
            two.keeping.pause()
            client = running.client()
            client.hset("{tollgate}state", "epoch", "another server")
            client.zadd("{tollgate}nodes", {"a": int(time.time()) - 60, "b": int(time.time()) - 60})
            client.hset('{tollgate}account:org-month:2026-11-01T00:00:00Z:["acme"]', mapping={"s": 0, "s:b": 0})  # lost
            client.hdel("{tollgate}state", "sync:b")
            with pytest.raises(CountersUnavailable):
                await spend(one.counters, of, "a1", 50, None)
            two.keeping.start()
            await two.there()
            await until(lambda: answers(one))
            assert not await spend(one.counters, of, "a2", 50, None)
            assert await spend(one.counters, of, "a3", 20, None)

    run(story)
