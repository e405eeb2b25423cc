from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.reasons import Reason, Refusal
from gateway.ledger.limits import LimitSettings, Rate
from gateway.ledger.rates import Arrivals
from tests.ledger.exchanges import HandClock, Limits, exchange

PER_SUBJECT = LimitSettings("per-subject", ("subject.id",), rate=60, window=60, burst=3)
AT_ONCE = LimitSettings("at-once", ("subject.org",), concurrent=2)


def take(limits: Limits, asking: Exchange | None = None, **who: Any) -> Refusal | None:
    return limits.take(asking or exchange(**who))


def admitted(limits: Limits, times: int, **who: Any) -> int:
    return sum(take(limits, **who) is None for _ in range(times))


def only_rate(limits: Limits) -> Arrivals:
    [found] = limits.counters._rates.values()
    return found


def headers(asked: Exchange) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in asked.limit_headers}


def test_without_limits_nothing_is_said_and_nothing_is_taken() -> None:
    asked = exchange()
    assert take(Limits([], HandClock()), asked) is None
    assert (asked.limits, asked.limit_headers, asked.places) == ([], [], [])


def test_a_burst_from_rest_and_then_the_even_rate() -> None:
    clock = HandClock()
    limits = Limits([PER_SUBJECT], clock)
    assert admitted(limits, 10) == 3
    clock.pass_(0.999)
    assert admitted(limits, 10) == 0
    clock.pass_(0.001)
    assert admitted(limits, 10) == 1
    clock.pass_(2)
    assert admitted(limits, 10) == 2
    clock.pass_(1000)
    assert admitted(limits, 10) == 3


def test_without_a_burst_all_of_a_window_may_come_at_once() -> None:
    limits = Limits([LimitSettings("l", ("route",), rate=100)], HandClock())
    assert admitted(limits, 200) == 100


def test_a_refusal_says_when_to_come_back_rounded_up() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("l", ("route",), rate=4, window=10, burst=1)], clock)
    take(limits)
    refusal = take(limits)
    assert refusal is not None
    assert refusal.reason is Reason.RATE_LIMITED
    assert refusal.retry_after == 3  # 2.5 s
    assert refusal.rule == "l"
    clock.pass_(2.4)
    soon = take(limits)
    assert soon is not None
    assert soon.retry_after == 1
    clock.pass_(0.1)
    assert take(limits) is None


def test_who_comes_back_when_told_is_let_in() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("l", ("route",), rate=7, window=60, burst=2)], clock)
    for _ in range(50):
        refusal = take(limits)
        if refusal is not None:
            assert refusal.retry_after is not None
            clock.pass_(refusal.retry_after)
            assert take(limits) is None


def test_headers_name_each_limit_with_its_policy_and_what_is_left() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("per-agent", ("subject.id",), rate=100, window=60, burst=20), AT_ONCE], clock)
    asked = exchange()
    take(limits, asked)
    assert headers(asked) == {
        "ratelimit-policy": '"per-agent";q=100;w=60, "at-once";q=2;qu="concurrent-requests"',
        "ratelimit": '"per-agent";r=19;t=1, "at-once";r=1',
    }
    assert asked.limits == [{"name": "per-agent", "remaining": 19}, {"name": "at-once", "remaining": 1}]


def test_headers_of_a_refusal_say_what_is_left_and_the_record_which_limit_it_was() -> None:
    limits = Limits([LimitSettings("wide", ("route",), rate=10, window=10), PER_SUBJECT], HandClock())
    assert admitted(limits, 3) == 3
    asked = exchange()
    refusal = take(limits, asked)
    assert refusal is not None
    assert refusal.rule == "per-subject"
    assert refusal.data == {"limits": ["per-subject"]}
    assert headers(asked)["ratelimit"] == '"wide";r=7;t=3, "per-subject";r=0;t=3'
    assert asked.limits == [
        {"name": "wide", "remaining": 7},
        {"name": "per-subject", "remaining": 0, "exceeded": True},
    ]


def test_a_refusal_takes_nothing_from_any_limit() -> None:
    clock = HandClock()
    wide = LimitSettings("wide", ("route",), rate=100, window=60)
    limits = Limits([wide, PER_SUBJECT, AT_ONCE], clock)
    first, second = exchange("one"), exchange("two")
    assert take(limits, first) is None
    assert take(limits, second) is None
    for _ in range(500):
        third = exchange("three")
        refusal = take(limits, third)
        assert refusal is not None
        assert refusal.rule == "at-once"
        assert third.places == []
    limits.release(first)
    asked = exchange("three")
    assert take(limits, asked) is None
    assert asked.limits[0] == {"name": "wide", "remaining": 97}
    assert asked.limits[1] == {"name": "per-subject", "remaining": 2}


def test_a_permit_counts_until_it_is_released_and_only_once() -> None:
    limits = Limits([AT_ONCE], HandClock())
    one, two = exchange(), exchange()
    assert take(limits, one) is None
    assert take(limits, two) is None
    assert take(limits) is not None
    limits.release(one)
    limits.release(one)
    three = exchange()
    assert take(limits, three) is None
    refusal = take(limits)
    assert refusal is not None
    assert refusal.retry_after == 1
    for held in (two, three):
        limits.release(held)
    assert limits.counters.held() == (0, 0)


FIELDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("subject.id", {"subject": "agent:idp/a"}, {"subject": "agent:idp/b"}),
    ("subject.id", {"subject": "alice"}, {"subject": "Alice"}),
    ("subject.id", {"subject": "\u00e9"}, {"subject": "e\u0301"}),
    ("subject.id", {"subject": "a"}, {"subject": "a "}),
    ("subject.org", {"org": "acme"}, {"org": None}),
    ("subject.org", {"org": "None"}, {"org": None}),
    ("agent", {"agent": "x"}, {"agent": None}),
    ("route", {"route": "one"}, {"route": "two"}),
    ("upstream", {"upstream": "one"}, {"upstream": "two"}),
    ("resource.id", {"resource": "one"}, {"resource": "two"}),
    ("peer", {"peer": "192.0.2.1"}, {"peer": "192.0.2.2"}),
]


@pytest.mark.parametrize(("field", "one", "other"), FIELDS)
def test_each_field_counts_apart_and_nothing_else_does(field: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    limits = Limits([LimitSettings("l", (field,), rate=1)], HandClock())
    assert take(limits, **one) is None
    assert take(limits, **one) is not None
    assert take(limits, **other) is None
    elsewhere = {
        "subject.id": {"peer": "x", "org": "x", "agent": "x", "route": "x", "upstream": "x", "resource": "x"},
    }.get(field, {"subject": "x"})
    assert take(limits, **{**elsewhere, **one}) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"subject": "a", "org": "b/c"}, {"subject": "a/b", "org": "c"}),
        ({"subject": "a,b", "org": "c"}, {"subject": "a", "org": "b,c"}),
        ({"subject": "a\0b", "org": "c"}, {"subject": "a", "org": "b\0c"}),
        ({"subject": "('a',", "org": ")"}, {"subject": "('a'", "org": ",)"}),
        ({"subject": "a", "org": None}, {"subject": "a", "org": ""}),
        ({"subject": "a", "org": "b"}, {"subject": "b", "org": "a"}),
    ],
)
def test_keys_of_several_fields_cannot_be_mistaken_for_each_other(one: dict[str, Any], other: dict[str, Any]) -> None:
    limits = Limits([LimitSettings("l", ("subject.id", "subject.org"), rate=1)], HandClock())
    assert take(limits, **one) is None
    assert take(limits, **other) is None
    assert take(limits, **one) is not None


def test_a_reload_with_the_same_limit_carries_what_was_used() -> None:
    clock = HandClock()
    before = Limits([PER_SUBJECT], clock)
    assert admitted(before, 2) == 2
    after = Limits([LimitSettings("new", ("route",), rate=100), PER_SUBJECT], clock)
    after.carry(before)
    assert admitted(after, 5) == 1
    assert admitted(before, 1) == 0, "exchanges of the former snapshot count in the same place"


def test_a_limit_that_was_changed_begins_anew() -> None:
    clock = HandClock()
    before = Limits([PER_SUBJECT], clock)
    assert admitted(before, 9) == 3
    changed = LimitSettings("per-subject", ("subject.id",), rate=60, window=60, burst=4)
    after = Limits([changed], clock)
    after.carry(before)
    assert admitted(after, 9) == 4


def test_permits_taken_before_a_reload_are_given_back_after_it() -> None:
    clock = HandClock()
    before = Limits([AT_ONCE], clock)
    held = exchange()
    assert take(before, held) is None
    after = Limits([LimitSettings("at-once", ("subject.org",), concurrent=1)], clock)
    after.carry(before)
    assert take(after) is not None
    before.release(held)
    assert take(after) is None


def test_a_limit_of_another_key_does_not_inherit() -> None:
    clock = HandClock()
    before = Limits([LimitSettings("l", ("subject.id",), concurrent=1)], clock)
    assert take(before) is None
    after = Limits([LimitSettings("l", ("route",), concurrent=1)], clock)
    after.carry(before)
    assert take(after) is None


def test_keys_at_rest_are_forgotten() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("l", ("subject.id",), rate=10, window=1, burst=1)], clock)
    for number in range(10_000):
        take(limits, subject=f"agent:idp/{number}")
        state = only_rate(limits)
        clock.pass_(0.01)
        assert len(state.new) + len(state.old) <= 22  # what two times the 0.1 s to come to rest can hold


def test_at_the_cap_keys_at_rest_make_room_and_a_new_one_is_else_refused() -> None:
    clock = HandClock(10_000_000_000)
    limits = Limits([LimitSettings("l", ("subject.id",), rate=60, window=60, burst=2)], clock, keys_limit=10)
    for number in range(10):
        assert take(limits, subject=f"s{number}") is None
    asked = exchange("stranger")
    refusal = take(limits, asked)
    assert refusal is not None
    assert refusal.reason is Reason.RATE_LIMITED
    assert asked.limits == [{"name": "l", "remaining": 0, "exceeded": True}]
    assert take(limits, subject="s3") is None, "who is known is served on"
    clock.pass_(1)
    assert take(limits, subject="stranger") is None, "nine are at rest again"
    assert take(limits, subject="s3") is None
    assert take(limits, subject="s3") is not None, "s3 was not at rest and is not forgotten"


def test_at_the_cap_keys_of_the_former_generation_at_rest_make_room() -> None:
    clock = HandClock(10_000_000_000)
    limits = Limits([LimitSettings("l", ("subject.id",), rate=60, window=60, burst=2)], clock, keys_limit=10)
    for number in range(10):
        assert take(limits, subject=f"s{number}") is None
    clock.pass_(2)
    assert admitted(limits, 5, subject="stranger") == 2


def test_a_key_is_remembered_until_it_is_at_rest_whatever_others_do() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("l", ("subject.id",), rate=1, window=1, burst=100)], clock)
    take(limits, subject="other")
    clock.pass_(49)
    assert admitted(limits, 200, subject="a") == 100
    for seconds in (2, 51):
        clock.pass_(seconds)
        take(limits, subject="other")
    assert admitted(limits, 200, subject="a") == 53
    for seconds in (49, 50):
        clock.pass_(seconds)
        take(limits, subject="other")
    assert admitted(limits, 200, subject="a") == 99


@pytest.mark.parametrize("rate", [1, 3, 7, 59, 1_000_003, 700_000_000])
@pytest.mark.parametrize("window", [1, 60, 3600, 86_400])
def test_the_interval_is_never_shorter_than_the_rate_says(rate: int, window: int) -> None:
    limit = Rate(LimitSettings("l", ("route",), rate=rate, window=window), rate)
    assert window * 1_000_000_000 <= limit.interval * rate < window * 1_000_000_000 + rate


def test_at_the_cap_the_search_for_room_runs_at_most_once_a_second() -> None:
    clock = HandClock(10_000_000_000)
    limits = Limits([LimitSettings("l", ("subject.id",), rate=60, window=3600, burst=60)], clock, keys_limit=3)
    for number in range(3):
        take(limits, subject=f"s{number}")
    state = only_rate(limits)
    for _ in range(100):
        assert take(limits, subject="stranger") is not None
    assert state.swept == clock.nanoseconds
    swept = state.swept
    clock.pass_(0.5)
    take(limits, subject="stranger")
    assert state.swept == swept
    clock.pass_(0.5)
    take(limits, subject="stranger")
    assert state.swept == clock.nanoseconds


@pytest.mark.parametrize(
    "settings",
    [
        LimitSettings("l", ("route",)),
        LimitSettings("l", ("route",), rate=1, concurrent=1),
        LimitSettings("l", ("route",), rate=0),
        LimitSettings("l", ("route",), rate=1, burst=0),
        LimitSettings("l", ("route",), rate=1, window=0),
        LimitSettings("l", ("route",), concurrent=-1),
        LimitSettings("l", (), rate=1),
        LimitSettings("l", ("header.x",), rate=1),
        LimitSettings('l"', ("route",), rate=1),
        LimitSettings("", ("route",), rate=1),
        LimitSettings("l\r\nx", ("route",), rate=1),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(settings: LimitSettings) -> None:
    with pytest.raises(ValueError, match="limit"):
        Limits([settings], HandClock())


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="taken"):
        Limits([PER_SUBJECT, PER_SUBJECT], HandClock())


def test_what_cannot_be_counted_is_a_fault_and_no_call_without_limit() -> None:
    """Limits stand behind Identify; an exchange without principal must not pass uncounted."""
    asked = exchange()
    asked.principal = None
    with pytest.raises(AttributeError):
        take(Limits([PER_SUBJECT], HandClock()), asked)


def test_what_comes_up_within_an_exchange_needs_no_second_place_of_the_same_limit() -> None:
    clock = HandClock()
    one = LimitSettings("one", ("subject.id",), concurrent=1)
    rate = LimitSettings("rate", ("subject.id",), rate=60, window=60, burst=3)
    limits = Limits([one, rate], clock)
    opened = exchange()
    assert take(limits, opened) is None
    for _ in range(2):
        within = exchange()
        within.held = opened.places
        assert take(limits, within) is None
        assert within.places == []
        assert within.limits[-1] == {"name": "one", "remaining": 0}
    within = exchange()
    within.held = opened.places
    refused = take(limits, within)
    assert refused is not None
    assert refused.rule == "rate", "rates count each"
    clock.pass_(60)
    assert take(limits) is not None, "another exchange has no place"
    limits.release(opened)
    assert take(limits) is None


def test_a_place_held_for_another_key_or_given_back_is_no_place() -> None:
    limits = Limits([LimitSettings("one", ("resource.id",), concurrent=1)], HandClock())
    opened, other = exchange(resource="/ws"), exchange(resource="tool")
    assert take(limits, opened) is None
    assert take(limits, other) is None
    within = exchange(resource="tool")
    within.held = opened.places
    assert take(limits, within) is not None
    given_back = opened.places
    limits.release(opened)
    assert take(limits, exchange(resource="/ws")) is None
    late = exchange(resource="/ws")
    late.held = given_back
    assert take(limits, late) is not None
