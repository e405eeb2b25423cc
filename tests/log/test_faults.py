"""R3 as a property: whatever sequence of calls, faults, repairs and restarts, the ledgers agree at the end."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.reasons import LogUnavailable
from gateway.log import export
from gateway.log.writer import Sequencer
from tests.log.log_rig import FaultyDisk, eventually, exchange_id, record, run, sequencer, verified

STEPS = st.lists(
    st.sampled_from(
        ["call", "call", "call", "burst", "intent", "outcomes", "admin", "break", "break tiles", "mend", "restart"]
    ),
    max_size=25,
)


class Story:
    """Drives a sequencer through the steps and keeps the client's ledger."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.disk = FaultyDisk()
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.handed_in: set[str] = set()
        self.open: list[str] = []
        self.log = self.start()

    def start(self) -> Sequencer:
        log = sequencer(self.data_dir, disk=self.disk, segment_bytes=4096, checkpoint_seconds=0.02)
        log.start(asyncio.get_running_loop())
        return log

    async def intent(self) -> str | None:
        exchange = exchange_id()
        try:
            await self.log.sequenced(self.log.submit(record("intent", exchange)))
        except LogUnavailable:
            self.refused.add(exchange)
            return None
        self.acknowledged.add(exchange)
        return exchange

    def outcome(self, exchange: str) -> None:
        self.log.submit(record("outcome", exchange))
        self.handed_in.add(exchange)

    async def call(self) -> None:
        exchange = await self.intent()
        if exchange is not None:
            self.outcome(exchange)

    async def step(self, name: str) -> None:
        if name == "call":
            await self.call()
        elif name == "burst":
            await asyncio.gather(*(self.call() for _ in range(12)))
        elif name == "intent":
            exchange = await self.intent()
            self.open += [exchange] if exchange is not None else []
        elif name == "outcomes":
            while self.open:
                self.outcome(self.open.pop())
        elif name == "admin":
            try:
                self.log.submit(record("admin"))
            except LogUnavailable:
                assert self.disk.broken
        elif name == "break":
            self.disk.broken = {"append", "allocate", "replace"}
        elif name == "break tiles":
            self.disk.broken = {"replace", "sync_dir"}
        elif name == "mend":
            await self.mend()
        elif name == "restart":
            await self.log.close()
            self.disk.broken = set()
            self.open.clear()
            self.log = self.start()

    async def mend(self) -> None:
        self.disk.broken = set()
        await eventually(lambda: self.log.healthy)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_no_sequence_of_faults_and_restarts_loses_or_invents_anything(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="tollgate-log-") as name:
        data_dir = Path(name)

        async def main() -> Story:
            story = Story(data_dir)
            for step in steps:
                await story.step(step)
            await story.mend()
            await story.log.close()
            return story

        story = run(main)
        report = verified(data_dir)
        assert report.ok, report.problems
        directory = data_dir / "log"
        rows = [json.loads(entry) for _, entry in export.entries(directory, export.pin(directory))]
        intents = {row["exchange"] for row in rows if row["kind"] == "intent"}
        outcomes = {row["exchange"]: row["result"] for row in rows if row["kind"] == "outcome"}
        assert story.acknowledged == intents
        assert not story.refused & intents
        assert {exchange for exchange, _ in report.in_flight} == set(story.open)
        assert set(outcomes) == intents - set(story.open)
        known = {exchange for exchange, result in outcomes.items() if result == "ok"}
        assert known <= story.handed_in
