"""The book of usage: what it says is what a naive sum over the log says, whenever it was stopped and begun anew."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.accounts import Budget, Standing
from gateway.core.query import QueryFailed
from gateway.core.reasons import StoreFailed
from gateway.core.usage import COUNTS, DIMENSIONS, UsagePage, UsageQuery
from gateway.stores import following, settlements, usage
from gateway.stores.settlements import SUM_MOST, Sums
from gateway.stores.usage import UsageBook
from tests.thorough import examples

MONTH = "2026-11-01T00:00:00Z"
NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z
ORG_MONTH = Budget("org-month", ("subject.org",), "usd", 100_000_000, "month")
CALLS = Budget("calls", ("subject.id", "route"), "calls", 1000, "rolling", window=86_400)
EVER = Budget("ever", ("subject.org",), "bytes", 10**12, "total")
NASTY = [
    "a", "b", '"kind":"intent"', '","kind":"outcome","', "}", ']},"decision":{', '"],"decision":{"',
    ',"usage":{"usd":"9"},"v":1}', "intent", "outcome",
    ',"subject":{"org":"other"},"time":"2020-01-01', "\\", '\\"', "", "é", "\N{LINE SEPARATOR}", ',"response":{',
]  # fmt: skip

OTHER: dict[str, Any] = {
    "exchange": "x", "kind": "outcome", "resource": {"id": "other", "type": "tool"}, "response": {"status": 200},
    "subject": {"org": "other"}, "time": "2020-01-01T00:00:00.000000Z", "upstream": {"name": "other"},
    "usage": {"calls": 7, "usd": "9"}, "v": 1,
}  # fmt: skip


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    monotonic = time


class Log:
    """A log in memory; `shown` is how much of it can be read, as a log's files may be behind its commits."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.shown: int | None = None

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        end = min(len(self.entries) if stop is None else stop, len(self.entries) if self.shown is None else self.shown)
        return [(seq, self.entries[seq]) for seq in range(start, end)]

    def append(self, kind: str, **members: Any) -> tuple[int, bytes]:
        seq = len(self.entries)
        record = {
            "v": 1, "seq": seq, "node": "gw", "kind": kind, "id": f"{seq:036d}", "time": "2026-11-22T11:59:30.000000Z",
        } | members  # fmt: skip
        self.entries.append(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
        return seq, self.entries[-1]

    def outcome(self, exchange: str, usd: str = "0.5", org: str | None = "acme", **members: Any) -> tuple[int, bytes]:
        budget = {"key": [org], "name": "org-month", "period": MONTH, "reserved": "2", "settled": usd, "unit": "usd"}
        whole = {
            "exchange": exchange, "action": "mcp.tools/call", "budgets": [budget],
            "decision": {"effect": "allow", "reason": "ok"}, "request": {"method": "POST", "path": "/w"},
            "resource": {"id": "w/x", "type": "tool"}, "response": {"bytes": 7, "status": 200}, "result": "ok",
            "route": "w", "subject": {"id": "agent:idp/p", "type": "agent", **({"org": org} if org else {})},
            "upstream": {"name": "w"}, "us": 12, "usage": {"bytes_in": 5, "bytes_out": 7, "calls": 1, "usd": usd},
        } | members  # fmt: skip
        return self.append("outcome", **whole)

    def adjusted(self, action: str, budget: Budget, key: list[str | None], **members: Any) -> tuple[int, bytes]:
        period = {} if budget.period in ("rolling", "total") else {"period": MONTH}
        about = {"key": key, "name": budget.name, "unit": budget.unit, **period} | members
        subject = {"id": "admin", "type": "admin"}
        return self.append("admin", action=f"budget.{action}", subject=subject, reason="asked", adjustment=about)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, log: Log, clock: Clock) -> Iterator[UsageBook]:
    made = UsageBook(tmp_path / "usage.sqlite", log, clock)
    made.start()
    yield made
    made.close()


def standing(book: UsageBook, *wanted: tuple[Budget, str]) -> Standing:
    return asyncio.run(book.standing(wanted))


def asked(book: UsageBook, *by: str, **members: Any) -> UsagePage:
    return asyncio.run(book.usage(UsageQuery(by, **members)))


def counted(page: UsagePage) -> dict[str, int]:
    return {name: count for name, count in zip(COUNTS, page.total.counts, strict=True) if count}


def test_what_was_settled_is_summed_up_per_account(book: UsageBook, log: Log) -> None:
    book.committed([log.outcome("1", "0.5"), log.outcome("2", "0.000001"), log.outcome("3", "3", org=None)])
    book.committed([log.outcome("4", "0.25")])
    found = standing(book, (ORG_MONTH, MONTH), (EVER, ""))
    assert found.seq == 4
    assert {tally.account.key: tally.settled for tally in found.tallies} == {'["acme"]': 750_001, "[null]": 3_000_000}
    assert standing(book, (ORG_MONTH, "2026-12-01T00:00:00Z")).tallies == ()


def test_usage_is_summed_up_by_what_is_asked_for(book: UsageBook, log: Log) -> None:
    model = {"resource": {"id": "gpt-5", "type": "model"}, "upstream": {"name": "llm"}, "action": "llm.chat"}
    tokens = {"bytes_in": 1, "bytes_out": 2, "calls": 1, "input_tokens": 10, "output_tokens": 4, "usd": "0.01"}
    book.committed(
        [
            log.outcome("1"),
            log.outcome("2", **model, usage={**tokens, "estimated": True}),
            log.outcome("3", **model, usage={**tokens, "cached_tokens": 7}, time="2026-11-23T00:00:00.000000Z"),
            log.append("refusal", exchange="4", action="llm.chat", subject={"id": "agent:idp/p", "org": "acme"}),
            log.append("outcome", exchange="5", result="unknown", subject={"id": "x", "org": "other"}),
        ]
    )
    page = asked(book, "org", "model", "day")
    assert [row.values for row in page.rows] == [
        ("acme", "", "2026-11-22"), ("acme", "gpt-5", "2026-11-22"), ("acme", "gpt-5", "2026-11-23"),
        ("other", "", "2026-11-22"),
    ]  # fmt: skip
    assert counted(page) == {
        "calls": 4, "refusals": 1, "input_tokens": 20, "output_tokens": 8, "cached_tokens": 7, "bytes_in": 7,
        "bytes_out": 11, "usd": 520_000, "estimated": 1, "unknown": 1,
    }  # fmt: skip
    assert counted(asked(book, "tool", start="2026-11-23")) == {
        "calls": 1, "input_tokens": 10, "output_tokens": 4, "cached_tokens": 7, "bytes_in": 1, "bytes_out": 2,
        "usd": 10_000,
    }  # fmt: skip
    assert counted(asked(book, stop="2026-11-22", only=(("org", "other"),))) == {"calls": 1, "unknown": 1}
    assert [row.values for row in asked(book, "month", "type").rows] == [
        ("2026-11", ""), ("2026-11", "model"), ("2026-11", "tool"),
    ]  # fmt: skip


def test_pages_of_usage_leave_nothing_out(book: UsageBook, log: Log) -> None:
    book.committed([log.outcome(str(n), org=f"org{n:02d}") for n in range(25)])
    seen: list[tuple[str, ...]] = []
    while True:
        page = asked(book, "org", limit=10, skip=len(seen))
        seen += [row.values for row in page.rows]
        assert page.total.counts[0] == 25
        if not page.more:
            break
    assert seen == [(f"org{n:02d}",) for n in range(25)]


def test_adjustments_are_told_apart_from_what_was_settled(book: UsageBook, log: Log, clock: Clock) -> None:
    book.committed([log.outcome("1", "4")])
    book.committed([log.adjusted("set", ORG_MONTH, ["acme"], most="120")])
    book.committed([log.adjusted("top-up", ORG_MONTH, ["acme"], granted="5")])
    book.committed([log.adjusted("grant", ORG_MONTH, ["acme"], granted="7", until=int(NOON) + 60)])
    book.committed([log.adjusted("reset", ORG_MONTH, ["acme"], forgiven="4"), log.outcome("2", "1")])
    found = standing(book, (ORG_MONTH, MONTH), (CALLS, ""))
    [tally] = found.tallies
    assert found.adjusted == tuple(f"{seq:036d}" for seq in (1, 2, 3, 4))
    assert (tally.settled, tally.most, tally.granted) == (1_000_000, 120_000_000, 5_000_000)
    assert tally.grants == ((7_000_000, int(NOON) + 60),)
    clock.now += 60
    assert asyncio.run(book.tally(ORG_MONTH, MONTH, '["acme"]')).grants == ()
    [later] = standing(book, (ORG_MONTH, "2026-12-01T00:00:00Z")).tallies
    assert (later.settled, later.most, later.granted) == (0, 120_000_000, 0)  # an amount stays set, the rest does not
    book.committed([log.adjusted("set", ORG_MONTH, ["acme"], unset=True)])
    assert asyncio.run(book.tally(ORG_MONTH, MONTH, '["acme"]')).most is None
    newest = asyncio.run(book.adjusted(ORG_MONTH, '["acme"]', 2))
    assert [(one.seq, one.action, one.by, one.why) for one in newest] == [
        (6, "budget.set", "admin", "asked"), (4, "budget.reset", "admin", "asked"),
    ]  # fmt: skip


def test_accounts_are_listed_page_by_page_and_those_of_a_former_key_are_not(book: UsageBook, log: Log) -> None:
    former = {
        "key": ["acme", "w"],
        "name": "org-month",
        "period": MONTH,
        "reserved": "1",
        "settled": "1",
        "unit": "usd",
    }
    book.committed([log.outcome(str(n), org=f"org{n}") for n in range(5)] + [log.outcome("9", budgets=[former])])
    book.committed([log.adjusted("set", ORG_MONTH, ["new"], most="1")])

    def keys(find: str = "", after: str = "", limit: int = 100) -> list[str]:
        return asyncio.run(book.keys(ORG_MONTH, MONTH, find=find, after=after, limit=limit))

    assert keys() == ['["new"]', *(f'["org{n}"]' for n in range(5))]
    assert keys(limit=2) == ['["new"]', '["org0"]']
    assert keys(after='["org0"]', limit=2) == ['["org1"]', '["org2"]']
    assert keys(find="g3") == ['["org3"]']
    assert [tally.account.key for tally in standing(book, (ORG_MONTH, MONTH)).tallies] == keys()


def rolling(at: str, settled: str = "1") -> dict[str, Any]:
    item = {"key": ["agent:idp/p", "w"], "name": "calls", "reserved": "1", "settled": settled, "unit": "calls"}
    return {"budgets": [item], "time": f"2026-11-{at}.000000Z"}


def test_a_rolling_account_keeps_when_something_was_settled(book: UsageBook, log: Log, clock: Clock) -> None:
    book.committed([log.outcome("1", **rolling("20T11:59:59")), log.outcome("2", **rolling("21T12:00:01", "2"))])
    book.committed([log.outcome("3", **rolling("22T11:00:59", "3")), log.outcome("4", **rolling("22T11:00:01", "4"))])
    [tally] = standing(book, (CALLS, "")).tallies
    assert tally.slices == ((int(NOON) - 86_400 + 60, 2), (int(NOON) - 3600 + 60, 7))
    assert tally.settled == 9
    clock.now += 60
    assert standing(book, (CALLS, "")).tallies[0].settled == 7
    book.committed([log.adjusted("reset", CALLS, ["agent:idp/p", "w"], forgiven="7")])
    assert standing(book, (CALLS, "")).tallies[0].settled == 0


def test_old_slices_get_coarser_and_never_leave_a_window_too_early(
    book: UsageBook, log: Log, clock: Clock, tmp_path: Path
) -> None:
    budget = Budget("calls", ("subject.id", "route"), "calls", 10**9, "rolling", window=90 * 86_400)
    for day in range(1, 29):
        book.committed([log.outcome(f"{day}-{n}", **rolling(f"{day:02d}T00:{n:02d}:00")) for n in range(0, 60, 7)])
        standing(book)
    clock.now += 6 * 86_400
    [tally] = standing(book, (budget, "")).tallies
    assert tally.settled == 28 * 9
    with sqlite3.connect(tmp_path / "usage.sqlite") as database:
        [[rows]] = database.execute("SELECT count(*) FROM slices")
    assert rows < 28 + 3 * 9
    assert tally.slices[0] == (1_793_491_200 + 3600, 9)  # 2026-11-01T00:00:00Z and an hour


def test_the_part_of_a_reset_that_is_another_logs_is_owed(book: UsageBook, log: Log) -> None:
    book.committed([log.outcome("1", "4"), log.outcome("2", **rolling("22T11:59:00"))])
    book.committed([log.adjusted("reset", ORG_MONTH, ["acme"], forgiven="10")])
    book.committed([log.adjusted("reset", CALLS, ["agent:idp/p", "w"], forgiven="5")])
    found = {tally.account.budget: tally.settled for tally in standing(book, (ORG_MONTH, MONTH), (CALLS, "")).tallies}
    assert found == {"org-month": -6_000_000, "calls": -4}


def test_a_book_of_another_log_or_layout_or_a_broken_one_is_begun_anew(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.sqlite"
    for n in (1, 2, 3):
        log = Log()
        for at in range(n):
            log.outcome(f"{n}-{at}", str(n))
        book = UsageBook(path, log, clock, lambda log=log: len(log.entries))  # type: ignore[misc]
        book.start()
        [tally] = standing(book, (ORG_MONTH, MONTH)).tallies
        assert tally.settled == n * n * 1_000_000
        book.close()
    path.write_bytes(b"no database")
    book = UsageBook(path, log, clock, lambda: len(log.entries))
    book.start()
    assert standing(book, (ORG_MONTH, MONTH)).tallies == (tally,)
    book.close()


def test_what_the_log_has_and_does_not_show_yet_is_no_answer(
    tmp_path: Path, log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(usage, "FILL_SECONDS", 0.2)
    log.outcome("1")
    log.shown = 0
    book = UsageBook(tmp_path / "usage.sqlite", log, clock, lambda: 1)
    book.start()
    with pytest.raises(QueryFailed, match="1 records behind"):
        asked(book)
    with pytest.raises(StoreFailed, match="1 records behind"):
        standing(book)
    log.shown = None
    book.committed([log.outcome("2")])
    assert counted(asked(book))["calls"] == 2
    book.close()


def test_a_book_that_cannot_be_written_says_so_and_counts_later(
    book: UsageBook, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(book)
    whole = book._writes.add

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(following, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(book._writes, "add", full, raising=False)
    book.committed([log.outcome("1")])
    with pytest.raises(QueryFailed, match="disk is full"):
        asked(book)
    with pytest.raises(StoreFailed, match="disk is full"):
        asyncio.run(book.check())
    monkeypatch.setattr(book._writes, "add", whole, raising=False)
    book.committed([log.outcome("2")])
    with book._following._changed:
        assert book._following._changed.wait_for(lambda: not book.behind, 10)
    assert counted(asked(book))["calls"] == 2


def test_what_is_too_much_to_wait_in_memory_is_read_from_the_log(
    tmp_path: Path, log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PENDING_BYTES", 5000)
    monkeypatch.setattr(usage, "BATCH_BYTES", 2000)
    book = UsageBook(tmp_path / "usage.sqlite", log, clock)
    for n in range(40):  # nobody takes them: it is not started yet
        book.committed([log.outcome(str(n))])
        assert sum(len(entry) for _, entry in book._following._pending) < 5000 + 2000
    book.start()
    assert counted(asked(book))["calls"] == 40
    book.close()


def test_a_record_of_another_shape_counts_as_nothing_and_is_told_of(book: UsageBook, log: Log) -> None:
    usage_of = {"bytes_in": 1, "bytes_out": 1, "calls": 1}
    book.committed(
        [
            log.outcome("1", usage={**usage_of, "usd": "one"}),
            log.outcome("2", usage={**usage_of, "input_tokens": -1}),
            log.outcome("3", budgets=[{"name": "org-month"}]),
            log.append("outcome", exchange="4", subject="x", usage={}),
            log.adjusted("set", ORG_MONTH, ["acme"], most="much"),
            log.append("admin", action="admin.login"),
            log.outcome("5", "1"),
        ]
    )
    assert counted(asked(book)) == {"calls": 1, "bytes_in": 5, "bytes_out": 7, "usd": 1_000_000}
    assert standing(book, (ORG_MONTH, MONTH)).tallies[0].settled == 1_000_000
    assert book.unreadable == 5


def test_absurd_numbers_fill_a_sum_and_break_nothing(book: UsageBook, log: Log) -> None:
    absurd = {"bytes_in": 1, "bytes_out": 1, "calls": 1, "input_tokens": 2**53 - 1, "usd": "9007199254.740991"}
    for _ in range(3):
        book.committed([log.outcome(str(n), "9007199254.740991", usage=absurd) for n in range(600)])
        asked(book)
    other = {**absurd, "input_tokens": 1, "usd": "1"}
    book.committed([log.outcome("x", org="other", usage=other)])
    page = asked(book, "org")
    assert [row.counts[COUNTS.index("input_tokens")] for row in page.rows] == [SUM_MOST, 1]
    assert page.total.counts[COUNTS.index("usd")] == SUM_MOST
    assert [tally.settled for tally in standing(book, (ORG_MONTH, MONTH)).tallies] == [SUM_MOST, 500_000]


# The property


def naive(entries: Iterable[bytes]) -> tuple[dict[tuple[str, ...], dict[str, int]], dict[tuple[str, ...], Decimal]]:
    """Usage by everything, and settled sums, by a code of its own."""
    used: dict[tuple[str, ...], dict[str, int]] = {}
    sums: dict[tuple[str, ...], Decimal] = {}
    for entry in entries:
        record = json.loads(entry)
        if record["kind"] not in ("outcome", "refusal"):
            continue
        subject, resource = record.get("subject", {}), record.get("resource", {})
        kind, ident = resource.get("type", ""), resource.get("id", "")
        values = {
            "org": subject.get("org", ""), "team": subject.get("team", ""), "agent": subject.get("agent", ""),
            "subject": subject.get("id", ""), "upstream": record.get("upstream", {}).get("name", ""),
            "model": ident if kind == "model" else "", "tool": ident if kind == "tool" else "", "resource": ident,
            "type": kind, "action": record.get("action", ""), "day": record["time"][:10], "month": record["time"][:7],
        }  # fmt: skip
        row = used.setdefault(tuple(values[name] for name in DIMENSIONS), dict.fromkeys(COUNTS, 0))
        if record["kind"] == "refusal":
            row["refusals"] += 1
            continue
        row["unknown"] += record.get("result") == "unknown"
        for name, count in record.get("usage", {"calls": 1}).items():
            if name == "usd":
                row[name] += int(Decimal(count) * 1_000_000)
            elif name in row:
                row[name] += count if type(count) is int else 1
        for item in record.get("budgets", ()):
            account = (
                item["name"],
                item["unit"],
                item.get("period", ""),
                json.dumps(item["key"], separators=(",", ":")),
            )
            sums[account] = sums.get(account, Decimal(0)) + Decimal(item["settled"])
    return used, sums


def anything(source: random.Random, log: Log) -> tuple[int, bytes]:
    """A record as a gateway writes it, whatever callers and policies put into it."""
    text = source.choice
    kind = source.choices(["intent", "outcome", "refusal", "admin", "recovery"], [8, 8, 2, 1, 1])[0]
    org = text([*NASTY, None])
    members: dict[str, Any] = {
        "exchange": f"{source.randrange(10**6)}", "time": f"2026-11-{source.randrange(1, 29):02d}T12:00:00.000000Z",
        "action": text(["llm.chat", "mcp.tools/call", "http.GET"]),
        "decision": {"reason": text(NASTY), "obligations": [{text(NASTY): {text(["kind", "a"]): text(NASTY)}}]},
        **({"descriptor": {"tool": OTHER}} if source.random() < 0.2 else {}),
        "request": {"path": text(NASTY), "client_id": text(NASTY)},
        "resource": {"id": text(NASTY), "type": text(["tool", "model"])},
        "subject": {"id": text(NASTY), "roles": [text(NASTY)], **({"org": org} if org is not None else {})},
        "upstream": {"address": "127.0.0.1:1", "name": text(["a", "b"])}, "trace_id": "0" * 32,
    }  # fmt: skip
    if source.random() < 0.3:
        members["subject"]["team"] = text(NASTY)
        members["subject"]["agent"] = text(NASTY)
    budgets = [
        {
            "key": [text([*NASTY, None]) for _ in range(source.randrange(1, 3))], "name": text(["one", "two"]),
            "reserved": "1", "unit": "usd", **({"period": MONTH} if source.random() < 0.7 else {}),
        }
        for _ in range(source.randrange(3))
    ]  # fmt: skip
    if budgets:
        members["budgets"] = budgets
    if kind == "outcome":
        for item in budgets:
            item["settled"] = str(Decimal(source.randrange(10**7)) / 1_000_000)
            if "E" in item["settled"]:
                item["settled"] = "0"
        usage_of: dict[str, Any] = {"bytes_in": source.randrange(100), "bytes_out": 1, "calls": 1}
        for name in source.sample([name for name in COUNTS if name.endswith("_tokens")], 2):
            usage_of[name] = source.randrange(1000)
        usage_of |= {"tier": text(NASTY), "usd": f"0.{source.randrange(1, 10**6):06d}"}
        usage_of |= dict.fromkeys(source.sample(["estimated", "unpriced"], 1), True)
        result = text(["ok", "error", "unknown"])
        members |= {"response": {"status": 200}, "result": result, "route": text(NASTY), "us": 1, "usage": usage_of}
        if result == "unknown" and source.random() < 0.5:
            for name in ("usage", "decision", "response", "us"):
                members.pop(name)
        if source.random() < 0.2:
            members["refusal"] = {"reason": "budget_exhausted", "text": text(NASTY), "budget": {"key": [text(NASTY)]}}
        if source.random() < 0.1:
            members["would_deny"] = 1
    elif kind == "refusal":
        members["request"]["capture"] = {"subject": {"org": text(NASTY)}, "kind": "intent", "x": text(NASTY)}
        members.pop("upstream")
    elif kind != "intent":
        members = {"action": text(NASTY), "request": {"kind": text(NASTY)}}
    return log.append(kind, **members)


def of_book(book: UsageBook) -> tuple[dict[tuple[str, ...], dict[str, int]], dict[tuple[str, ...], Decimal]]:
    rows = asked(book, *DIMENSIONS, limit=10_000).rows
    sums: dict[tuple[str, ...], Decimal] = {}
    for name in ("one", "two"):
        for width in (1, 2):
            for budget, period in (
                (Budget(name, ("x",) * width, "usd", 0, "month"), MONTH),
                (Budget(name, ("x",) * width, "usd", 0, "total"), ""),
            ):
                for tally in standing(book, (budget, period)).tallies:
                    sums[name, "usd", period, tally.account.key] = Decimal(tally.settled) / 1_000_000
    return {row.values: dict(zip(COUNTS, row.counts, strict=True)) for row in rows}, sums


def test_the_book_is_the_sum_over_the_log_whenever_it_was_stopped(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    monkeypatch.setattr(usage, "BATCH", 16)
    monkeypatch.setattr(usage, "CHUNK", 8)
    for run in range(examples(50)):
        log = Log()
        path = tmp_path / f"{run}.sqlite"
        for _ in range(source.randrange(1, 4)):  # begun anew with what was there
            book = UsageBook(path, log, clock, lambda log=log: len(log.entries))  # type: ignore[misc]
            for _ in range(source.randrange(3)):  # before it is started
                book.committed([anything(source, log) for _ in range(source.randrange(20))])
            log.shown = source.choice([None, len(log.entries)])
            book.start()
            for _ in range(source.randrange(4)):
                entries = [anything(source, log) for _ in range(source.randrange(30))]
                if source.random() < 0.2 and len(entries) > 2:
                    del entries[1]  # the log says that it told all of them, and did not
                book.committed(entries)
                log.shown = None
            if source.random() < 0.7:
                assert of_book(book) == naive(log.entries), f"seed {seed}"
                assert book.unreadable == 0, f"seed {seed}"
            book.close()
            if source.random() < 0.2:  # a file that is older than the log
                shutil.copy(path, tmp_path / "older")
            elif (tmp_path / "older").exists() and source.random() < 0.5:
                (tmp_path / "older").unlink()
        book = UsageBook(path, log, clock, lambda log=log: len(log.entries))  # type: ignore[misc]
        book.start()
        assert of_book(book) == naive(log.entries), f"seed {seed}"
        book.close()


def test_what_is_found_by_its_bytes_is_what_a_parse_says() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    log = Log()
    by_bytes, parsed = Sums(), Sums()
    found = 0
    for _ in range(examples(5000)):
        seq, entry = anything(source, log)
        by_bytes.add(seq, entry)
        parsed._record(seq, orjson.loads(entry))
        found += entry.count(b'"kind":"') == 1 and b'"kind":"outcome"' in entry
    by_bytes.finish()
    assert by_bytes.used == parsed.used, f"seed {seed}"
    assert (by_bytes.settled, by_bytes.slices) == (parsed.settled, parsed.slices), f"seed {seed}"
    assert not by_bytes.unreadable
    assert found > examples(5000) / 10
    assert len(by_bytes._rows) > 10


def alike(source: random.Random, log: Log, entry: bytes) -> tuple[int, bytes]:
    """The record again, with another seq and other ids, moments and numbers of the sort that differ each time."""
    record = json.loads(entry)
    members = {name: record[name] for name in record if name not in ("v", "seq", "node", "kind", "id", "exchange")}
    members["time"] = f"{record['time'][:14]}{source.randrange(3):02d}:{source.randrange(60):02d}.000001Z"
    members["id"], members["exchange"] = (f"{source.randrange(16**36):036x}" for _ in range(2))
    if "us" in record:
        members["us"] = source.randrange(10**6)
    return log.append(record["kind"], **members)


def test_what_repeats_itself_is_counted_as_often_as_it_comes() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    hits = 0
    for _ in range(examples(20)):
        log = Log()
        few = [anything(source, log)[1] for _ in range(source.randrange(1, 40))]
        by_bytes, parsed = Sums(), Sums()
        begun = len(log.entries)
        for _ in range(source.randrange(600)):
            alike(source, log, source.choice(few))
        entries = list(enumerate(log.entries))[begun:]
        for at in range(0, len(entries), 100):
            by_bytes.take(entries[at : at + 100])
            if source.random() < 0.2:
                by_bytes.finish()
        by_bytes.finish()
        hits += by_bytes._hits
        for seq, entry in entries:
            parsed._record(seq, orjson.loads(entry))
        assert by_bytes.used == parsed.used, f"seed {seed}"
        assert (by_bytes.settled, by_bytes.slices) == (parsed.settled, parsed.slices), f"seed {seed}"
        assert (by_bytes.newest, by_bytes.unreadable) == (parsed.newest, []), f"seed {seed}"
    assert hits > examples(20) * 10


def test_what_never_repeats_itself_is_no_longer_compared() -> None:
    log, by_bytes, parsed = Log(), Sums(), Sums()
    entries = [log.outcome(str(n), f"0.{n:06d}") for n in range(600)] + [log.outcome(str(n)) for n in range(9)]
    by_bytes.take(entries)
    assert by_bytes._varied
    by_bytes.finish()
    for seq, entry in entries:
        parsed._record(seq, orjson.loads(entry))
    assert (by_bytes.used, by_bytes.settled) == (parsed.used, parsed.settled)


def test_what_differs_in_one_member_counts_apart() -> None:
    log, by_bytes, parsed = Log(), Sums(), Sums()
    budget = {"key": ["acme"], "name": "ever", "reserved": "2", "settled": "1", "unit": "usd"}
    usage_of = {"bytes_in": 5, "calls": 1}
    members: list[dict[str, Any]] = [
        {}, {"action": "llm.answer/chat"}, {"subject": {"org": "acne"}}, {"resource": {"id": "w/y", "type": "tool"}},
        {"upstream": {"name": "v"}}, {"budgets": [{**budget, "settled": "3"}]}, {"usage": {**usage_of, "calls": 2}},
        {"time": "2026-11-23T11:59:30.000000Z"}, {"time": "2026-11-22T11:58:30.000000Z"}, {"would_deny": 1},
        {"resource": {"id": "a{b}/{c}", "type": "tool"}}, {"resource": {"id": "a{b}/{d}", "type": "tool"}},
    ]  # fmt: skip
    plain = {"budgets": [budget], "usage": usage_of, "subject": {"org": "acme"}}
    entries = [log.outcome(str(n), **(plain | other)) for n in range(4) for other in members]
    by_bytes.take(entries)
    by_bytes.finish()
    for seq, entry in entries:
        parsed._record(seq, orjson.loads(entry))
    assert by_bytes._hits == 3 * len(members)
    assert (by_bytes.used, by_bytes.settled, by_bytes.slices) == (parsed.used, parsed.settled, parsed.slices)


def test_where_the_last_outcome_had_its_parts_another_may_have_a_callers() -> None:
    """The same distances, but what lies there is inside another object."""
    inner = {"a": 1, "resource": {"id": "w/x", "type": "tool"}, "response": {"b": 1}, "subject": {"org": "p"}}
    for width in range(300):
        log, by_bytes, parsed = Log(), Sums(), Sums()
        pad = "x" * width
        entries = [
            log.outcome("1", subject={"org": "acme", "roles": [pad]}, result="unknown"),
            log.outcome("2", org="o", result="unknown", response={"capture": inner}),
            log.outcome("3", route=pad),
            log.outcome("4", request={"capture": inner}),
            log.outcome("5", request={"capture": inner}, resource={"id": "w/y", "type": "tool"}),
            log.outcome("6", resource={"id": pad, "type": "tool"}, response={"resource": {"id": "p"}}),
            log.outcome("7", resource={"id": "w", "type": "tool"}, response={"resource": {"id": "p"}, "x": pad}),
        ]
        by_bytes.take(entries)
        by_bytes.finish()
        for seq, entry in entries:
            parsed._record(seq, orjson.loads(entry))
        assert by_bytes.used == parsed.used, width


def test_what_cannot_be_read_is_told_of_each_time() -> None:
    log, sums = Log(), Sums()
    rolling = {"key": ["acme"], "name": "ever", "reserved": "2", "settled": "1", "unit": "usd"}
    sums.take([log.outcome(str(n), budgets=[rolling], time="2026-11-22T11:99:30.000000Z") for n in range(3)])
    sums.take([log.outcome(str(n), usage={"calls": 1, "usd": "-1"}) for n in range(3)])
    sums.finish()
    assert sums.unreadable == list(range(6))
    assert not sums.settled


def test_an_intent_is_known_by_its_beginning_only_where_that_was_an_object_before() -> None:
    ids = {"exchange": "a" * 36, "id": "b" * 36, "action": "llm.chat", "decision": {"effect": "allow"}}
    budget = {"key": ["acme"], "name": "calls", "reserved": "1", "settled": "1", "unit": "calls"}
    nested = {"exchange": "a" * 36, "id": "b" * 36, "kind": "intent", "z": 1}
    whole = {**nested, "budgets": [budget], "decision": {"effect": "allow"}}
    said = {"kind": "intent", "z": 1}
    usage_of = {"response": {"status": 200}, "usage": {"calls": 1}, "exchange": "c" * 36, "id": "d" * 36}
    for before in ({}, {"budgets": [{**budget, "key": ["x" * 300]}]}):
        log, sums = Log(), Sums()
        intents = [log.append("intent", **{**ids, **before, "action": "llm.chat" + "x" * 60}) for _ in range(3)]
        sums.take(intents)
        at = sums._openings.at(intents[-1][1])
        assert at > 0
        tried = 0
        for inner in (nested, whole):
            for width in range(340):
                long, wide = "llm.chat" + "x" * 60, {"t": "x" * width, "z": inner}
                for members in (
                    {"action": "llm.chat", "descriptor": {"tool": inner, "to": "x" * width}},
                    {"action": "llm.chat", "descriptor": wide},
                    {"action": long, "budgets": [budget], "decision": {"effect": "deny"}, "descriptor": wide},
                    {"action": "llm.chat" + "x" * width, "decision": ids["decision"], "descriptor": {"z": inner}},
                    {"action": long, "budgets": [budget], "decision": {"x" * width: inner}},
                    {"action": long, "decision": ids["decision"], "exchange": "c", "fault": {"a": wide["t"], **said}},
                ):
                    seq, entry = log.append("outcome", **(usage_of | members))
                    tried += entry[at + 80 : at + 98] == b'","kind":"intent",'
                    sums.add(seq, entry)
        sums.finish()
        assert tried
        assert sum(row[0] for row in sums.used.values()) == 2 * 340 * 6


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [("0", "usd", 0), ("1.5", "usd", 1_500_000), ("0.000001", "usd", 1), ("12", "calls", 12), ("0.0000011", "usd", 2)],
)
def test_decimal_strings_become_whole_numbers_exactly(text: str, unit: str, number: int) -> None:
    assert settlements.whole(text, unit) == number


@pytest.mark.parametrize("text", ["", "-1", "1e3", "x", "1.2.3", ".5", "٣", "9" * 17])
def test_what_is_no_decimal_string_is_refused(text: str) -> None:
    for unit in ("usd", "bytes"):
        with pytest.raises(ValueError, match=r"."):
            settlements.whole(text, unit)
