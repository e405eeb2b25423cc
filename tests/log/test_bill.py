"""What a period comes to by the log alone: added up by a code of its own, and compared both ways."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import orjson
import pytest

from gateway.log.bill import Bill, Line, differing_accounts, differing_lines, grouped, money

MONTH = "2026-11-01T00:00:00Z"


def outcome(seq: int, usd: str = "0.5", day: str = "2026-11-22", **members: Any) -> tuple[int, bytes]:
    budget = {"key": ["acme"], "name": "org", "period": MONTH, "reserved": "2", "settled": usd, "unit": "usd"}
    record = {
        "kind": "outcome", "seq": seq, "exchange": f"{seq}", "time": f"{day}T12:00:00.000000Z", "budgets": [budget],
        "subject": {"id": "a", "org": "acme"}, "resource": {"id": "gpt-5", "type": "model"}, "result": "ok",
        "usage": {"bytes_in": 1, "bytes_out": 2, "calls": 1, "input_tokens": 3, "usd": usd},
    } | members  # fmt: skip
    return seq, orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def bill(*entries: tuple[int, bytes], ends: int = 99, counted: int = 99) -> Bill:
    made = Bill("2026-11-01", "2026-11-30", ends, counted)
    for seq, entry in entries:
        made.add(seq, entry)
    return made


def test_lines_are_of_the_days_and_accounts_of_all_time() -> None:
    made = bill(
        outcome(0, "0.1"), outcome(1, "0.000001", day="2026-11-30"), outcome(2, "9", day="2026-10-31"),
        outcome(3, "9", day="2026-12-01"),
    )  # fmt: skip
    [(key, line)] = made.lines.items()
    assert key == ("acme", "model", "gpt-5")
    assert line.record() == {
        "calls": 2, "input_tokens": 6, "output_tokens": 0, "bytes_in": 2, "bytes_out": 4, "usd": "0.100001",
    }  # fmt: skip
    assert made.accounts == {("org", "usd", MONTH, '["acme"]'): Decimal("18.100001")}


def test_what_no_checkpoint_covers_is_left_out_and_told_of() -> None:
    made = bill(outcome(0), outcome(1), outcome(2), ends=1, counted=2)
    assert made.lines["acme", "model", "gpt-5"].amounts["calls"] == 1
    assert made.judged["acme", "model", "gpt-5"].amounts["calls"] == 2
    assert (made.left_out, made.seen) == (2, 3)
    assert made.accounts == {("org", "usd", MONTH, '["acme"]'): Decimal(1)}


def test_calls_of_which_something_is_not_known_are_marked() -> None:
    usage = {"bytes_in": 1, "bytes_out": 2, "calls": 1, "estimated": True, "unpriced": True}
    silent = orjson.loads(outcome(1, result="unknown")[1])
    del silent["usage"]
    made = bill(outcome(0, usage=usage), (1, orjson.dumps(silent)))
    line = made.lines["acme", "model", "gpt-5"]
    assert line.marks == {"estimated": 1, "unpriced": 1, "unknown": 1}
    assert line.amounts["calls"] == 2


def test_what_was_forgiven_is_told_apart() -> None:
    said = {"key": ["acme"], "name": "org", "period": MONTH, "unit": "usd", "forgiven": "0.5"}
    record = {"kind": "admin", "action": "budget.reset", "time": f"{MONTH}", "adjustment": said}
    made = bill(outcome(0), (1, orjson.dumps(record)), (2, orjson.dumps(record)), counted=2)
    account = ("org", "usd", MONTH, '["acme"]')
    assert (made.accounts[account], made.forgiven[account]) == (Decimal("0.5"), Decimal("0.5"))


@pytest.mark.parametrize(
    "members",
    [
        {"usage": {"calls": 1, "usd": "much"}}, {"budgets": [{"name": "x"}]}, {"budgets": [7]}, {"subject": 7},
        {"usage": {"calls": "x"}},
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(members: dict[str, Any]) -> None:
    made = bill(outcome(4, **members), (5, b'{"kind":"outcome"'), (6, b'"outcome"'))
    assert [one.split(":")[0] for one in made.unreadable] == ["entry 4", "entry 5", "entry 6"]


def test_differences_are_found_both_ways() -> None:
    one, other = ("a", "usd", "", "[]"), ("b", "calls", MONTH, '["x"]')
    found = differing_accounts({one: Decimal("1.5")}, {other: Decimal(2)})
    assert [str(item) for item in found] == [
        "a [], usd: 1.5 by the log, 0 by the ledger",
        f'b ["x"] from {MONTH}, calls: 0 by the log, 2 by the ledger',
    ]
    assert differing_accounts({one: Decimal(0)}, {}) == []
    line = Line()
    line.amounts["usd"] = Decimal("0.25")
    lines = differing_lines({("acme", "", ""): line}, {("acme", "", ""): {"usd": Decimal("0.5"), "calls": Decimal(1)}})
    assert [str(item) for item in lines] == [
        "acme - -, calls: 0 by the log, 1 by the ledger", "acme - -, usd: 0.25 by the log, 0.5 by the ledger",
    ]  # fmt: skip
    assert lines[1].record() == {"what": "acme - -, usd", "log": "0.25", "ledger": "0.5"}
    gone = differing_lines({}, {("x", "", ""): {"usd": Decimal(1)}})
    assert [item.what for item in gone] == ["x - -, usd"]


def test_lines_are_grouped_by_fewer_names() -> None:
    source = random.Random(7)
    entries = [
        outcome(seq, "0.1", resource={"id": source.choice("ab"), "type": "tool"}, subject={"org": source.choice("xy")})
        for seq in range(50)
    ]
    made = bill(*entries)
    by_org = grouped(made.lines, ("org",))
    assert sorted(by_org) == [("x",), ("y",)]
    assert sum(line.amounts["usd"] for line in by_org.values()) == Decimal(5)
    assert len(grouped(made.lines, ("resource", "org"))) == 4


def test_money_has_no_exponent_and_no_trailing_zeros() -> None:
    assert [money(Decimal(text)) for text in ("1E+3", "0.10", "5", "0", "1E-7")] == [
        "1000",
        "0.1",
        "5",
        "0",
        "0.0000001",
    ]
