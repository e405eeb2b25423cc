"""What is kept of a caller and its route: the very same principal, and still all is counted where it belongs."""

from __future__ import annotations

from gateway.core.exchange import Exchange, Principal
from gateway.ledger.callers import KEPT_WORDS, Wording
from gateway.ledger.limits import LimitSettings, Places
from tests.ledger.books import Books, MovedClock, budget
from tests.ledger.exchanges import HandClock, Limits, exchange

ANN = Principal("user:idp/ann", "user", org="acme", agent="planner")


def again(first: Exchange, **other: str) -> Exchange:
    """One more call of the same principal on the same route and upstream, as the objects that they are."""
    found = exchange(**other)
    found.principal = first.principal
    if "route" not in other:
        found.route = first.route
    if "upstream" not in other:
        found.upstream = first.upstream
    return found


def test_a_caller_is_counted_apart_by_every_field_of_the_key() -> None:
    for field, other in (
        ("route", {"route": "other"}),
        ("upstream", {"upstream": "other"}),
        ("resource.id", {"resource": "weather/other"}),
        ("peer", {"peer": "192.0.2.2"}),
    ):
        limits = Limits([LimitSettings("l", (field,), rate=1)], HandClock())
        first = exchange()
        assert limits.take(first) is None
        assert limits.take(again(first)) is not None, field
        assert limits.take(again(first, **other)) is None, field
        assert limits.take(again(first, **other)) is not None, field
        assert limits.take(again(first)) is not None, field


def test_two_runs_of_a_caller_are_counted_apart() -> None:
    limits = Limits([LimitSettings("l", ("run",), rate=1)], HandClock())
    for run in ("1", "2", "3"):
        found = exchange()
        found.principal, found.trace_id = ANN, run
        assert limits.take(found) is None


def test_what_is_kept_counts_for_the_very_caller_only() -> None:
    first = exchange()
    elsewhere, other = again(first, route="other"), again(first)
    other.principal = ANN
    for field, second in (("subject.id", other), ("route", elsewhere)):
        limits = Limits([LimitSettings("l", (field,), rate=2)], HandClock())
        for found, times in ((first, 2), (second, 1)):
            for _ in range(times):
                assert limits.take(again(found)) is None
        kept = limits.ledger._callers
        one, two = kept
        kept[one], kept[two] = kept[two], kept[one]  # as if both were found at the same place
        assert [limits.take(again(found)) is None for found in (first, second, second)] == [False, True, False]


def test_a_caller_who_stays_has_an_account_of_the_new_period() -> None:
    hourly = budget(name="hourly", amount=1, period="hour")
    books = Books([hourly], clock=MovedClock("2026-11-10T12:59:59+00:00"))
    first = books.tool()
    route, upstream = first.route, first.upstream

    def call() -> Exchange:
        return books.of(books.tool(), route=route, upstream=upstream, principal=ANN)

    for period in ("2026-11-10T12:00:00Z", "2026-11-10T13:00:00Z"):
        taken, refused = call(), call()
        assert books.take(taken) is None
        assert books.take(refused) is not None
        assert books.settle(taken) == [1]
        assert taken.charges[0].account.period == period
        books.clock.pass_(1)


def test_within_a_place_of_its_own_a_caller_needs_no_other() -> None:
    limits = Limits([LimitSettings("one", ("subject.id",), concurrent=1)], HandClock())
    opened = exchange()
    assert limits.take(opened) is None
    within = again(opened)
    within.held = opened.places
    assert limits.take(within) is None
    assert within.places == []
    assert limits.take(again(opened)) is not None


def test_words_that_are_kept_are_bounded_whoever_asks() -> None:
    wording = Wording([], [Places(LimitSettings("at-once", ("subject.id",), concurrent=1), 1)])
    for left in range(KEPT_WORDS + 10):
        assert wording.of((left,)).header == (b"ratelimit", f'"at-once";r={left}'.encode())
        assert len(wording._kept) <= KEPT_WORDS
