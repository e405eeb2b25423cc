"""Limits and budgets together against the plainest possible account of them, over random stories.

The account keeps every call for ever and adds up what counts each time it is asked. It knows nothing of reservations
that are moved, of parts that are dropped, of periods that are kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.accounts import Adjustment, Budget
from gateway.core.exchange import Exchange
from gateway.core.reasons import Reason
from gateway.ledger.budgets import FIRST_BYTES
from gateway.ledger.limits import LimitSettings
from gateway.ledger.periods import running
from tests.ledger.books import Books, budget
from tests.thorough import examples

SECOND = 1_000_000_000
RESERVED = 5 + FIRST_BYTES  # of each call: its body, and the first step of its answer
SUBJECTS = st.sampled_from(["a", "A", "b"])
ORGS = st.sampled_from(["acme", None])

RATE = LimitSettings("rate", ("subject.id",), rate=7, window=60, burst=5)
SLIDING = LimitSettings("sliding", ("subject.org",), rate=11, window=640, sliding=True)
AT_ONCE = LimitSettings("at-once", ("subject.org",), concurrent=4)
LIMITS = [RATE, SLIDING, AT_ONCE]
DAY = budget("day", 150_000, "bytes", period="day", carry=500, warn_at=(500, 900))
ROLLING = budget("rolling", 70_000, "bytes", key=("subject.id",), period="rolling", window=6400)
TOTAL = budget("total", 400_000, "bytes", key=("subject.id", "subject.org"), period="total")
BUDGETS = [DAY, ROLLING, TOTAL]


@dataclass
class Call:
    """What one admitted call did. `closed` is (second, amount) once it is over."""

    subject: str
    org: str | None
    at: int  # monotonic nanoseconds
    periods: dict[str, str]
    closed: tuple[int, int] | None = None
    adjusted: dict[tuple[str, str], int] = field(default_factory=dict)


class Story(RuleBasedStateMachine):
    """Calls come, end, time passes, clocks are set, budgets change, administrators act."""

    open = Bundle("open")

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(BUDGETS, LIMITS)
        self.now = self.books.clock.passed  # so that sums of nanoseconds are exact
        self.newest = self.books.clock.wall
        self.amounts = {of.name: of.amount for of in BUDGETS}
        self.calls: dict[str, Call] = {}
        self.granted: dict[tuple[str, str, str], int] = {}
        self.handed: dict[tuple[str, str, str], int] = {}
        self.adjustments = 0
        self.askers: dict[tuple[str, str | None], Exchange] = {}

    def asker(self, subject: str, org: str | None) -> Exchange:
        """Of whom only the key counts."""
        found = self.askers.get((subject, org))
        if found is None:
            found = self.askers[subject, org] = self.books.tool(subject=subject, org=org)
        return found

    def budgets(self) -> list[Budget]:
        return [budget_with(of, self.amounts[of.name]) for of in BUDGETS]

    def nanoseconds(self) -> int:
        return int(self.books.clock.monotonic() * SECOND)

    def seconds(self) -> int:
        """Of accounts: epoch seconds that only pass."""
        began = self.books.counters._began
        return int(
            (began if began is not None else self.books.clock.wall - self.books.clock.passed) + self.books.clock.passed
        )

    @rule(seconds=st.one_of(st.integers(0, 5), st.integers(0, 700), st.integers(0, 90_000)))
    def time_passes(self, seconds: int) -> None:
        self.books.clock.pass_(seconds)

    @rule(jump=st.integers(-200_000, 3_000))
    def the_clock_is_set(self, jump: int) -> None:
        self.books.clock.wall += jump

    @rule(name=st.sampled_from(["day", "rolling", "total"]), amount=st.integers(0, 200_000))
    def the_configuration_is_loaded_again(self, name: str, amount: int) -> None:
        self.amounts[name] = amount
        self.books.reload(self.budgets(), LIMITS)

    @rule(target=open, subject=SUBJECTS, org=ORGS)
    def a_call_comes(self, subject: str, org: str | None) -> Exchange:
        self.newest = max(self.newest, self.books.clock.wall)
        asked = self.books.tool(subject=subject, org=org)
        expected = {one.name for one in LIMITS if not self.admits(one, subject, org)}
        left = {of.name: self.left(of, subject, org) for of in self.budgets()}
        expected |= {name for name, found in left.items() if found < RESERVED}
        refusal = self.books.take(asked)
        assert (refusal is not None) == bool(expected), expected
        if refusal is not None:
            short = {name for name in expected if name in left}
            assert set(refusal.rule.split(", ")) == short or expected - short
            assert refusal.reason is (Reason.BUDGET_EXHAUSTED if short else Reason.RATE_LIMITED)
            assert (asked.charges, asked.places) == ([], [])
            return asked
        for of in BUDGETS:
            self.hand_over(of, subject, org)
        periods = {of.name: self.period(of) for of in BUDGETS}
        self.calls[asked.id] = Call(subject, org, self.nanoseconds(), periods)
        assert [charge.account.period for charge in asked.charges] == [periods[of.name] for of in BUDGETS]
        return asked

    @rule(ended=consumes(open), out=st.integers(0, 60_000), sent=st.booleans())
    def a_call_ends(self, ended: Exchange, out: int, sent: bool) -> None:
        for _ in range(2):  # the second time nothing happens
            self.books.settle(ended, sent=sent, bytes_in=5, bytes_out=out)
        if ended.id in self.calls:
            self.calls[ended.id].closed = (self.seconds(), 5 + out if sent else 0)

    @rule(subject=SUBJECTS, org=ORGS, granted=st.integers(0, 50_000))
    def an_administrator_tops_an_account_up(self, subject: str, org: str | None, granted: int) -> None:
        of = next(found for found in self.budgets() if found.name == "total")
        asked = self.asker(subject, org)
        [one] = [found for found in self.books.ledger._accounts if found.budget.name == of.name]
        account, _ = one.account(asked, self.books.clock.time())
        self.adjustments += 1
        wanted = Adjustment(f"a{self.adjustments}", of, account, 0, granted=granted)
        for _ in range(2):
            asyncio.run(self.books.counters.adjust(wanted))
        name = ("total", "", account.key)
        self.granted[name] = self.granted.get(name, 0) + granted

    @invariant()
    def what_is_left_is_what_the_account_says(self) -> None:
        for of in self.budgets():
            for subject, org in (("a", "acme"), ("b", None)):
                asked = self.asker(subject, org)
                if self.known(of, subject, org):
                    assert self.books.left(of, asked) == self.left(of, subject, org), of.name

    @invariant()
    def what_is_open_is_what_is_reserved(self) -> None:
        places, reserved = self.books.counters.held()
        opened = [call for call in self.calls.values() if call.closed is None]
        assert (places, reserved) == (len(opened), len(opened) * RESERVED * len(BUDGETS))
        assert sum(found for _, _, found, _ in self.books.counters.summary()) == reserved

    def admits(self, one: LimitSettings, subject: str, org: str | None) -> bool:
        mine = [
            call
            for call in self.calls.values()
            if (call.subject == subject if one.key == ("subject.id",) else call.org == org)
        ]
        now = self.nanoseconds()
        if one.concurrent is not None:
            return sum(call.closed is None for call in mine) < one.concurrent
        assert one.rate is not None
        if one.sliding:
            part = now * 64 // (one.window * SECOND)
            within = [call for call in mine if call.at * 64 // (one.window * SECOND) >= part - 64]
            return len(within) < one.rate
        interval = -(-one.window * SECOND // one.rate)
        tokens, at = Fraction(one.burst or one.rate), 0
        for call in [*mine, None]:
            then = now if call is None else call.at
            tokens, at = min(Fraction(one.burst or one.rate), tokens + Fraction(then - at, interval)), then
            if call is not None:
                tokens -= 1
        return tokens >= 1

    def period(self, of: Budget) -> str:
        return running(of, self.newest).period

    def mine(self, of: Budget, subject: str, org: str | None, period: str) -> list[Call]:
        return [
            call
            for call in self.calls.values()
            if call.periods[of.name] == period
            and (call.subject == subject or "subject.id" not in of.key)
            and (call.org == org or "subject.org" not in of.key)
        ]

    def used(self, of: Budget, calls: list[Call]) -> int:
        part = self.seconds() * 64 // of.window if of.window else 0
        found = 0
        for call in calls:
            if call.closed is None:
                found += RESERVED
            elif not of.window or call.closed[0] * 64 // of.window >= part - 64:
                found += call.closed[1]
        return found

    def name(self, of: Budget, subject: str, org: str | None) -> tuple[str, str, str]:
        asked = self.asker(subject, org)
        [one] = [found for found in self.books.ledger._accounts if found.budget.name == of.name]
        account, _ = one.account(asked, self.newest)
        return (of.name, account.period, account.key)

    def known(self, of: Budget, subject: str, org: str | None) -> bool:
        """Whether it was asked for in the running period: an account begins then."""
        self.newest = max(self.newest, self.books.clock.wall)
        return bool(self.mine(of, subject, org, self.period(of)))

    def hand_over(self, of: Budget, subject: str, org: str | None) -> None:
        """When the account is asked for in a period for the first time."""
        if of.carry and not self.known(of, subject, org):
            self.handed[self.name(of, subject, org)] = self.over(of, subject, org)

    def over(self, of: Budget, subject: str, org: str | None) -> int:
        begins = running(of, self.newest).begins
        earlier = self.mine(of, subject, org, running(of, begins - 1).period)
        if not earlier:
            return 0
        amount = self.amounts[of.name]
        return min(amount, max(0, amount - self.used(of, earlier))) * of.carry // 1000

    def left(self, of: Budget, subject: str, org: str | None) -> int:
        name = self.name(of, subject, org)
        more = self.granted.get(name, 0)
        if of.carry:
            more += self.handed.get(name, 0) if self.known(of, subject, org) else self.over(of, subject, org)
        return self.amounts[of.name] + more - self.used(of, self.mine(of, subject, org, self.period(of)))


def budget_with(of: Budget, amount: int) -> Budget:
    return budget(
        of.name, amount, of.unit, key=of.key, period=of.period, window=of.window, carry=of.carry, warn_at=of.warn_at
    )


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=examples(60), stateful_step_count=50, deadline=None)


class Long(Story):
    """The same for as long as it takes."""


TestLong = pytest.mark.timeout(1200)(pytest.mark.slow(Long.TestCase))
TestLong.settings = settings(max_examples=1000, stateful_step_count=100, deadline=None)
