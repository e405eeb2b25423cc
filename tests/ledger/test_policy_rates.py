"""Rates that policy asks for, beside the limits."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Decision, Exchange
from gateway.core.obligations import ExtraRate
from gateway.core.reasons import Reason
from gateway.ledger.limits import POLICY_RATES, LimitSettings
from tests.ledger.exchanges import HandClock, Limits, exchange

TWICE = ExtraRate("policy.2-minute", 2, 60)


def asking(*rates: ExtraRate, rule: str = "readers", **who: Any) -> Exchange:
    found = exchange(**who)
    found.rates = rates
    found.decision = Decision(True, "", rule, "test", "r1")
    return found


def told(asked: Exchange) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in asked.limit_headers}


def test_a_rate_counts_for_the_caller_the_rule_and_what_is_called() -> None:
    limits = Limits([], HandClock())
    assert [limits.take(asking(TWICE)) is None for _ in range(3)] == [True, True, False]
    for other in ({"subject": "agent:idp/b"}, {"resource": "weather/other"}, {"rule": "writers"}, {"route": "r2"}):
        assert limits.take(asking(TWICE, **other)) is None, other


def test_it_is_told_and_refused_like_any_limit() -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("per-subject", ("subject.id",), rate=100)], clock)
    first = asking(TWICE)
    assert limits.take(first) is None
    assert told(first)["ratelimit-policy"] == '"per-subject";q=100;w=60, "policy.2-minute";q=2;w=60'
    assert told(first)["ratelimit"] == '"per-subject";r=99;t=1, "policy.2-minute";r=1;t=30'
    limits.take(asking(TWICE))
    refused = asking(TWICE)
    refusal = limits.take(refused)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after, refusal.rule) == (Reason.RATE_LIMITED, 30, "policy.2-minute")
    assert refused.limits[-1] == {"name": "policy.2-minute", "remaining": 0, "exceeded": True}
    clock.pass_(30)
    assert limits.take(asking(TWICE)) is None


def test_all_or_nothing_holds_for_both_together() -> None:
    limits = Limits([LimitSettings("once", ("subject.id",), rate=1)], HandClock())
    assert limits.take(asking(TWICE)) is None
    assert limits.take(asking(TWICE)) is not None  # by the limit: nothing of the rate is used up
    other = Limits([], HandClock())
    other.carry(limits)
    assert [other.take(asking(TWICE)) is None for _ in range(2)] == [True, False]


def test_a_reload_forgets_no_rate() -> None:
    clock = HandClock()
    before = Limits([], clock)
    before.take(asking(TWICE))
    before.take(asking(TWICE))
    after = Limits([LimitSettings("new", ("route",), rate=5)], clock)
    after.carry(before)
    assert after.take(asking(TWICE)) is not None


def test_a_policy_that_makes_up_a_rate_for_each_call_is_refused() -> None:
    clock = HandClock()
    limits = Limits([], clock)
    for count in range(1, POLICY_RATES + 1):
        assert limits.take(asking(ExtraRate(f"policy.{count}-minute", count, 60))) is None
    refusal = limits.take(asking(ExtraRate("policy.999-minute", 999, 60)))
    assert refusal is not None
    assert (refusal.reason, "different rates" in refusal.text) == (Reason.DENIED, True)
    clock.pass_(500)  # those of a policy that is gone are at rest
    assert limits.take(asking(ExtraRate("policy.999-minute", 999, 60))) is None


def test_one_without_rates_pays_for_none() -> None:
    limits = Limits([], HandClock())
    limits.take(asking(TWICE))
    plain = asking()
    assert limits.take(plain) is None
    assert (plain.limits, plain.limit_headers) == ([], [])
