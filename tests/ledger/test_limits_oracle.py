"""The limits against the plainest possible account of them, over random stories."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.exchange import Exchange
from gateway.ledger.limits import LimitSettings
from tests.ledger.exchanges import HandClock, Limits, exchange
from tests.thorough import examples

SECOND = 1_000_000_000
SUBJECTS = st.sampled_from(["a", "A", "b"])
ORGS = st.sampled_from(["acme", None])
STEPS = st.one_of(st.just(0), st.integers(0, 3 * SECOND), st.integers(0, 300 * SECOND))

SETTINGS = [
    LimitSettings("quick", ("subject.id",), rate=3, window=1, burst=2),
    LimitSettings("slow", ("subject.id", "subject.org"), rate=7, window=60, burst=5),
    LimitSettings("whole", ("subject.org",), rate=11, window=60),
    LimitSettings("at-once", ("subject.org",), concurrent=3),
    LimitSettings("mine", ("subject.id", "subject.org"), concurrent=2),
]


class Bucket:
    """Tokens as exact fractions: full at the start, one more each interval, one less for each call."""

    def __init__(self, one: LimitSettings) -> None:
        assert one.rate is not None
        self.size = one.rate if one.burst is None else one.burst
        self.interval = -(-one.window * SECOND // one.rate)
        self.tokens, self.at = Fraction(self.size), 0

    def level(self, now: int) -> Fraction:
        return min(Fraction(self.size), self.tokens + Fraction(now - self.at, self.interval))

    def take(self, now: int) -> None:
        self.tokens, self.at = self.level(now) - 1, now


def key(one: LimitSettings, asked: Exchange) -> tuple[str, ...]:
    assert asked.principal is not None
    fields = {"subject.id": asked.principal.id, "subject.org": asked.principal.org}
    return (one.name, *(repr(fields[name]) for name in one.key))


class Story(RuleBasedStateMachine):
    """Calls come, end, time passes, the configuration is loaded again."""

    open = Bundle("open")

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock(5 * SECOND)
        self.limits = Limits(SETTINGS, self.clock)
        self.buckets: dict[tuple[str, ...], Bucket] = {}
        self.running: dict[tuple[str, ...], int] = {}

    @rule(step=STEPS)
    def time_passes(self, step: int) -> None:
        self.clock.nanoseconds += step

    @rule()
    def the_configuration_is_loaded_again(self) -> None:
        fresh = Limits(list(reversed(SETTINGS)), self.clock)
        fresh.carry(self.limits)
        self.limits = fresh

    @rule(target=open, subject=SUBJECTS, org=ORGS)
    def a_call_comes(self, subject: str, org: str | None) -> Exchange:
        asked, now = exchange(subject, org=org), int(self.clock.monotonic() * SECOND)
        expected = []
        for one in SETTINGS:
            name = key(one, asked)
            if one.rate is not None and self.buckets.setdefault(name, Bucket(one)).level(now) < 1:
                expected.append(one.name)
            if one.concurrent is not None and self.running.get(name, 0) >= one.concurrent:
                expected.append(one.name)
        refusal = self.limits.take(asked)
        assert (refusal is not None) == bool(expected)
        if refusal is not None:
            assert set(refusal.rule.split(", ")) == set(expected)
            assert asked.places == []
        else:
            for one in SETTINGS:
                name = key(one, asked)
                if one.rate is not None:
                    self.buckets[name].take(now)
                else:
                    self.running[name] = self.running.get(name, 0) + 1
        self.compare(asked, now)
        return asked

    @rule(ended=consumes(open))
    def a_call_ends(self, ended: Exchange) -> None:
        if ended.places:
            for one in SETTINGS:
                if one.concurrent is not None:
                    self.running[key(one, ended)] -= 1
        for _ in range(2):
            self.limits.release(ended)

    def compare(self, asked: Exchange, now: int) -> None:
        """What the record says is left is what the account says."""
        left = {fact["name"]: fact["remaining"] for fact in asked.limits}
        assert len(left) == len(SETTINGS)
        for one in SETTINGS:
            name = key(one, asked)
            if one.rate is not None:
                assert left[one.name] == int(self.buckets[name].level(now))
            elif one.concurrent is not None:
                assert left[one.name] == one.concurrent - self.running.get(name, 0)

    @invariant()
    def permits_and_calls_agree(self) -> None:
        places, _ = self.limits.counters.held()
        assert places == sum(self.running.values())


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)


@settings(max_examples=examples(100), deadline=None)
@given(
    rate=st.integers(1, 50),
    window=st.sampled_from([1, 60, 3600]),
    burst=st.integers(1, 20),
    steps=st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=200),
)
def test_no_span_of_time_sees_more_than_burst_and_rate_allow(
    rate: int, window: int, burst: int, steps: list[int]
) -> None:
    clock = HandClock(SECOND)
    limits = Limits([LimitSettings("l", ("route",), rate=rate, window=window, burst=burst)], clock)
    times = []
    for step in steps:
        clock.nanoseconds += step
        if limits.take(exchange()) is None:
            times.append(int(clock.monotonic() * SECOND))
    for first in range(len(times)):
        for last in range(first, len(times)):
            span = Fraction(times[last] - times[first], SECOND)
            assert last - first + 1 <= burst + span * rate / window
