"""Whether an exchange goes on when its caller is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.core.exchange import Exchange
from gateway.wire.left import Left
from tests.stages.exchanges import exchange


def forwarded(drain_for: float = 60.0) -> Exchange:
    found = exchange()
    found.upstream = replace(found.upstream, on_client_gone="drain", drain_for=drain_for)
    found.intent_seq = 7
    return found


def test_what_was_forwarded_goes_on_as_client_gone() -> None:
    async def story() -> None:
        found = forwarded()
        with Left(found) as left:
            assert left.goes_on()
        assert (found.left, found.result) == (True, "client_gone")

    asyncio.run(story())


def test_what_has_no_intent_or_has_failed_already_does_not_go_on() -> None:
    async def story() -> None:
        unsent, failed = forwarded(), forwarded()
        unsent.intent_seq, failed.result = None, "timeout"
        for found in (unsent, failed):
            with Left(found) as left:
                assert not left.goes_on()
            assert not found.left

    asyncio.run(story())


def test_it_ends_after_its_time_and_nothing_is_left_of_that_where_it_ended_before() -> None:
    async def late() -> None:
        with Left(forwarded(0.01)) as left:
            assert left.goes_on()
            await asyncio.Event().wait()

    async def early() -> None:
        with Left(forwarded(0.01)) as left:
            assert left.goes_on()
        await asyncio.sleep(0.05)  # real time: the timer of a task that goes on must not reach it

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(late())
    asyncio.run(early())
