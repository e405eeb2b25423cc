"""The two records: nothing goes on before the intent is durable, and exactly one terminal record says how it ended."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.drawing import Drawing
from gateway.core.pipeline import CONTINUE, Pipeline
from gateway.core.reasons import LogUnavailable, Malformed, Reason, Refusal
from gateway.stages.record import RecordIntent, RecordTerminal
from tests.stages.exchanges import Clock, Ids, exchange


class Picky:
    """A log that has no entry for what is too large a number: as the real one."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def submit(self, record: Any, *, plain: bool = False) -> int:
        if "99999" in str(record):
            raise Malformed("no canonical form")
        self.records.append(record)
        return len(self.records)


class Log:
    """Keeps what was submitted; `durable` decides what waiting for it means."""

    def __init__(self, durable: Any = None, full: bool = False) -> None:
        self.records: list[dict[str, Any]] = []
        self.durable = durable or asyncio.Event()
        self.full = full

    def submit(self, record: Any, *, plain: bool = False) -> int:
        if self.full:
            raise LogUnavailable("the disk is full")
        self.records.append(dict(record) if isinstance(record, dict) else record.record())
        return len(self.records) - 1

    async def sequenced(self, seq: int) -> None:
        if isinstance(self.durable, Exception):
            raise self.durable
        await self.durable.wait()

    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.records]


def pipeline(log: Any, forwarded: list[str]) -> Pipeline:
    class Forward:
        name = "forward"

        def __call__(self, given: Any) -> Any:
            forwarded.append(given.id)
            return CONTINUE

    return Pipeline(
        (RecordIntent(log, Drawing(), Ids(), Clock()), Forward()), (RecordTerminal(log, Drawing(), Ids(), Clock()),)
    )  # type: ignore[arg-type]


def test_nothing_is_forwarded_before_the_intent_is_durable() -> None:
    async def tell() -> None:
        log, forwarded = Log(), list[str]()
        given = exchange()
        admitting = asyncio.create_task(pipeline(log, forwarded).admit(given))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (log.kinds(), forwarded) == (["intent"], [])
        log.durable.set()
        assert await admitting is None
        assert forwarded == [given.id]

    asyncio.run(tell())


def test_a_standard_route_does_not_wait_and_still_has_its_intent() -> None:
    log, forwarded = Log(), list[str]()
    assert asyncio.run(pipeline(log, forwarded).admit(exchange(audit="standard"))) is None
    assert (log.kinds(), len(forwarded)) == (["intent"], 1)


def test_a_log_that_takes_nothing_refuses_on_every_route() -> None:
    for audit in ("strict", "standard"):
        log, forwarded = Log(full=True), list[str]()
        given = exchange(audit=audit)
        flow = pipeline(log, forwarded)
        refusal = asyncio.run(flow.admit(given))
        assert refusal is not None
        assert (refusal.reason, refusal.retry_after, forwarded) == (Reason.AUDIT_UNAVAILABLE, 1, [])
        flow.settle(given)  # nor does it take the refusal: that is no fault
        assert log.records == []


def test_an_intent_that_never_got_durable_is_a_refusal_in_the_end() -> None:
    log, forwarded = Log(durable=LogUnavailable("fsync failed")), list[str]()
    given, flow = exchange(), pipeline(log, forwarded)
    refusal = asyncio.run(flow.admit(given))
    flow.settle(given)
    assert refusal is not None
    assert (refusal.reason, forwarded) == (Reason.AUDIT_UNAVAILABLE, [])
    assert log.kinds() == ["intent", "refusal"]
    assert log.records[-1]["refusal"]["reason"] == "audit_unavailable"


def test_a_caller_that_leaves_while_the_log_is_written_has_an_outcome_and_nothing_was_forwarded() -> None:
    async def tell() -> None:
        log, forwarded = Log(), list[str]()
        given, flow = exchange(), pipeline(log, forwarded)
        admitting = asyncio.create_task(flow.admit(given))
        await asyncio.sleep(0)
        admitting.cancel()
        await asyncio.gather(admitting, return_exceptions=True)
        flow.settle(given)
        assert (log.kinds(), forwarded) == (["intent", "outcome"], [])
        assert log.records[-1]["result"] == "client_gone"

    asyncio.run(tell())


def test_a_refusal_before_the_intent_leaves_one_record() -> None:
    log = Log()
    given = exchange()
    given.refusal = Refusal(Reason.DENIED, "no", rule="r")
    Pipeline((), (RecordTerminal(log, Drawing(), Ids(), Clock()),)).settle(given)  # type: ignore[arg-type]
    assert log.kinds() == ["refusal"]
    assert log.records[0]["refusal"] == {"reason": "denied", "text": "no", "rule": "r"}
    assert "result" not in log.records[0]


def test_an_exchange_whose_record_has_no_entry_still_ends_in_one() -> None:
    log, given = Picky(), exchange()
    given.intent_seq, given.status, given.usage.input_tokens = 3, 200, 99999
    Pipeline((), (RecordTerminal(log, Drawing(), Ids(), Clock()),)).settle(given)  # type: ignore[arg-type]
    assert [(item["kind"], item["exchange"], item["result"]) for item in log.records] == [
        ("outcome", "exchange-1", "ok")
    ]
    assert log.records[0]["fault"] == "record: no canonical form"
