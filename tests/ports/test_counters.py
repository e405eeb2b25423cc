"""The contract of the Counters port, run against everybody who counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.core.accounts import Account, Adjustment, Ask, Balance, Budget, ChargeAsk
from gateway.core.ledger import Counters
from tests.ports.counting import (
    BACKENDS,
    SECOND,
    account,
    budget,
    charge,
    closed,
    grown,
    place,
    rate,
    sliding,
    taken,
)

Story: TypeAlias = Callable[[Counters], Awaitable[None]]


@pytest.fixture(params=sorted(BACKENDS))
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story with fresh counters of one backend."""

    def run(story: Story) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60), BACKENDS[request.param](tmp_path) as counters:
                await story(counters)

        asyncio.run(whole())

    return run


async def balance(counters: Counters, of: Budget, *values: str | None) -> Balance:
    [found] = await counters.balances([(of, account(of, *values))])
    return found


def test_a_refused_budget_burns_no_rate_and_no_place(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        small = budget(amount=5)
        refused = await taken(counters, Ask("1", [rate()], [place()], [charge(small, 6)]))
        assert (refused.ok, list(refused.exceeded)) == (False, [small.name])
        assert (refused.rates[0][0], list(refused.places), list(refused.charges)) == (3, [2], [5])
        allowed = await taken(counters, Ask("2", [rate()], [place()], [charge(small, 5)]))
        assert (allowed.ok, allowed.rates[0][0], list(allowed.places), list(allowed.charges)) == (True, 2, [1], [0])

    tell(story)


def test_a_refused_rate_leaves_account_and_place_alone(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        whole = budget()
        assert (await taken(counters, Ask("1", [rate(count=1)], [], []))).ok
        refused = await taken(counters, Ask("2", [rate(count=1)], [place()], [charge(whole, 1)]))
        assert (refused.ok, list(refused.exceeded)) == (False, ["rate"])
        assert 3500 * SECOND < refused.rates[0][1] <= 3600 * SECOND
        assert (await balance(counters, whole)).left == 100
        assert list((await taken(counters, Ask("3", [], [place()], []))).places) == [1]

    tell(story)


def test_sixty_four_at_once_get_exactly_what_there_is(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        ten = budget(amount=10)
        asks = [Ask(str(at), [rate(count=50)], [place(most=40)], [charge(ten, 1)]) for at in range(64)]
        given = await asyncio.gather(*(taken(counters, ask) for ask in asks))
        assert sum(found.ok for found in given) == 10
        assert (await balance(counters, ten)).reserved == 10

    tell(story)


def test_closing_puts_what_it_came_to_in_the_place_of_what_was_reserved(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        ask = charge(of, 60)
        assert (await taken(counters, Ask("1", [], [place(most=1)], [ask]))).ok
        assert not (await taken(counters, Ask("2", [], [], [charge(of, 41)]))).ok
        counters.close("1", [closed(ask, 7)])
        found = await balance(counters, of)
        assert (found.reserved, found.settled, found.left) == (0, 7, 93)
        assert (await taken(counters, Ask("3", [], [place(most=1)], [charge(of, 93)]))).ok

    tell(story)


def test_closing_twice_or_what_never_asked_changes_nothing(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        one, two = charge(of, 10), charge(of, 20)
        await taken(counters, Ask("1", [], [place()], [one]))
        await taken(counters, Ask("2", [], [place()], [two]))
        counters.close("1", [closed(one, 3)])
        counters.close("nobody", [closed(one, 0)])
        assert (await balance(counters, of)).left == 77
        assert list((await taken(counters, Ask("3", [], [place()], []))).places) == [0]

    tell(story)


def test_what_came_to_more_than_was_reserved_is_taken_as_it_is(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(amount=10)
        ask = charge(of, 10)
        await taken(counters, Ask("1", [], [], [ask]))
        counters.close("1", [closed(ask, 25)])
        assert (await balance(counters, of)).left == -15
        assert not (await taken(counters, Ask("2", [], [], [charge(of, 0)]))).ok

    tell(story)


def test_nothing_fits_into_nothing(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(amount=1)
        assert (await taken(counters, Ask("1", [], [], [charge(of, 1)]))).ok
        assert (await taken(counters, Ask("2", [], [], [charge(of, 0)]))).ok

    tell(story)


def test_a_charge_must_fit_in_every_account_or_in_none(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        wide, narrow = budget("wide", 100), budget("narrow", 5)
        refused = await taken(counters, Ask("1", [], [], [charge(wide, 6), charge(narrow, 6)]))
        assert (refused.ok, list(refused.exceeded), list(refused.charges)) == (False, ["narrow"], [100, 5])
        assert (await balance(counters, wide)).left == 100
        given = await taken(counters, Ask("2", [], [], [charge(wide, 5), charge(narrow, 5)]))
        assert (given.ok, list(given.charges)) == (True, [95, 0])

    tell(story)


def test_a_reservation_grows_all_or_nothing_and_is_closed_whole(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        wide, narrow = budget("wide", 100), budget("narrow", 20)
        first = [charge(wide, 10), charge(narrow, 10)]
        await taken(counters, Ask("1", [], [], first))
        given = await grown(counters, "1", [charge(wide, 10), charge(narrow, 10)])
        assert (given.ok, list(given.charges)) == (True, [80, 0])
        refused = await grown(counters, "1", [charge(wide, 1), charge(narrow, 1)])
        assert (refused.ok, list(refused.exceeded), list(refused.charges)) == (False, ["narrow"], [80, 0])
        counters.close("1", [closed(first[0], 12), closed(first[1], 12)])
        assert [(await balance(counters, of)).left for of in (wide, narrow)] == [88, 8]

    tell(story)


def test_what_a_charge_does_not_say_it_settled_at_is_released(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        await taken(counters, Ask("1", [], [], [charge(of, 10)]))
        counters.close("1", [])
        assert (await balance(counters, of)).left == 100

    tell(story)


def test_soft_marks_are_told_once_by_the_ask_that_passes_them(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(warn_at=(500, 800))
        told = []
        for at, amount in enumerate([49, 1, 10, 40]):
            told.append(list((await taken(counters, Ask(str(at), [], [], [charge(of, amount)]))).marks))
        assert told == [[], [(of.name, 500)], [], [(of.name, 800)]]
        assert not (await taken(counters, Ask("5", [], [], [charge(of, 1)]))).marks

    tell(story)


def test_one_ask_may_pass_several_marks_and_a_refused_one_none(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(warn_at=(500, 800))
        assert not (await taken(counters, Ask("1", [], [], [charge(of, 101)]))).marks
        assert list((await taken(counters, Ask("2", [], [], [charge(of, 90)]))).marks) == [
            (of.name, 500),
            (of.name, 800),
        ]

    tell(story)


def test_keys_are_compared_as_they_are(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(amount=1)
        values = ["acme", "ACME", "acme ", "akme\u0301", "null", None, "", "\u0130"]
        for at, value in enumerate(values):
            given = await taken(counters, Ask(str(at), [rate(key=repr(value), count=1)], [], [charge(of, 1, value)]))
            assert given.ok, value
        assert not (await taken(counters, Ask("x", [], [], [charge(of, 1, None)]))).ok

    tell(story)


def test_shadow_limits_refuse_nobody_and_say_what_they_would_have(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        asks = [rate(count=1, shadow=True)], [place(most=1, shadow=True)]
        assert list((await taken(counters, Ask("1", *asks, []))).exceeded) == []
        given = await taken(counters, Ask("2", *asks, []))
        assert (given.ok, sorted(given.exceeded)) == (True, ["place", "rate"])
        assert (given.rates[0][0], list(given.places)) == (0, [0])
        counters.close("2", [])  # it has no place to give back
        assert list((await taken(counters, Ask("3", [], [place(most=1)], []))).exceeded) == ["place"]
        counters.close("1", [])
        assert (await taken(counters, Ask("4", [], [place(most=1)], []))).ok

    tell(story)


def test_within_a_place_that_is_held_none_is_taken(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        assert (await taken(counters, Ask("1", [], [place(most=1)], []))).ok
        within = await taken(counters, Ask("2", [rate()], [place(most=1, held=True)], []))
        assert (within.ok, list(within.places)) == (True, [0])
        counters.close("2", [])
        assert not (await taken(counters, Ask("3", [], [place(most=1)], []))).ok

    tell(story)


def test_a_sliding_window_lets_no_more_through_than_it_says(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        given = [await taken(counters, Ask(str(at), [sliding()], [], [])) for at in range(5)]
        assert [(found.ok, found.rates[0][0]) for found in given] == [
            (True, 2), (True, 1), (True, 0), (False, 0), (False, 0),
        ]  # fmt: skip
        assert 3500 * SECOND < given[4].rates[0][1] <= 3660 * SECOND
        assert (await taken(counters, Ask("x", [sliding(key="other")], [], []))).ok

    tell(story)


def test_a_rate_that_was_changed_begins_anew_and_a_lowered_number_of_places_keeps_who_is_in(
    tell: Callable[[Story], None],
) -> None:
    async def story(counters: Counters) -> None:
        for at in range(3):
            assert (await taken(counters, Ask(str(at), [rate()], [place(most=3)], []))).ok
        given = await taken(counters, Ask("4", [rate(count=4)], [place(most=4)], []))
        assert (given.rates[0][0], list(given.places)) == (3, [0])
        lowered = await taken(counters, Ask("5", [], [place(most=2)], []))
        assert (lowered.ok, list(lowered.places)) == (False, [0])

    tell(story)


def test_periods_are_apart_and_a_new_one_is_handed_over_what_is_left(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget(carry=500)
        old = charge(of, 30)
        await taken(counters, Ask("1", [], [], [old]))
        counters.close("1", [closed(old, 20)])
        new = ChargeAsk(of, account(of, period="2026-12-01T00:00:00Z"), 140, of.amount, old.ends, old.account)
        given = await taken(counters, Ask("2", [], [], [new]))
        assert (given.ok, list(given.charges)) == (True, [0])
        nobody = ChargeAsk(of, Account(of.name, '["new"]', new.account.period), 101, 100, old.ends,
                           Account(of.name, '["new"]', old.account.period))  # fmt: skip
        assert not (await taken(counters, Ask("3", [], [], [nobody]))).ok

    tell(story)


def test_an_adjustment_counts_once_for_its_id(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        ask = charge(of, 60)
        await taken(counters, Ask("1", [], [], [ask]))
        wanted = Adjustment("a1", of, ask.account, ask.ends, granted=50)
        await counters.adjust(wanted)
        await counters.adjust(wanted)
        found = await balance(counters, of)
        assert (found.most, found.granted, found.reserved, found.left) == (100, 50, 60, 90)
        assert (await taken(counters, Ask("2", [], [], [charge(of, 90)]))).ok

    tell(story)


def test_an_amount_that_is_set_holds_for_its_key_alone_until_it_is_unset(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        ask = charge(of, 10)
        await counters.adjust(Adjustment("a1", of, ask.account, ask.ends, most=5))
        assert not (await taken(counters, Ask("1", [], [], [ask]))).ok
        assert (await taken(counters, Ask("2", [], [], [charge(of, 10, "other")]))).ok
        later = charge(of, 10, period="2026-12-01T00:00:00Z")
        assert not (await taken(counters, Ask("3", [], [], [later]))).ok
        await counters.adjust(Adjustment("a2", of, ask.account, ask.ends, unset=True))
        assert (await taken(counters, Ask("4", [], [], [ask]))).ok

    tell(story)


def test_what_is_forgiven_is_taken_off_what_was_settled_only(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        one, two = charge(of, 50), charge(of, 30)
        await taken(counters, Ask("1", [], [], [one]))
        await taken(counters, Ask("2", [], [], [two]))
        counters.close("1", [closed(one, 50)])
        await counters.adjust(Adjustment("a1", of, one.account, one.ends, forgiven=50))
        found = await balance(counters, of)
        assert (found.settled, found.reserved, found.left) == (0, 30, 70)

    tell(story)


def test_totals_and_rolling_periods_count_like_any_other(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        for of in (budget("total", period="total"), budget("rolling", period="rolling", window=3600)):
            ask = charge(of, 60)
            assert (await taken(counters, Ask(f"{of.name}-1", [], [], [ask]))).ok
            counters.close(f"{of.name}-1", [closed(ask, 55)])
            assert list((await taken(counters, Ask(f"{of.name}-2", [], [], [charge(of, 45)]))).charges) == [0]
            assert not (await taken(counters, Ask(f"{of.name}-3", [], [], [charge(of, 1)]))).ok

    tell(story)


def test_an_account_that_nobody_used_has_all_there_is(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        of = budget()
        assert await balance(counters, of) == Balance(account(of), "tokens", 100, 0, 0, 0)

    tell(story)


def test_an_ask_for_nothing_is_given(tell: Callable[[Story], None]) -> None:
    async def story(counters: Counters) -> None:
        given = await taken(counters, Ask("1", [], [], []))
        assert (given.ok, list(given.rates), list(given.places), list(given.charges)) == (True, [], [], [])
        counters.close("1", [])
        await counters.check()

    tell(story)
