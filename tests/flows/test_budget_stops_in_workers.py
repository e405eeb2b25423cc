"""Streams of several worker processes under one budget, which the process that owns it counts: what both get together
is the budget, to the event."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import run

from tests.flows.crews import configure, crew
from tests.flows.endless import ASKED, PIECE, PRICES, Endless, budget, chat, events

AMOUNT = 20_000
TYPE = {"content-type": "application/json"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_streams_of_two_workers_share_a_budget_to_the_event(folder: Path) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE))
        (folder / "prices.yaml").write_text(PRICES)
        async with upstream.server:
            where: dict[str, Any] = {"url": f"http://127.0.0.1:{upstream.server.port}", "protocol": "openai"}
            route = {"name": "up", "match": {"path": "/up"}, "upstream": "up", "auth": "anonymous"}
            configure(
                folder, upstream.server.port, upstreams={"up": where}, routes=[route], prices="prices.yaml",
                budgets=[budget("tokens", AMOUNT)],
            )  # fmt: skip
            with ExitStack() as stack:
                crewed = await asyncio.to_thread(stack.enter_context, crew())
                await asyncio.to_thread(crewed.serves)

                async def ask() -> bytes:  # on a connection of its own, which the kernel gives to one of the workers
                    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{crewed.port}", timeout=30) as http:
                        return (
                            await http.post("/up/v1/chat/completions", content=json.dumps(ASKED), headers=TYPE)
                        ).content

                answers = await asyncio.gather(*(ask() for _ in range(6)))
                records = await asyncio.to_thread(crewed.records)
                await asyncio.to_thread(stack.pop_all().close)
        outcomes = [record for record in records if record["kind"] == "outcome"]
        assert all(events(answer)[-1] == b"[DONE]" for answer in answers)
        got = sorted(len(events(answer)) - 2 for answer in answers)
        held = [record["budgets"][0] for record in outcomes]
        assert sum(int(each["reserved"]) for each in held) == AMOUNT
        fits = [(int(each["budgets"][0]["reserved"]) - each["usage"]["input_tokens"]) // 10 for each in outcomes]
        assert got == sorted(fits)
        assert {record["refusal"]["reason"] for record in outcomes} == {"budget_exhausted"}

    run(story(), 120)
