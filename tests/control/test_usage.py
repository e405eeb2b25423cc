"""Usage on the admin plane: summed up by the gateway, as JSON and as CSV that a spreadsheet does not run."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.openapi import description
from gateway.core.usage import COUNTS
from tests.control.plane_rig import EXCHANGE, Rig, plane

Story = Callable[[Rig], Awaitable[None]]


def tell(tmp_path: Path, story: Story) -> None:
    async def run() -> None:
        async with plane(tmp_path) as rig:
            await story(rig)

    asyncio.run(run())


async def used(rig: Rig, exchange: int, model: str, day: str = "2026-11-22", org: str = "acme", **usage: Any) -> None:
    ident = EXCHANGE.format(exchange)
    common = {
        "exchange": ident, "subject": {"id": "agent:idp/planner", "org": org}, "action": "llm.chat",
        "resource": {"id": model, "type": "model"}, "upstream": {"name": "llm"}, "time": f"{day}T12:00:00.000000Z",
    }  # fmt: skip
    await rig.write(**common)
    whole = {"bytes_in": 1, "bytes_out": 2, "calls": 1} | usage
    await rig.write(**common, kind="outcome", result="ok", usage=whole, response={"status": 200}, us=1)


def test_usage_is_summed_up_by_what_is_asked_for_with_money_as_decimal_strings(tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        await used(rig, 1, "gpt-5", input_tokens=10, usd="0.1")
        await used(rig, 2, "gpt-5", day="2026-11-23", input_tokens=5, usd="0.000001", estimated=True)
        await used(rig, 3, "claude", org="other")
        found = (await rig.get("/api/v1/usage?by=org,model,day&from=2026-11-01&to=2026-11-30")).json
        assert [tuple(row[name] for name in ("org", "model", "day", "calls", "usd")) for row in found["rows"]] == [
            ("acme", "gpt-5", "2026-11-22", 1, "0.1"), ("acme", "gpt-5", "2026-11-23", 1, "0.000001"),
            ("other", "claude", "2026-11-22", 1, "0"),
        ]  # fmt: skip
        assert found["rows"][1]["estimated"] == 1
        assert "estimated" not in found["rows"][0]
        total = {"bytes_in": 3, "bytes_out": 6, "calls": 3, "input_tokens": 15, "estimated": 1, "usd": "0.100001"}
        assert found["total"] == total
        assert (found["next"], found["size"]) == (None, 6)
        schemas: Any = description("0", "")["components"]["schemas"]  # type: ignore[index,call-overload]
        assert set(found) == set(schemas["Usage"]["required"])
        row = schemas["Usage"]["properties"]["rows"]["items"]["properties"]
        assert all(set(one) <= set(row) for one in found["rows"])
        only = (await rig.get("/api/v1/usage?by=model&org=acme&to=2026-11-22")).json
        assert [(row["model"], row["calls"]) for row in only["rows"]] == [("gpt-5", 1)]
        first = (await rig.get("/api/v1/usage?by=model&limit=1")).json
        assert [row["model"] for row in first["rows"]] == ["claude"]
        rest = (await rig.get(f"/api/v1/usage?by=model&limit=1&cursor={first['next']}")).json
        assert ([row["model"] for row in rest["rows"]], rest["next"]) == (["gpt-5"], None)
        assert rest["total"] == first["total"] == total

    tell(tmp_path, story)


def test_names_that_a_spreadsheet_would_run_are_quoted(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", 'a"b,c', "plain"]

    async def story(rig: Rig) -> None:
        for at, name in enumerate(names):
            await used(rig, at, name, usd="1.5", input_tokens=3)
        found = await rig.get("/api/v1/usage?by=model,org&format=csv")
        assert found.headers["content-type"] == "text/csv; charset=utf-8"
        assert found.headers["content-disposition"].startswith("attachment")
        head, *rows = list(csv.reader(io.StringIO(found.body.decode(), newline="")))
        assert head == ["model", "org", *COUNTS]
        assert sorted(row[0] for row in rows) == sorted([*(f"'{name}" for name in names[:7]), 'a"b,c', "plain"])
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in rows for cell in row)
        assert {(row[2], row[4], row[2 + COUNTS.index("usd")]) for row in rows} == {("1", "3", "1.5")}
        page = await rig.get("/api/v1/usage?by=model&format=csv&limit=2")
        assert page.headers["x-next-cursor"] == "2"

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "query",
    [
        "by=what", "by=org,org", "from=yesterday", "to=2026-13-01", "format=xml", "cursor=-1", "limit=0", "limit=10001",
        "x=1", "by=org&by=day",
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    async def story(rig: Rig) -> None:
        assert (await rig.get(f"/api/v1/usage?{query}")).status == 400

    tell(tmp_path, story)
