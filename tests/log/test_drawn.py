"""Records that come as bytes fare as those that come as dictionaries: completed, bounded, held while the disk fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.core.drawing import Drawn
from gateway.core.reasons import LogUnavailable
from gateway.log import export
from tests.log.log_rig import NODE, FaultyDisk, eventually, run, sequencer, verified


def stored(data_dir: Path) -> list[dict[str, object]]:
    return [json.loads(entry) for _, entry in export.entries(data_dir / "log", export.pin(data_dir / "log"))]


def drawn(kind: str, exchange: str, path: str = "/x") -> Drawn:
    return Drawn(
        kind,
        exchange,
        b'{"action":"http.GET","exchange":"%s","id":"i-%s","kind":"%s",'
        % (exchange.encode(), kind.encode(), kind.encode()),
        b'"request":%s,"result":"ok","route":"r"' % json.dumps({"path": path}, separators=(",", ":")).encode(),
        b',"time":"2026-11-22T12:00:00.000000Z","v":1}',
    )


def test_what_is_drawn_is_completed_and_numbered(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        assert log.submit(drawn("intent", "a")) == 0
        await log.sequenced(log.submit(drawn("intent", "b")))
        log.submit(drawn("outcome", "a"))
        log.submit(drawn("outcome", "b"))
        await log.close()

    run(main)
    found = stored(tmp_path)
    assert [(item["seq"], item["exchange"], item["node"]) for item in found] == [
        (0, "a", NODE), (1, "b", NODE), (2, "a", NODE), (3, "b", NODE),
    ]  # fmt: skip
    assert verified(tmp_path).ok


def test_what_is_drawn_too_large_is_shortened_as_any_record(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await log.sequenced(log.submit(drawn("intent", "a", "/" + "x" * 70_000)))
        log.submit(drawn("outcome", "a"))
        await log.close()

    run(main)
    found = stored(tmp_path)
    assert found[0]["shortened"] is True
    assert found[0]["kind"] == "intent"
    assert verified(tmp_path).ok


def test_a_drawn_outcome_is_held_while_the_disk_fails_and_a_drawn_intent_is_refused(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def main() -> None:
        log = sequencer(tmp_path, disk=disk, queue_records=3)
        log.start(asyncio.get_running_loop())
        await log.sequenced(log.submit(drawn("intent", "a")))
        disk.broken = {"append", "allocate"}
        with pytest.raises(LogUnavailable):
            await log.sequenced(log.submit(drawn("intent", "b")))
        with pytest.raises(LogUnavailable):
            log.submit(drawn("intent", "c"))
        log.submit(drawn("outcome", "a"))
        disk.broken = set()
        await eventually(lambda: log.size == 2)
        await log.close()

    run(main)
    assert [(item["kind"], item["exchange"]) for item in stored(tmp_path)] == [("intent", "a"), ("outcome", "a")]
    assert verified(tmp_path).ok


def test_a_full_queue_refuses_a_drawn_intent_and_takes_a_drawn_outcome(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path, queue_records=2)
        log.submit(drawn("intent", "a"))
        log.submit(drawn("intent", "b"))
        with pytest.raises(LogUnavailable):
            log.submit(drawn("intent", "c"))
        log.submit(drawn("outcome", "a"))
        log.start(asyncio.get_running_loop())
        await log.close()

    run(main)
