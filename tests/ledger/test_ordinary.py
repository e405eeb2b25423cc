"""What a caller was given last and is given again: the same, call by call, as where each call is looked at anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.accounts import Adjustment, Ask, Budget, ChargeAsk, RateAsk
from gateway.core.exchange import Exchange, Principal
from gateway.core.reasons import Refusal
from gateway.ledger.counters import RATES
from gateway.ledger.held import PLACES
from gateway.ledger.ledger import Asking
from gateway.ledger.limits import LimitSettings
from tests.ledger.books import Books, budget
from tests.thorough import examples

WHO = {"a": Principal("agent:idp/a", "agent", org="acme"), "b": Principal("agent:idp/b", "agent", org="acme")}
LIMITS = [
    LimitSettings("rate", ("subject.id", "route"), rate=6, window=60, burst=4),
    LimitSettings("shadow", ("subject.org",), rate=3, window=60, shadow=True),
    LimitSettings("at-once", ("subject.org",), concurrent=5),
]
CALLS = budget("calls", 12, "calls", warn_at=(500, 800), period="hour", carry=500)
DOLLARS = budget("dollars", 90_000, key=("subject.id",), unit="usd", warn_at=(900,), period="total")


class Pair:
    """The same call of the same caller in two ledgers; in one of them every call is its principal's first."""

    def __init__(self, kept: Books, anew: Books, who: str, tool: str, route: Any, upstream: Any) -> None:
        self.kept = kept.of(kept.tool(tool), principal=WHO[who], route=route, upstream=upstream)
        self.anew = anew.of(anew.tool(tool), principal=replace(WHO[who]), route=route, upstream=upstream)


def facts(found: Exchange) -> tuple[Any, ...]:
    charges = [(one.budget.name, one.account, one.reserved, one.marks, one.settled) for one in found.charges]
    return charges, found.limits, found.limit_headers, [place.name for place in found.places], found.shadowed


class Story(RuleBasedStateMachine):
    """Calls of two callers come and end, time passes, budgets and limits change, administrators act."""

    open = Bundle("open")

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.anew = Books([CALLS, DOLLARS], LIMITS), Books([CALLS, DOLLARS], LIMITS)
        first = self.kept.tool()
        self.route, self.upstream = first.route, first.upstream
        self.ran: list[Pair] = []
        self.adjusted = 0

    @rule(target=open, who=st.sampled_from("ab"), tool=st.sampled_from(["weather/get", "weather/get", "weather/free"]))
    def call(self, who: str, tool: str) -> Pair:
        pair = Pair(self.kept, self.anew, who, tool, self.route, self.upstream)
        said = [self.kept.take(pair.kept), self.anew.take(pair.anew)]
        assert said[0] == said[1], said
        assert facts(pair.kept) == facts(pair.anew)
        if not isinstance(said[0], Refusal):
            self.ran.append(pair)
        return pair

    @rule(pair=consumes(open), usd=st.sampled_from([10_000, 10_000, 0, 25_000]), sent=st.booleans())
    def end(self, pair: Pair, usd: int, sent: bool) -> None:
        if pair in self.ran:
            self.ran.remove(pair)
            assert self.kept.settle(pair.kept, usd, sent=sent) == self.anew.settle(pair.anew, usd, sent=sent)
            assert facts(pair.kept) == facts(pair.anew)

    @rule(seconds=st.sampled_from([0.5, 10, 60, 3600]))
    def passes(self, seconds: float) -> None:
        for books in (self.kept, self.anew):
            books.clock.pass_(seconds)

    @rule(
        calls=st.sampled_from([12, 12, 6, 20]),
        burst=st.sampled_from([4, 4, 2]),
        marks=st.sampled_from([(500, 800), (250,)]),
    )
    def reloads(self, calls: int, burst: int, marks: tuple[int, ...]) -> None:
        budgets = [replace(CALLS, amount=calls, warn_at=marks), DOLLARS]
        for books in (self.kept, self.anew):
            books.reload(budgets, [replace(LIMITS[0], burst=burst), *LIMITS[1:]])

    @rule(
        dollars=st.booleans(),
        done=st.sampled_from(
            [{"granted": 5}, {"granted": 5, "until": 60}, {"forgiven": 3}, {"most": 4}, {"unset": True}]
        ),
    )
    def administers(self, dollars: bool, done: dict[str, Any]) -> None:
        self.adjusted += 1
        for books in (self.kept, self.anew):
            [one] = [of for of in books.ledger._accounts if of.budget.name == ("dollars" if dollars else "calls")]
            found = books.of(books.tool(), principal=WHO["a"])
            known = one.known(found, books.clock.time())
            scaled = {
                name: int(books.clock.time()) + number if name == "until" else number * (10_000 if dollars else 1)
                for name, number in done.items()
            }  # fmt: skip
            if "unset" in done:
                scaled = dict(done)
            made = Adjustment(f"adjust-{self.adjusted}", one.budget, known.account, known.span.ends, **scaled)
            asyncio.run(books.counters.adjust(made))

    @invariant()
    def is_counted_alike(self) -> None:
        assert self.kept.counters.held() == self.anew.counters.held()
        assert self.kept.counters.summary() == self.anew.counters.summary()

    def teardown(self) -> None:
        for pair in self.ran:
            self.kept.settle(pair.kept, 0)
            self.anew.settle(pair.anew, 0)
        assert self.kept.counters.held() == (0, 0)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=examples(60), stateful_step_count=60, deadline=None)


def taken_again(books: Books, found: Exchange) -> bool:
    """Whether this call was given what its caller was given last: then it is kept as it was."""
    before = [caller.ordinary for caller in books.ledger._callers.values()]
    assert books.take(found) is None
    after = [caller.ordinary for caller in books.ledger._callers.values()]
    return bool(before) and all(one is two for one, two in zip(before, after, strict=True))


def like(first: Exchange, books: Books, **more: Any) -> Exchange:
    return books.of(
        books.tool(), **({"principal": first.principal, "route": first.route, "upstream": first.upstream} | more)
    )


def test_the_ordinary_is_taken_again_and_what_is_not_is_looked_at() -> None:
    plain = budget(amount=10, warn_at=(500,))
    books = Books([plain], [LimitSettings("at-once", ("subject.id",), concurrent=6)])
    first = books.tool()
    first.principal = WHO["a"]
    assert not taken_again(books, first)
    assert [taken_again(books, like(first, books)) for _ in range(5)] == [True, True, True, False, True], "a soft mark"
    assert books.take(like(first, books)) is not None, "six at once"


def test_a_rolling_account_and_a_sliding_window_are_never_ordinary() -> None:
    for budgets, limits in (
        ([budget(period="rolling", window=60)], []),
        ([], [LimitSettings("l", ("route",), rate=9, sliding=True)]),
    ):
        books = Books(budgets, limits)
        first = books.tool()
        first.principal = WHO["a"]
        assert books.take(first) is None
        assert books.take(like(first, books)) is None
        assert [caller.ordinary for caller in books.ledger._callers.values()] == [None]


def test_what_a_stream_reserves_more_is_its_own() -> None:
    spent: Budget = budget(amount=10_000_000, unit="bytes")
    books = Books([spent])
    first = books.tool()
    first.principal = WHO["a"]
    calls = [first, like(first, books), like(first, books)]
    for found in calls:
        assert books.take(found) is None
    of = calls[1].charges[0]
    assert books.counters.grow(calls[1].id, [ChargeAsk(spent, of.account, 500, spent.amount, 0)])
    whole = sum(found.charges[0].reserved for found in calls) + 500
    assert books.counters.held() == (0, whole)
    for found in calls:
        books.counters.close(found.id, [])
    assert books.counters.held() == (0, 0)


def test_places_that_were_forgotten_in_between_are_found_anew() -> None:
    limits = [LimitSettings("at-once", ("subject.id",), concurrent=2)]
    books = Books([], limits)
    first = books.tool()
    first.principal = WHO["a"]
    assert books.take(first) is None
    books.settle(first)
    for number in range(PLACES + 1):
        other = books.of(books.tool(), subject=f"agent:idp/{number}")
        assert books.take(other) is None
        books.settle(other)
    calls = [like(first, books), books.of(books.tool(), subject=WHO["a"].id, org="acme"), like(first, books)]
    assert [books.take(found) is None for found in calls] == [True, True, False]


def adjusted(books: Books, **members: Any) -> None:
    [one] = books.ledger._accounts
    found = one.known(books.of(books.tool(), principal=WHO["a"]), books.clock.time())
    made = Adjustment(f"a-{members}", one.budget, found.account, found.span.ends, **members)
    asyncio.run(books.counters.adjust(made))


def test_an_account_that_was_set_is_looked_at_again() -> None:
    books = Books([budget(amount=10)])
    first = books.tool()
    first.principal = WHO["a"]
    assert not taken_again(books, first)
    assert taken_again(books, like(first, books))
    adjusted(books, most=3)
    assert [books.take(like(first, books)) is None for _ in range(2)] == [True, False]
    adjusted(books, granted=2)
    assert [books.take(like(first, books)) is None for _ in range(3)] == [True, True, False]


def test_a_soft_mark_that_counts_as_not_told_is_told_again() -> None:
    books = Books([budget(amount=10, warn_at=(500, 900))])
    first = books.tool()
    first.principal = WHO["a"]
    for _ in range(6):
        found = like(first, books)
        assert books.take(found) is None
        books.settle(found)
    adjusted(books, forgiven=4)
    told = [like(first, books) for _ in range(4)]
    for found in told:
        assert books.take(found) is None
    assert [found.charges[0].marks for found in told] == [(), (), (500,), ()]


def test_a_budget_that_an_older_snapshot_changed_in_between_is_looked_at_again() -> None:
    books = Books([budget(amount=3)])
    first = books.tool()
    first.principal = WHO["a"]
    older = Asking([], [budget(amount=9)], books.counters, books.clock, books.memory)
    assert not taken_again(books, first)
    assert taken_again(books, like(first, books))
    late = like(first, books)
    assert older.take(late) is None
    assert books.take(like(first, books)) is not None
    assert books.counters._standings(budget(amount=3)).budget.amount == 3


def test_a_rate_that_was_forgotten_in_between_is_counted_where_all_count() -> None:
    books = Books([], [LimitSettings("rate", ("subject.id",), rate=2, window=2)])
    first = books.tool()
    first.principal = WHO["a"]
    assert books.take(first) is None
    books.clock.pass_(3600)
    for number in range(RATES):
        one = RateAsk(f"other-{number}", "k", 10**9, 10**9, 0, 0, False)
        assert books.counters.take(Ask(f"other-{number}", [one], [], [])).ok
    calls = [like(first, books), books.of(books.tool(), subject=WHO["a"].id, org="acme"), like(first, books)]
    assert [books.take(found) is None for found in calls] == [True, True, False]


def test_what_one_rate_and_one_place_say_is_the_same_when_it_is_kept() -> None:
    for rate in (
        LimitSettings("rate", ("subject.id",), rate=7, window=60, burst=9),
        LimitSettings("many", ("subject.id",), rate=1 << 22, window=60),
        LimitSettings("slow", ("subject.id",), rate=1, window=1 << 24, burst=20),
    ):
        limits = [rate, LimitSettings("at-once", ("subject.id",), concurrent=6)]
        kept, anew = Books([], limits), Books([], limits)
        first = kept.tool()
        open_pairs: list[Pair] = []
        for step in range(40):
            pair = Pair(kept, anew, "a", "weather/get", first.route, first.upstream)
            assert kept.take(pair.kept) == anew.take(pair.anew)
            assert facts(pair.kept) == facts(pair.anew)
            open_pairs.append(pair)
            for books in (kept, anew):
                books.clock.pass_(step % 5 * 1.7)
            while len(open_pairs) > step % 4:
                done = open_pairs.pop()
                kept.settle(done.kept)
                anew.settle(done.anew)
