"""Budgets as an exchange meets them: what it asks for, when it is refused, how it is told, and what is given back."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.accounts import Fee
from gateway.core.exchange import Call
from gateway.core.reasons import Reason
from gateway.ledger.budgets import FIRST_BYTES
from gateway.ledger.limits import LimitSettings
from gateway.protocols.http import Http
from tests.ledger.books import Books, MovedClock, budget
from tests.ledger.pricing import exchange as priced_exchange

CALLS = budget(amount=2)
USD = budget("usd", 30_000, "usd")


def test_a_call_that_does_not_fit_is_refused_and_told_what_is_left_and_when_it_renews() -> None:
    books = Books([CALLS])
    for _ in range(2):
        assert books.take(books.tool()) is None
    refusal = books.take(books.tool())
    assert refusal is not None
    assert (refusal.reason, refusal.http_status, refusal.code) == (Reason.BUDGET_EXHAUSTED, 402, -31402)
    assert refusal.rule == "org-month"
    assert refusal.data == {
        "budgets": [{"name": "org-month", "unit": "calls", "remaining": "0", "renews": "2026-12-01T00:00:00Z"}]
    }
    assert refusal.noted == {
        "budget": {"key": ["acme"], "name": "org-month", "unit": "calls", "period": "2026-11-01T00:00:00Z"}
    }
    assert "2026-12-01" in refusal.text
    assert books.take(books.tool(org="other")) is None


def test_a_refused_budget_burns_no_rate_token_and_a_refused_rate_no_budget() -> None:
    once = LimitSettings("once", ("subject.id",), rate=1, window=3600)
    books = Books([USD], [once])
    refused = books.chat(max_tokens=100_000)
    assert books.take(refused) is not None
    assert refused.limits == [{"name": "once", "remaining": 1}]
    assert (refused.charges, refused.places) == ([], [])
    first, second = books.tool(), books.tool()
    assert books.take(first) is None
    left = books.left(USD, first)
    said = books.take(second)
    assert said is not None
    assert said.reason is Reason.RATE_LIMITED
    assert books.left(USD, first) == left


def test_a_budgets_refusal_goes_before_a_rates() -> None:
    once = LimitSettings("once", ("subject.id",), rate=1, window=3600)
    books = Books([budget(amount=1)], [once])
    assert books.take(books.tool()) is None
    refusal = books.take(books.tool())
    assert refusal is not None
    assert refusal.reason is Reason.BUDGET_EXHAUSTED


def test_nested_budgets_hold_each_and_all_or_none() -> None:
    org, agent = budget("org", 5), budget("agent", 3, key=("subject.org", "subject.id"))
    books = Books([org, agent])
    for _ in range(3):
        assert books.take(books.tool(subject="a")) is None
    refusal = books.take(books.tool(subject="a"))
    assert refusal is not None
    assert refusal.rule == "agent"
    for _ in range(2):
        assert books.take(books.tool(subject="b")) is None
    refusal = books.take(books.tool(subject="b"))
    assert refusal is not None
    assert refusal.rule == "org", "what refused a took nothing of the org's"


def test_what_was_reserved_is_settled_at_what_it_came_to() -> None:
    books = Books([USD])
    found = books.chat(max_tokens=1000)
    assert books.take(found) is None
    [charge] = found.charges
    assert charge.reserved > 10_000
    assert books.settle(found, usd=250) == [250]
    assert books.left(USD, found) == 30_000 - 250
    assert books.counters.held() == (0, 0)


def test_a_call_that_was_never_sent_gives_all_of_it_back() -> None:
    books = Books([USD, CALLS])
    found = books.tool()
    assert books.take(found) is None
    assert books.settle(found, sent=False) == [0, 0]
    assert (books.left(USD, found), books.left(CALLS, found)) == (30_000, 2)


def test_each_unit_asks_for_its_worst_case() -> None:
    units = [budget(unit, 10**9, unit) for unit in ("usd", "tokens", "calls", "bytes")]
    books = Books(units)
    found = books.chat(max_tokens=100)
    assert books.take(found) is None
    assert found.body is not None
    asked = -(-len(found.body) // 3)
    assert {charge.budget.unit: charge.reserved for charge in found.charges} == {
        "usd": asked + 100 * 10, "tokens": asked + 100, "calls": 1, "bytes": len(found.body) + FIRST_BYTES,
    }  # fmt: skip
    tool = books.tool()
    assert books.take(tool) is None
    assert {charge.budget.unit: charge.reserved for charge in tool.charges} == {
        "usd": 10_000, "calls": 1, "bytes": 5 + FIRST_BYTES,
    }  # fmt: skip


def test_a_refused_call_that_names_no_bound_is_told_so() -> None:
    books = Books([USD])
    refusal = books.take(books.chat(max_tokens=None))
    assert refusal is not None
    assert "how many tokens it wants at most" in refusal.text


def test_what_has_no_price_is_refused_or_passes_marked() -> None:
    books = Books([USD])
    refusal = books.take(books.tool("weather-two/x"))
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (Reason.BUDGET_EXHAUSTED, "usd: no price for weather-two/x")
    allowing = Books([budget("usd", 30_000, "usd", unpriced="allow")])
    found = allowing.tool("weather-two/x")
    assert allowing.take(found) is None
    assert found.usage.unpriced
    assert found.usage.record()["unpriced"] is True
    assert allowing.settle(found) == [0]


def test_what_is_free_needs_no_price_but_no_budget_in_debt() -> None:
    books = Books([budget("usd", 100, "usd")])
    assert books.take(books.tool("weather/free")) is None
    found = books.chat(max_tokens=1)
    assert books.take(found) is None
    books.settle(found, usd=101)
    assert books.left(books.ledger.budgets[0], found) == -1
    assert books.take(books.tool("weather/free")) is not None


def test_lists_and_sessions_ask_nothing() -> None:
    books = Books([budget("calls", 0), budget("usd", 0, "usd"), budget("bytes", 0, "bytes")])
    for action in ("mcp.tools/list", "mcp.stream.open", "a2a.GetTask", "llm.models"):
        call = Call(action, "endpoint", "weather")
        found = books.of(priced_exchange(Http(), "/x", b"{}", listed=books.table, asked=call))
        assert books.take(found) is None
        assert found.charges == []


def test_an_open_socket_asks_for_bytes_only() -> None:
    books = Books([budget("calls", 0), budget("usd", 0, "usd"), budget("bytes", FIRST_BYTES, "bytes")])
    call = Call("ws.open", "endpoint", "/ws")
    found = books.of(priced_exchange(Http(), "/x", None, listed=books.table, asked=call))
    assert books.take(found) is None
    assert [charge.budget.name for charge in found.charges] == ["bytes"]


def test_what_policy_charges_is_reserved_and_settled_besides() -> None:
    books = Books([USD, CALLS, budget("tokens", 50, "tokens")])
    found = books.tool(fees=(Fee("usd", 5_000), Fee("calls", 1), Fee("tokens", 7)))
    assert books.take(found) is None
    assert [(charge.budget.name, charge.reserved) for charge in found.charges] == [
        ("usd", 15_000), ("org-month", 2), ("tokens", 7),
    ]  # fmt: skip
    assert books.settle(found, usd=15_000) == [15_000, 2, 7]


def test_what_policy_charges_is_the_price_of_what_has_none() -> None:
    books = Books([USD])
    found = books.tool("weather-two/x", fees=(Fee("usd", 5_000),))
    assert books.take(found) is None
    assert (found.charges[0].reserved, found.usage.unpriced) == (5_000, False)
    listing = books.of(
        priced_exchange(Http(), "/x", b"{}", listed=books.table, asked=Call("mcp.tools/list", "endpoint", "w")),
        fees=(Fee("usd", 3),),
    )
    assert books.take(listing) is None
    assert [charge.reserved for charge in listing.charges] == [3]


def test_a_charge_in_a_unit_without_a_budget_is_a_deny_that_names_it() -> None:
    for budgets in ([], [CALLS]):
        books = Books(budgets)
        refusal = books.take(books.tool(fees=(Fee("usd", 100_000),)))
        assert refusal is not None
        assert (refusal.reason, refusal.rule) == (Reason.DENIED, "obligation")
        assert refusal.text == "The policy charges 0.1 usd, and there is no budget in usd"


def test_who_has_no_org_shares_an_account_with_all_who_have_none_and_with_nobody_else() -> None:
    books = Books([budget(amount=1)])
    assert books.take(books.tool(org=None)) is None
    assert books.take(books.tool(org=None, subject="b")) is not None
    assert books.take(books.tool(org="None")) is None
    assert books.take(books.tool(org="null")) is None
    assert books.take(books.tool(org="")) is None


def test_a_new_period_begins_with_the_whole_amount_and_late_settlements_go_to_the_old_one() -> None:
    books = Books([CALLS], clock=MovedClock("2026-11-30T23:59:00+00:00"))
    late = books.tool()
    assert books.take(late) is None
    assert books.take(books.tool()) is None
    assert books.take(books.tool()) is not None
    books.clock.pass_(120)
    fresh = books.tool()
    assert books.take(fresh) is None
    assert fresh.charges[0].account.period == "2026-12-01T00:00:00Z"
    books.settle(late)
    assert books.left(CALLS, fresh) == 1


def test_a_clock_that_is_put_back_gives_no_period_twice() -> None:
    books = Books([CALLS], clock=MovedClock("2026-12-01T00:00:30+00:00"))
    for _ in range(2):
        assert books.take(books.tool()) is None
    books.clock.wall -= 3600
    assert books.take(books.tool()) is not None
    books.reload([CALLS])
    assert books.take(books.tool()) is not None, "nor does a reload"


def test_part_of_what_was_left_is_handed_over_once() -> None:
    of = budget(amount=10, carry=500)
    books = Books([of], clock=MovedClock("2026-11-30T23:59:00+00:00"))
    for _ in range(4):
        found = books.tool()
        assert books.take(found) is None
        books.settle(found)
    books.clock.pass_(120)
    found = books.tool()
    assert books.take(found) is None
    assert books.left(of, found) == 10 + 3 - 1
    stranger = books.tool(org="new")
    assert books.take(stranger) is None
    assert books.left(of, stranger) == 9, "who was not there has nothing left over"


def test_a_rolling_period_frees_what_is_out_of_it_and_not_earlier() -> None:
    of = budget(amount=1, period="rolling", window=6400)
    books = Books([of])
    found = books.tool()
    assert books.take(found) is None
    books.settle(found)
    books.clock.pass_(6399)
    assert books.take(books.tool()) is not None
    books.clock.pass_(6400 // 64 + 1)
    assert books.take(books.tool()) is None


@pytest.mark.parametrize("jump", [86_400 * 365.0, -86_400 * 365.0])
def test_a_jump_of_the_clock_neither_frees_nor_locks_a_rolling_period(jump: float) -> None:
    of = budget(amount=1, period="rolling", window=6400)
    books = Books([of])
    found = books.tool()
    assert books.take(found) is None
    books.settle(found)
    books.clock.wall += jump
    assert books.take(books.tool()) is not None
    books.clock.pass_(6600)
    assert books.take(books.tool()) is None


def test_soft_marks_stand_on_the_charge_that_passed_them() -> None:
    books = Books([budget(amount=4, warn_at=(500, 750))])
    found = [books.tool() for _ in range(4)]
    for one in found:
        assert books.take(one) is None
    assert [one.charges[0].marks for one in found] == [(), (500,), (750,), ()]


def test_at_the_cap_a_new_account_is_refused_unless_callers_make_its_key_up() -> None:
    books = Books([budget(amount=5, key=("subject.id",))], keys_limit=3)
    for who in "abc":
        assert books.take(books.tool(subject=who)) is None
    refusal = books.take(books.tool(subject="d"))
    assert refusal is not None
    assert refusal.reason is Reason.BUDGET_EXHAUSTED
    assert books.take(books.tool(subject="a")) is None
    runs = Books([budget(amount=1, key=("run",), period="total")], keys_limit=3)
    for run in range(10):
        found = runs.tool(trace_id=f"run-{run}")
        assert runs.take(found) is None
        runs.settle(found)
    assert runs.take(runs.tool(trace_id="run-9")) is not None


def test_of_keys_that_callers_make_up_the_one_that_rests_longest_is_forgotten() -> None:
    runs = Books([budget(amount=2, key=("run",), period="total")], keys_limit=2)
    for run in ("busy", "idle", "busy", "new"):
        found = runs.tool(trace_id=run)
        assert runs.take(found) is None
        runs.settle(found)
    assert runs.take(runs.tool(trace_id="busy")) is not None, "it was used twice, and is not begun anew"


def test_periods_that_are_over_are_forgotten_when_nothing_is_held_of_them() -> None:
    of = budget(amount=10, period="hour")
    books = Books([of])
    for _ in range(50):
        found = books.tool()
        assert books.take(found) is None
        books.settle(found)
        books.clock.pass_(3600)
    assert len(books.counters._budgets[of.name].periods) <= 2


def test_a_reload_changes_the_amount_and_forgets_nothing() -> None:
    books = Books([budget(amount=3)])
    for _ in range(3):
        assert books.take(books.tool()) is None
    books.reload([budget(amount=5)])
    assert [books.take(books.tool()) is None for _ in range(3)] == [True, True, False]
    books.reload([budget(amount=1)])
    assert books.take(books.tool()) is not None


def test_policy_is_told_what_is_left() -> None:
    books = Books([USD, CALLS])
    found: Any = books.tool()
    assert books.take(found) is None
    assert books.ledger.remaining(found, found.call) == {
        "usd": {"remaining": "0.02", "unit": "usd", "as_of": "2026-11-10T12:00:00Z"},
        "org-month": {"remaining": "1", "unit": "calls", "as_of": "2026-11-10T12:00:00Z"},
    }


def test_settling_twice_counts_once() -> None:
    books = Books([USD])
    found = books.tool()
    assert books.take(found) is None
    for _ in range(2):
        books.settle(found, usd=300)
    assert books.left(USD, found) == 30_000 - 300
