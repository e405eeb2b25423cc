"""Many writers at once make one chain: nothing lost, nothing twice, no second sequencer, across a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.log import export
from gateway.log.disk import DataDirLocked
from tests.log.log_rig import exchanges, run, sequencer, verified

ROW = 68


def test_eight_times_five_hundred_appends_are_four_thousand_rows_of_one_chain(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path, checkpoint_records=300)
        log.start(asyncio.get_running_loop())
        with pytest.raises(DataDirLocked):
            sequencer(tmp_path)
        made = await asyncio.gather(*(exchanges(log, 250) for _ in range(8)))
        await log.close()
        acknowledged = [exchange for part in made for exchange in part]
        directory = tmp_path / "log"
        rows = [json.loads(entry) for _, entry in export.entries(directory, export.pin(directory))]
        assert len(rows) == 4000
        assert [row["seq"] for row in rows] == list(range(4000))
        for kind in ("intent", "outcome"):
            found = [row["exchange"] for row in rows if row["kind"] == kind]
            assert sorted(found) == sorted(acknowledged)

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems


def test_a_restart_continues_the_chain_and_does_not_fork_it(tmp_path: Path) -> None:
    notes = []
    for _ in range(5):

        async def main() -> None:
            log = sequencer(tmp_path)
            log.start(asyncio.get_running_loop())
            await asyncio.gather(*(exchanges(log, 20) for _ in range(8)))
            await log.close()

        run(main)
        notes.append((tmp_path / "log" / "checkpoint").read_bytes())
    for number, note in enumerate(notes, 1):
        report = verified(tmp_path, since=note)
        assert report.ok, report.problems
        assert report.since == 320 * number
