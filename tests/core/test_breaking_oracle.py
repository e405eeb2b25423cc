"""The breaker against an oracle that keeps every call it was told of and reckons anew each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from thorough import examples

from gateway.core.breaking import PARTS, Breaker, BreakerSettings, End, Hold, State

MODES = st.builds(
    BreakerSettings,
    failures=st.integers(1, 6),
    open_s=st.sampled_from([0.5, 1.0, 4.0]),
    open_most_s=st.sampled_from([0.0, 4.0, 20.0]),
    half_open=st.integers(1, 3),
    window_s=st.sampled_from([5.0, 10.0]),
    calls=st.integers(1, 8),
    rate=st.sampled_from([0, 200, 500, 1000]),
    slow_s=st.just(1.0),
    slow_rate=st.sampled_from([0, 300, 1000]),
)


@dataclass
class Oracle:
    """The rules as one would tell them, slowly."""

    rules: BreakerSettings
    now: float = 1000.0
    state: State = State.CLOSED
    held: Hold = Hold.AUTO
    until: float = 0.0
    since: int = 0  # of the state
    calm_since: float = float("-inf")
    level: int = 0
    alone: float = 0.0
    in_a_row: int = 0
    past: list[tuple[float, bool, bool]] = field(default_factory=list)
    probes: int = 0
    good: int = 0
    turns: list[tuple[State, State]] = field(default_factory=list)

    def seen(self) -> State:
        ready = self.state is State.OPEN and self.held is Hold.AUTO and self.now >= self.until
        return State.HALF_OPEN if ready else self.state

    def turn(self, state: State) -> None:
        if state is not self.state:
            self.turns.append((self.state, state))
        self.state, self.since, self.probes, self.good = state, self.since + 1, 0, 0

    def admit(self) -> bool:
        if self.state is State.CLOSED:
            return True
        if self.seen() is State.OPEN or self.held is not Hold.AUTO:
            return False
        if self.state is State.OPEN:
            self.turn(State.HALF_OPEN)
        if self.probes + self.good == self.rules.half_open:
            return False
        self.probes += 1
        return True

    def open(self, again: bool) -> None:
        self.level = self.level + 1 if again else 0
        most = max(self.rules.open_s, self.rules.open_most_s)
        self.alone = min(most, self.rules.open_s * 2**self.level)
        self.until = self.now + self.alone
        self.past, self.in_a_row = [], 0
        self.turn(State.OPEN)

    def end(self, since: int, end: End, slow: bool) -> None:
        if since != self.since:
            return
        if self.state is State.HALF_OPEN:
            self.probes -= 1
            if end is End.FAILED or (end is End.ANSWERED and slow and self.rules.slow_rate):
                self.open(True)
            elif end is End.ANSWERED:
                self.good += 1
                if self.good == self.rules.half_open:
                    self.past, self.in_a_row, self.calm_since = [], 0, self.now
                    self.turn(State.CLOSED)
        elif end is not End.UNKNOWN and self.held is Hold.AUTO:
            failed = end is End.FAILED
            self.in_a_row = self.in_a_row + 1 if failed else 0
            self.past.append((self.now, failed, slow and not failed))
            if self.in_a_row >= self.rules.failures or self.too_many(failed, slow):
                self.open(self.now - self.calm_since < self.alone)

    def too_many(self, failed: bool, slow: bool) -> bool:
        width = self.rules.window_s / PARTS
        counted = [item for item in self.past if int(item[0] / width) > int(self.now / width) - PARTS]
        calls = len(counted)
        if calls < self.rules.calls or not (failed or slow):
            return False
        bad, late = sum(item[1] for item in counted), sum(item[2] for item in counted)
        if self.rules.rate and bad * 1000 >= self.rules.rate * calls:
            return True
        return bool(self.rules.slow_rate and late * 1000 >= self.rules.slow_rate * calls)

    def hold(self, wanted: Hold) -> None:
        if wanted is self.held:
            return
        self.held, self.level, self.calm_since = wanted, 0, float("-inf")
        self.past, self.in_a_row = [], 0
        self.turn(State.OPEN if wanted is Hold.OPEN else State.CLOSED)


STEPS: Counter[str] = Counter()


class Story(RuleBasedStateMachine):
    """Calls overlap as they like: each is let through at some time and ends, or is forgotten, at some other."""

    @initialize(rules=MODES)
    def begin(self, rules: BreakerSettings) -> None:
        self.turns: list[tuple[State, State]] = []
        self.breaker = Breaker(rules, None, lambda before, after, why: self.turns.append((before, after)))
        self.oracle = Oracle(rules)
        self.under_way: list[tuple[int, int]] = []

    @rule(quarters=st.integers(1, 24))
    def time_passes(self, quarters: int) -> None:
        self.oracle.now += quarters / 4

    @rule()
    def a_call_comes(self) -> None:
        admitted = self.breaker.admit(self.oracle.now)
        assert (admitted is not None) == self.oracle.admit()
        if admitted is not None:
            self.under_way.append((admitted, self.oracle.since))

    @rule(ends=st.lists(st.tuples(st.sampled_from(End), st.booleans()), min_size=1, max_size=6))
    def calls_come_and_end_at_once(self, ends: list[tuple[End, bool]]) -> None:
        for end, slow in ends:
            self.a_call_comes()
            if self.under_way:
                self.over(-1, end, slow)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 1000), end=st.sampled_from(End), slow=st.booleans())
    def a_call_ends(self, which: int, end: End, slow: bool) -> None:
        self.over(which % len(self.under_way), end, slow)

    def over(self, which: int, end: End, slow: bool) -> None:
        admitted, since = self.under_way.pop(which)
        self.breaker.ended(admitted, end, self.oracle.now, slow)
        self.oracle.end(since, end, slow)

    @rule(wanted=st.sampled_from(Hold))
    def somebody_holds_it(self, wanted: Hold) -> None:
        self.breaker.hold(wanted)
        self.oracle.hold(wanted)

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "breaker"):
            return
        STEPS["taken"] += 1
        now = self.oracle.now
        assert self.breaker.state(now) is self.oracle.seen()
        assert self.turns == self.oracle.turns
        ready = self.oracle.state is State.OPEN and self.oracle.held is Hold.AUTO
        assert self.breaker.wait(now) == (max(0.0, self.oracle.until - now) if ready else 0.0)
        for before, after in pairwise(self.turns):
            assert before[1] is after[0]


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)


@pytest.mark.slow
def test_they_agree_over_a_hundred_thousand_steps() -> None:
    before = STEPS["taken"]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Story, settings=settings(max_examples=1600, stateful_step_count=80, deadline=None, database=None)
    )
    assert STEPS["taken"] - before >= 100_000
