"""The log from a worker: the same bytes, the same refusals, and what was promised kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.reasons import LogUnavailable, Malformed
from gateway.log.clerk import LogClerk
from gateway.log.entry import encode
from gateway.log.remote import RemoteLog, packed, parted, unpacked
from gateway.log.writer import Sequencer
from tests.log.log_rig import FaultyDisk, eventually, exchange_id, record, run, sequencer, verified
from tests.wire.posts import posts


def whole(made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "v": 1, "seq": 7, "node": "gw"}


@pytest.mark.parametrize(
    "made",
    [
        record("intent", "e-1"),
        record("outcome", "e-1", result="unknown", usage={"calls": 1, "é": [1.5, None, True]}),
        {"kind": "admin", "id": "1", "time": "t", "action": "x"},
        {"kind": "recovery", "zebra": "last", "a": "first", "recovery": {"closed": 0}},
        {"kind": "activation", "node": "somebody else's", "seq": 99, "v": 2},
    ],
)
def test_parts_with_node_and_seq_between_them_are_the_canonical_record(made: dict[str, Any]) -> None:
    drawn, waited = unpacked(packed(parted(made), waited=True))
    middle = drawn.middle + b"," if drawn.middle else b""
    assert drawn.before + b'"node":"gw",' + middle + b'"seq":7' + drawn.after == encode(whole(made))
    assert waited
    assert drawn.record() == {name: value for name, value in whole(made).items() if name not in ("seq", "node")}


def test_what_is_no_record_is_refused_where_it_came_up() -> None:
    for made in (
        {"kind": "nonsense"},
        {"kind": "intent"},
        {"kind": "intent", "exchange": 1},
        record("intent", "e") | {"x": "\ud800"},
    ):
        with pytest.raises(Malformed):
            parted(made)


def test_half_a_record_is_none() -> None:
    said = packed(parted(record("intent", "e-1")), waited=False)
    for end in (0, 5, 11, 30):
        with pytest.raises(ValueError, match="record"):
            unpacked(said[:end])


@asynccontextmanager
async def connected(log: Sequencer) -> AsyncIterator[tuple[RemoteLog, LogClerk]]:
    async with posts() as (worker, owner):
        yield RemoteLog(worker), LogClerk(log, owner, lambda exchange: None)


def test_who_waits_is_told_after_the_disk_and_the_log_verifies(tmp_path: Path) -> None:
    async def main() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        async with connected(log) as (remote, clerk):
            size = log.size
            await remote.sequenced(remote.submit(record("intent", "e-1")))
            assert log.size > size
            assert list(clerk.open) == ["e-1"]
            remote.submit(record("outcome", "e-1"))
            await eventually(lambda: not clerk.open)
        await log.close()

    run(main)
    assert verified(tmp_path).ok


def test_a_full_disk_refuses_who_waits_keeps_what_was_promised_and_is_told_as_weather(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FaultyDisk()
        log = sequencer(tmp_path, disk=disk)
        log.start(asyncio.get_running_loop())
        async with connected(log) as (remote, clerk):
            await remote.sequenced(remote.submit(record("intent", "before")))
            disk.broken = {"append", "allocate"}
            remote.submit(record("intent", "promised"))  # nobody waits: the route is standard
            with pytest.raises(LogUnavailable):
                await remote.sequenced(remote.submit(record("intent", "refused")))
            clerk.weather()
            await eventually(lambda: not remote.healthy)
            with pytest.raises(LogUnavailable):
                remote.submit(record("intent", "told at once"))
            remote.submit(record("outcome", "before"))
            disk.broken = set()
            await eventually(lambda: log.healthy)
            clerk.weather()
            await eventually(lambda: remote.healthy)
            assert sorted(clerk.open) == ["promised"]
            await remote.sequenced(remote.submit(record("intent", "after")))
        await log.close()

    run(main)
    report = verified(tmp_path)
    assert report.ok, report.problems
    data = b"".join(
        path.read_bytes() for path in sorted((tmp_path / "log" / "tile" / "entries").rglob("*")) if path.is_file()
    )
    for exchange, there in (("before", True), ("promised", True), ("after", True), ("refused", False)):
        assert (json.dumps(exchange).encode() in data) is there


def test_without_its_owner_nothing_is_submitted_and_who_waits_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with posts() as (worker, _owner):
            remote = RemoteLog(worker)
            waiting = asyncio.ensure_future(remote.sequenced(remote.submit(record("intent", exchange_id()))))
            await asyncio.sleep(0)
            remote.lost()
            with pytest.raises(LogUnavailable):
                await waiting
            for kind in ("intent", "outcome"):
                with pytest.raises(LogUnavailable):
                    remote.submit(record(kind, exchange_id()))

    run(main)
