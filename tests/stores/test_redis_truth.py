"""A node's own figures: absolute, by parts of a window, forgotten when nobody can ask for them any more."""

from __future__ import annotations

from gateway.core.accounts import PARTS, Account, Standing, Tally, part
from gateway.stores.redis_truth import DAY, KEPT_SECONDS, RUN_SECONDS, RUNS_LIMIT, Truth
from tests.ports.counting import account, budget

NOW = 1_800_000_000


def test_what_is_settled_adds_up_to_one_figure_that_may_be_told_again() -> None:
    truth, of = Truth(), budget()
    assert truth.settle(of, account(of), 7, NOW) == (7, 0, 0)
    assert truth.settle(of, account(of), 5, NOW + 60) == (12, 0, 0)
    assert list(truth.entries([account(of)])) == [(account(of), "s", "12", 0, 0)]
    assert list(truth.entries([account(of, "nobody")])) == []


def test_a_rolling_account_has_a_figure_for_each_part_and_drops_those_behind_its_window() -> None:
    truth, of = Truth(), budget("rolling", period="rolling", window=6400)
    first = part(NOW, 6400)
    assert truth.settle(of, account(of), 7, NOW) == (7, first, 6400)
    assert truth.settle(of, account(of), 1, NOW + 1) == (8, first, 6400)
    assert truth.settle(of, account(of), 2, NOW + 100) == (2, first + 1, 6400)
    assert truth.settle(of, account(of), 3, NOW + 100 * (PARTS + 1)) == (3, first + PARTS + 1, 6400)
    assert sorted(truth.accounts[account(of)].parts) == [first + 1, first + PARTS + 1]


def test_what_a_log_says_is_where_the_figures_begin() -> None:
    truth, of = Truth(), budget()
    tally = Tally(account(of), -3, granted=10, grants=((5, NOW + 60),), most=50, set_at=2.0)
    truth.begin([of], Standing(9, (tally,), ("adjusted",)), NOW)
    assert truth.settle(of, account(of), 4, NOW)[0] == 1
    assert [(kind, value) for _, kind, value, _, _ in truth.entries(truth.dirty)] == [
        ("s", "1"), ("g", "10"), ("u", f"5:{NOW + 60}"),
    ]  # fmt: skip
    assert truth.seen == {"adjusted"}
    truth.set_most("org-month x", 1, 5.0)
    truth.set_most("org-month x", 2, 4.0)  # told late
    assert truth.most["org-month x"] == (1, 5.0)


def test_accounts_are_forgotten_when_nobody_can_ask_for_them_any_more() -> None:
    truth, of, runs = Truth(), budget(), budget("run", key=("run",), period="total")
    old = account(of, period="2026-11-01T00:00:00Z")
    november = 1_793_491_200
    truth.settle(of, old, 1, november)
    truth.settle(runs, account(runs, "trace"), 1, november)
    truth.settle(budget("all", period="total"), Account("all", "[]", ""), 1, november)
    truth.forget(november + RUN_SECONDS - 1)
    assert len(truth.accounts) == 3
    truth.forget(november + RUN_SECONDS)
    assert account(runs, "trace") not in truth.accounts
    truth.forget(november + KEPT_SECONDS + DAY)
    assert list(truth.accounts) == [Account("all", "[]", "")]


def test_callers_that_make_up_runs_do_not_fill_the_memory() -> None:
    truth, runs = Truth(), budget("run", key=("run",), period="total")
    for at in range(RUNS_LIMIT + 10):
        truth.own(Account("run", str(at), ""), runs, NOW)
    truth.forget(NOW + 1)
    assert len(truth.accounts) == RUNS_LIMIT
    assert Account("run", "9", "") not in truth.accounts
    assert Account("run", "10", "") in truth.accounts
