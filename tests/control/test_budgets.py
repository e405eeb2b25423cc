"""Budgets on the admin plane: how accounts stand, what is done to them, and that nothing counts before its record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.control.openapi import description
from gateway.core.accounts import (
    Account,
    Adjustment,
    Ask,
    Charge,
    ChargeAsk,
    CountersUnavailable,
    amount,
    key_text,
    shown,
)
from gateway.core.reasons import LogUnavailable
from tests.control.plane_rig import BUDGETS, EXCHANGE, Rig, plane

Story = Callable[[Rig], Awaitable[None]]
MONTH, CALLS = BUDGETS
ACCOUNT = "/api/v1/budgets/org-month/account"
ACME = ACCOUNT + "?key=" + quote('["acme"]')


def tell(tmp_path: Path, story: Story) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            await story(rig)

    asyncio.run(run())


async def spend(rig: Rig, exchange: int, org: str | None, usd: str) -> None:
    """One exchange of an organisation, in the counters and in the log."""
    assert rig.accounts is not None
    running, ident = rig.accounts.running(MONTH), EXCHANGE.format(exchange)
    account = Account(MONTH.name, key_text((org,)), running.period)
    ask = ChargeAsk(MONTH, account, amount(usd, "usd"), MONTH.amount, running.ends)
    assert rig.counters.take(Ask(ident, (), (), (ask,))).ok
    charge = Charge(MONTH, account, ask.amount)
    charge.settled = ask.amount
    rig.counters.close(ident, [charge])
    said = {"key": [org], "name": MONTH.name, "period": running.period, "reserved": usd, "unit": "usd"}
    subject = {"id": "agent:idp/planner", "type": "agent", **({"org": org} if org is not None else {})}
    common = {"exchange": ident, "subject": subject, "action": "mcp.tools/call", "upstream": {"name": "w"}}
    common |= {"resource": {"id": "w/forecast", "type": "tool"}}
    await rig.write(**common, budgets=[said])
    await rig.write(
        **common, kind="outcome", result="ok", budgets=[{**said, "settled": usd}],
        usage={"bytes_in": 1, "bytes_out": 2, "calls": 1, "usd": usd}, response={"status": 200, "bytes": 2}, us=1,
    )  # fmt: skip


async def put(rig: Rig, document: Any, *headers: tuple[str, str]) -> Any:
    own = [("content-type", "application/json"), *headers]
    return await rig.get(ACCOUNT, *own, method="PUT", body=json.dumps(document).encode())


async def acts(rig: Rig) -> list[dict[str, Any]]:
    await rig.log.checkpoint()
    records: list[dict[str, Any]] = (await rig.get("/api/v1/records?kind=admin")).json["records"]
    return [record for record in records[::-1] if record["action"].startswith("budget.")]


def fits(name: str, found: dict[str, Any]) -> bool:
    schema: Any = description("0", "")["components"]["schemas"][name]  # type: ignore[index,call-overload]
    return set(schema["required"]) <= set(found) <= set(schema["properties"])


def test_budgets_and_limits_in_force_are_shown(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        found = (await rig.get("/api/v1/budgets")).json
        assert found["shared"] is False
        month, calls = found["budgets"]
        assert fits("Budget", month)
        assert fits("Budget", calls)
        assert (month["amount"], month["warn_at"], month["carry"]) == ("100", ["50%", "80%"], "10%")
        assert month["begins"] < month["ends"]
        assert (calls["period"], calls["window"]) == ("rolling", 3600)
        assert "ends" not in calls
        limits = (await rig.get("/api/v1/limits")).json["limits"]
        assert [(one["name"], one["key"], one["rate"], one["burst"]) for one in limits] == [
            ("per-agent", ["subject.id"], "100/minute", 20)
        ]

    tell(tmp_path, story)


def test_accounts_are_shown_page_by_page_with_what_is_left(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for at, (org, usd) in enumerate([("acme", "12.5"), (None, "1"), ("zeta", "0.000001")]):
            await spend(rig, at, org, usd)
        found = (await rig.get("/api/v1/budgets/org-month")).json
        assert fits("Accounts", found)
        assert [(one["key"], one["settled"], one["left"]) for one in found["accounts"]] == [
            (["acme"], "12.5", "87.5"), (["zeta"], "0.000001", "99.999999"), ([None], "1", "99"),
        ]  # fmt: skip
        assert found["next"] is None
        first = (await rig.get("/api/v1/budgets/org-month?limit=2")).json
        assert len(first["accounts"]) == 2
        rest = (await rig.get(f"/api/v1/budgets/org-month?limit=2&cursor={quote(first['next'])}")).json
        assert [one["key"] for one in rest["accounts"]] == [[None]]
        only = (await rig.get("/api/v1/budgets/org-month?find=zet")).json["accounts"]
        assert [one["key"] for one in only] == [["zeta"]]

    tell(tmp_path, story)


def test_an_amount_is_set_and_taken_back_with_its_record(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await spend(rig, 1, "acme", "40")
        found = await put(rig, {"key": ["acme"], "amount": "60.5", "why": "a pilot"})
        assert found.status == 200
        assert fits("Account", found.json)
        assert [found.json[name] for name in ("most", "settled", "left", "configured")] == ["60.5", "40", "20.5", "100"]
        [one] = found.json["adjustments"]
        assert fits("Adjustment", one)
        assert (one["action"], one["most"], one["why"], one["by"]) == ("budget.set", "60.5", "a pilot", "admin")
        found = await put(rig, {"key": ["acme"], "amount": None})
        assert found.json["most"] == "100"
        first, second = await acts(rig)
        assert first["adjustment"] == {
            "key": ["acme"], "most": "60.5", "name": "org-month", "period": found.json["period"], "unit": "usd",
        }  # fmt: skip
        assert (first["id"], first["reason"]) == (one["id"], "a pilot")
        assert second["adjustment"]["unset"] is True

    tell(tmp_path, story)


def test_an_account_is_topped_up_granted_to_and_reset(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await spend(rig, 1, "acme", "40")
        found = await rig.post(ACCOUNT, {"key": ["acme"], "act": "top-up", "amount": "5"})
        assert (found.json["granted"], found.json["left"], found.json["handed_over"]) == ("5", "65", "0")
        until = "2099-01-01T00:00:00Z"
        found = await rig.post(ACCOUNT, {"key": ["acme"], "act": "grant", "amount": "7", "until": until})
        assert (found.json["granted"], found.json["left"]) == ("12", "72")
        assert found.json["grants"] == [{"amount": "7", "until": until}]
        found = await rig.post(ACCOUNT, {"key": ["acme"], "act": "reset", "why": "a new contract"})
        assert (found.json["settled"], found.json["left"]) == ("0", "112")
        assert found.json["adjustments"][0]["forgiven"] == "40"
        assert [one["action"] for one in await acts(rig)] == ["budget.top-up", "budget.grant", "budget.reset"]
        [tally] = (await rig.book.standing([(MONTH, found.json["period"])])).tallies  # type: ignore[union-attr]
        assert (tally.settled, tally.granted, len(tally.grants)) == (0, 5_000_000, 1)

    tell(tmp_path, story)


def test_an_account_nobody_used_yet_can_be_set(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert (await put(rig, {"key": ["new"], "amount": "0"})).json["left"] == "0"
        found = (await rig.get("/api/v1/budgets/org-month")).json["accounts"]
        assert [(one["key"], one["most"]) for one in found] == [(["new"], "0")]

    tell(tmp_path, story)


def test_what_the_period_before_left_is_shown_as_handed_over(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert rig.accounts is not None
        running = rig.accounts.running(MONTH)
        before = Account(MONTH.name, '["acme"]', "2000-01-01T00:00:00Z")
        rig.counters.take(Ask("a", (), (), (ChargeAsk(MONTH, before, 40_000_000, MONTH.amount, 2**40),)))
        account = Account(MONTH.name, '["acme"]', running.period)
        ask = ChargeAsk(MONTH, account, 1, MONTH.amount, running.ends, before)
        rig.counters.take(Ask("b", (), (), (ask,)))
        found = (await rig.get(ACME)).json
        assert (found["granted"], found["handed_over"]) == ("6", "6")  # a tenth of what was left
        found = (await rig.post(ACCOUNT, {"key": ["acme"], "act": "top-up", "amount": "5"})).json
        assert (found["granted"], found["handed_over"]) == ("11", "6")

    tell(tmp_path, story)


def test_a_period_that_is_over_is_read_from_the_book(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        said = {"key": ["acme"], "name": "org-month", "period": "2026-01-01T00:00:00Z", "reserved": "9", "unit": "usd"}
        await rig.write(exchange=EXCHANGE.format(1), budgets=[said])
        await rig.write(exchange=EXCHANGE.format(1), kind="outcome", result="ok", budgets=[{**said, "settled": "3"}])
        found = (await rig.get(f"{ACME}&period=2026-01-01T00:00:00Z")).json
        assert (found["settled"], found["left"], found["period"]) == ("3", "97", "2026-01-01T00:00:00Z")
        assert "handed_over" not in found

    tell(tmp_path, story)


def test_an_act_with_if_match_is_one_on_what_was_looked_at(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        seen = await rig.get(ACME)
        assert seen.headers["etag"] == seen.json["etag"]
        await spend(rig, 1, "acme", "1")
        match = ("if-match", seen.headers["etag"])
        first, second = await asyncio.gather(
            put(rig, {"key": ["acme"], "amount": "10"}, match), put(rig, {"key": ["acme"], "amount": "20"}, match)
        )
        assert sorted([first.status, second.status]) == [200, 412]
        assert len(await acts(rig)) == 1
        again = {"key": ["acme"], "act": "top-up", "amount": "1"}
        assert (await rig.post(ACCOUNT, again, match)).status == 412
        assert (await rig.post(ACCOUNT, again, ("if-match", "*"))).status == 200
        assert (await rig.post(ACCOUNT, again)).status == 200

    tell(tmp_path, story)


def test_what_cannot_be_recorded_does_not_count(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        def refused(record: Any, **_: Any) -> int:
            raise LogUnavailable("the disk is full")

        submit, rig.log.submit = rig.log.submit, refused  # type: ignore[method-assign]
        assert (await put(rig, {"key": ["acme"], "amount": "1"})).status == 503
        rig.log.submit = submit  # type: ignore[method-assign]
        assert (await rig.get(ACME)).json["most"] == "100"

    tell(tmp_path, story)


def test_what_is_recorded_and_could_not_be_told_is_told_again(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert rig.accounts is not None
        assert rig.book is not None

        class Away:
            balances = rig.counters.balances

            async def adjust(self, adjustment: Adjustment) -> None:
                raise CountersUnavailable("not now")

        rig.accounts._counters = Away()  # type: ignore[assignment]
        found = await rig.post(ACCOUNT, {"key": ["acme"], "act": "top-up", "amount": "5"})
        assert (found.status, found.json["told"]) == (202, False)
        await rig.accounts.retell()
        assert len(rig.accounts._untold) == 1
        rig.accounts._counters = rig.counters
        await rig.accounts.retell()
        await rig.accounts.retell()
        again = Account(MONTH.name, '["acme"]', rig.accounts.running(MONTH).period)
        await rig.accounts.adjust(Adjustment(found.json["recorded"], MONTH, again, 0, granted=5_000_000))
        assert (await rig.get(ACME)).json["granted"] == "5"
        [record] = await acts(rig)
        assert record["id"] == found.json["recorded"]

    tell(tmp_path, story)


def test_nobody_is_told_how_an_account_stands_while_the_counters_are_away(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        assert rig.accounts is not None

        class Away:
            async def balances(self, accounts: Any) -> Any:
                raise CountersUnavailable("connection refused")

        rig.accounts._counters = Away()  # type: ignore[assignment]
        for answer in (
            await rig.get(ACME), await rig.get("/api/v1/budgets/org-month"),
            await put(rig, {"key": ["a"], "amount": "1"}),
        ):  # fmt: skip
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert await acts(rig) == []

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"key": ["acme"]}, "It needs key and amount"),
        ({"key": ["acme"], "amount": 5}, "amount is a decimal string"),
        ({"key": ["acme"], "amount": "-5"}, "is not a decimal number"),
        ({"key": ["acme"], "amount": "1e3"}, "is not a decimal number"),
        ({"key": ["acme"], "amount": "99999999999999"}, "is not from 0 to"),
        ({"key": "acme", "amount": "5"}, "key is a JSON array of the values of subject.org"),
        ({"key": ["acme", "x"], "amount": "5"}, "key is a JSON array of the values of subject.org"),
        ({"key": [7], "amount": "5"}, "A value of a key is a text"),
        ({"key": ["acme"], "amount": "5", "more": "x"}, "It needs key and amount"),
        ({"key": ["acme"], "amount": "5", "why": 7}, "why is a text"),
    ],
)
def test_an_amount_that_makes_no_sense_is_refused(tmp_path: Path, document: Any, said: str) -> None:
    async def story(rig: Rig) -> None:
        found = await put(rig, document)
        assert found.status == 400
        assert said in found.json["detail"]
        assert await acts(rig) == []

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"act": "steal"}, "act is one of"),
        ({"act": "top-up"}, "top-up needs amount"),
        ({"act": "top-up", "amount": "0"}, "not 0"),
        ({"act": "top-up", "amount": "1", "until": "2099-01-01T00:00:00Z"}, "top-up needs amount"),
        ({"act": "grant", "amount": "1"}, "grant needs amount and until"),
        ({"act": "grant", "amount": "1", "until": "2020-01-01T00:00:00Z"}, "has passed already"),
        ({"act": "grant", "amount": "1", "until": "2099-01-01T00:00:00"}, "RFC 3339"),
        ({"act": "grant", "amount": "1", "until": "soon"}, "RFC 3339"),
        ({"act": "reset", "amount": "1"}, "reset needs no amount"),
    ],
)
def test_an_act_that_makes_no_sense_is_refused(tmp_path: Path, members: Any, said: str) -> None:
    async def story(rig: Rig) -> None:
        found = await rig.post(ACCOUNT, {"key": ["acme"], **members})
        assert found.status == 400
        assert said in found.json["detail"]

    tell(tmp_path, story)


def test_unknown_names_and_parameters_are_refused(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        for target, status in (
            ("/api/v1/budgets/none", 404), ("/api/v1/budgets/none/account?key=[]", 404), ("/api/v1/budgets?x=1", 400),
            ("/api/v1/limits?x=1", 400), ("/api/v1/budgets/org-month?x=1", 400), (ACCOUNT, 400),
            ("/api/v1/budgets/org-month?limit=0", 400), ("/api/v1/budgets/org-month?limit=501", 400),
            (f"{ACCOUNT}?key=acme", 400), (f"{ACCOUNT}?key={quote('[1]')}", 400),
        ):  # fmt: skip
            assert (await rig.get(target)).status == status, target
        assert (await rig.ask(ACME, ("host", "127.0.0.1:8081"))).status == 401

    tell(tmp_path, story)


def test_amounts_are_shown_as_they_are_written() -> None:
    for text in ("0", "1", "12.5", "0.000001", "9007199254.740991"):
        assert shown(amount(text, "usd"), "usd") == text
