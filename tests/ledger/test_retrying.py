"""The share of repeats: never above it in any window, whatever comes when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from gateway.core.attempts import RetrySettings
from gateway.core.snapshot import Upstream
from gateway.ledger.retrying import PARTS, Retrying, Share


def upstream(retries: RetrySettings | None) -> Upstream:
    return Upstream("files", "http", "http", "127.0.0.1", 80, "127.0.0.1", "", retries=retries)


@settings(max_examples=examples(300), deadline=None)
@given(
    story=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80),
    budget=st.sampled_from([0, 100, 250, 1000]),
    least=st.integers(0, 3),
)
def test_in_no_window_is_more_repeated_than_its_share(
    story: list[tuple[int, int, int]], budget: int, least: int
) -> None:
    """Time goes in quarters of a part; a window that ends with any repeat has at most its share of repeats."""
    share = Share(RetrySettings(budget=budget, least=least, window_s=10.0))
    now = 100.0
    calls: list[float] = []
    repeats: list[float] = []
    for quarters, called, tried in story:
        now += quarters / 4
        for _ in range(called):
            share.called(now)
            calls.append(now)
        for _ in range(tried):
            if share.repeat(now):
                repeats.append(now)
                begins = int(now) - PARTS  # the oldest part that is still counted
                of = sum(1 for at in calls if at >= begins)
                assert sum(1 for at in repeats if at >= begins) <= max(least, of * budget // 1000)
                assert sum(1 for at in repeats if at > now - 10.0) <= max(least, of * budget // 1000)


def test_a_share_that_was_used_up_comes_back_when_its_window_has_passed() -> None:
    share = Share(RetrySettings(budget=100, least=0, window_s=10.0))
    for _ in range(10):
        share.called(0.0)
    assert [share.repeat(0.5), share.repeat(0.5), share.repeat(9.9)] == [True, False, False]
    for _ in range(10):
        share.called(12.0)
    assert share.repeat(12.0)


def test_pauses_double_and_nobody_waits_as_long_as_the_next_one() -> None:
    drawn = iter([0.0, 0.999, 0.5])
    retrying = Retrying(lambda: 0.0, lambda: next(drawn))
    to = upstream(RetrySettings(pause_s=0.1))
    assert [round(retrying.pause(to, attempt), 4) for attempt in (2, 2, 3)] == [0.05, 0.1499, 0.2]


def test_a_reload_that_changes_nothing_forgets_nothing() -> None:
    retrying = Retrying(lambda: 0.0, lambda: 0.5)
    to = upstream(RetrySettings(least=1))
    retrying.adopt([to])
    assert [retrying.allowed(to), retrying.allowed(to)] == [True, False]
    retrying.adopt([upstream(RetrySettings(least=1))])
    assert retrying.allowed(to) is False
    retrying.adopt([upstream(RetrySettings(least=2))])
    assert retrying.allowed(to) is True
    assert retrying.counts() == {"files": (2, 2)}
    retrying.adopt([upstream(None)])
    assert retrying.allowed(to) is False
