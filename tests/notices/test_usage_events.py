"""The sink of usage events: each outcome at least once, in order, over failures and restarts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.notices import NotSent, Place, Places
from gateway.notices import usage_events
from gateway.notices.cloudevents import CONTENT_TYPE, EventForm
from gateway.notices.following import NotReadable, behind
from gateway.notices.usage_events import EventSettings, UsageEvents
from gateway.stores.notices import SqlitePlaces
from gateway.trust.fetcher import GuardedFetcher
from gateway.wire.fetch import Carrier
from tests.notices.entries import Kept, Log, intent, outcome
from tests.notices.receiver import Receiver, receiving
from tests.rig import run


def sink(log: Log, url: str, places: Places | None = None, *, begin: int = 0, batch: int = 3) -> UsageEvents:
    told = EventSettings(url, "s3cret", EventForm("gw-1"), batch)
    return UsageEvents(told, log, places or Kept(), GuardedFetcher(Carrier()), begin, lambda: 0.5)


def got(receiver: Receiver) -> list[list[str]]:
    return [[item["id"] for item in json.loads(body)] for body in receiver.bodies]


async def all_of(events: UsageEvents) -> None:
    while await events.step():
        pass


def test_outcomes_arrive_in_batches_of_the_log_s_order_and_once_when_all_is_well() -> None:
    async def story() -> None:
        log = Log()
        for n in range(7):
            log.add(intent(n), outcome(n))
        async with receiving(204) as receiver:
            events = sink(log, receiver.url)
            await all_of(events)
            await all_of(events)
            assert got(receiver) == [["id-0", "id-1", "id-2"], ["id-3", "id-4", "id-5"], ["id-6"]]
            assert receiver.headers[0]["content-type"] == CONTENT_TYPE
            assert receiver.headers[0]["authorization"] == "Bearer s3cret"
            assert (events.sent, events.refused, events.next) == (7, 0, 14)

    run(story())


def test_what_is_not_taken_is_sent_again_and_nothing_behind_it_goes_first() -> None:
    async def story() -> None:
        log = Log()
        log.add(*(outcome(n) for n in range(4)))
        async with receiving(503, None, 200, more=("retry-after: 7",)) as receiver:
            events = sink(log, receiver.url)
            with pytest.raises(NotSent) as first:
                await events.step()
            assert first.value.after == 7.0
            with pytest.raises(NotSent):
                await events.step()
            await all_of(events)
            assert got(receiver) == [["id-0", "id-1", "id-2"]] * 3 + [["id-3"]]

    run(story())


def test_a_batch_that_is_called_wrong_is_halved_until_the_one_that_is_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        log = Log()
        log.add(*(outcome(n) for n in range(3)))
        async with receiving(400, 204, 413, 422, 204) as receiver:
            events = sink(log, receiver.url)
            await all_of(events)
            assert got(receiver) == [["id-0", "id-1", "id-2"], ["id-0"], ["id-1", "id-2"], ["id-1"], ["id-2"]]
            assert (events.sent, events.refused) == (2, 1)

    run(story())
    assert "record id-1" in caplog.text


def test_a_sink_that_knows_them_already_has_taken_them() -> None:
    async def story() -> None:
        log = Log()
        log.add(outcome(0))
        async with receiving(409) as receiver:
            events = sink(log, receiver.url)
            await all_of(events)
            assert events.next == 1

    run(story())


def test_a_gateway_that_starts_again_goes_on_where_the_last_batch_was_taken(tmp_path: Path) -> None:
    async def story() -> None:
        log = Log()
        log.add(*(outcome(n) for n in range(4)))
        async with receiving(204, 503, 204) as receiver:
            places = SqlitePlaces(tmp_path / "events.sqlite")
            first = sink(log, receiver.url, places)
            assert await first.step()
            with pytest.raises(NotSent):
                await first.step()
            places.close()
            log.add(outcome(4))
            places = SqlitePlaces(tmp_path / "events.sqlite")
            await all_of(sink(log, receiver.url, places, begin=99))
            places.close()
            assert got(receiver) == [["id-0", "id-1", "id-2"], ["id-3"], ["id-3", "id-4"]]

    run(story())


def test_the_first_start_begins_behind_what_the_log_has() -> None:
    async def story() -> None:
        log, kept = Log(), Kept()
        log.add(outcome(0), outcome(1))
        async with receiving(204) as receiver:
            assert not await sink(log, receiver.url, kept, begin=2).step()
            log.add(outcome(2))
            await all_of(sink(log, receiver.url, kept, begin=99))  # a stop before the first event forgets nothing
            assert got(receiver) == [["id-2"]]

    run(story())


def test_a_place_of_another_log_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        log = Log()
        log.add(outcome(0), outcome(1), outcome(2))
        async with receiving(204) as receiver:
            await all_of(sink(log, receiver.url, Kept(Place(1, b"other")), begin=2))
            assert got(receiver) == [["id-2"]]

    run(story())
    assert "another log" in caplog.text


def test_a_log_that_does_not_show_its_end_yet_is_waited_for() -> None:
    async def story() -> None:
        events = sink(Log(), "http://127.0.0.1:9/", begin=5)
        with pytest.raises(NotReadable):
            await events.step()

    run(story())


def test_a_step_keeps_no_more_than_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_events, "SCAN", 4)
    monkeypatch.setattr(usage_events, "BATCH_BYTES", 900)

    async def story() -> None:
        log = Log()
        log.add(*(outcome(n, note="x" * 300) for n in range(3)), *(intent(n) for n in range(9)), outcome(3))
        async with receiving(204) as receiver:
            events = sink(log, receiver.url, batch=100)
            await all_of(events)
            assert got(receiver) == [["id-0"], ["id-1"], ["id-2"], ["id-3"]]

    run(story())


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.booleans(), max_size=30),
    answers=st.lists(st.sampled_from([204, 503, 429]), max_size=12),
    stops=st.sets(st.integers(0, 12)),
)
def test_every_outcome_arrives_in_order_whatever_fails_and_whenever_it_stops(
    kinds: Sequence[bool], answers: Sequence[int], stops: set[int]
) -> None:
    async def story() -> None:
        log, kept = Log(), Kept()
        for n, is_outcome in enumerate(kinds):
            log.add(outcome(n) if is_outcome else intent(n))
        async with receiving(*answers, 204) as receiver:
            events, taken = sink(log, receiver.url, kept), []
            for at in range(60):
                if at in stops:
                    events = sink(log, receiver.url, kept)  # everything in memory is gone
                before = len(receiver.bodies)
                try:
                    more = await events.step()
                    taken += [ident for batch in got(receiver)[before:] for ident in batch]
                except NotSent:
                    continue
                if not more and events.next == len(kinds):
                    break
            assert taken == [f"id-{n}" for n, is_outcome in enumerate(kinds) if is_outcome]
            if kinds:
                assert kept.place == behind(len(kinds) - 1, log.entries[-1])

    run(story())
